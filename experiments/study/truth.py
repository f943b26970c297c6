"""What the simulator knows of test frames and their hospital did not annotate.

Hospitals that annotate different devices can be compared by a truth that none of them
has; only a study may look at it, and only at its end.
"""

from dataclasses import replace

from clients.hospital import Hospital, read_split
from clients.sources import SimulatedSource
from models.classes import CLASS_NAMES
from strategies.settings import RunSettings


def with_truth(hospital: Hospital, settings: RunSettings) -> Hospital:
    """Show of a hospital's simulated test frames what it did not annotate.

    Args:
        hospital: Of a run.
        settings: Of the run.

    Returns:
        The same hospital with the same frames; of those to train and validate on
        nothing is told.
    """
    sources = tuple(
        replace(one, classes=CLASS_NAMES) if isinstance(one, SimulatedSource) else one
        for one in hospital.spec.sources
    )
    if sources == hospital.spec.sources:
        return hospital
    spec = replace(hospital.spec, sources=sources)
    split, _ = read_split(spec, settings.frames, settings.seed)
    return replace(hospital, split=replace(hospital.split, test=split.test))
