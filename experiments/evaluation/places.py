"""The sites of an evaluation: one folder, one simulated domain, or a sites file's."""

from collections.abc import Callable, Sequence
from pathlib import Path

from clients.annotations.annotation import LabelMap
from clients.data.errors import DataError
from clients.data.simulator import is_domain
from clients.sites import SiteSpec
from clients.sources import FolderSource, SimulatedSource
from strategies.randomness import derive_seed

FOLDER_SITE = "data"  # what tables call the site of a folder


def folder_site(
    folder: Path, layout: str, labels: LabelMap, skip_damaged: bool, polarity: str
) -> SiteSpec:
    """Make a site of a folder.

    Args:
        folder: With labelled frames.
        layout: One of LAYOUTS.
        labels: What its labels mean.
        skip_damaged: Leave damaged frames out.
        polarity: What its devices are, one of POLARITIES.

    Returns:
        The site; one patient is enough, parts say themselves when they need three.
    """
    source = FolderSource(
        folder=folder,
        layout=layout,
        classes=labels.classes,
        labels=tuple(labels.aliases.items()),
        ignored_labels=tuple(sorted(labels.ignored)),
        line_width=labels.line_width,
        line_unit=labels.line_unit,
        skip_damaged=skip_damaged,
        device_polarity=polarity,
    )
    return SiteSpec(FOLDER_SITE, (source,), min_patients=1)


def simulated_site(domain: str, patients: int, frames_per_patient: int) -> SiteSpec:
    """Make a site of a simulated domain; patients and frames are numbers >= 1.

    Raises:
        DataError: If there is no such domain.
    """
    if not is_domain(domain):
        raise DataError(
            "--domain must be a simulated domain or random-N; `endofed data sheet` "
            "shows them."
        )
    source = SimulatedSource(domain, patients, frames_per_patient)
    return SiteSpec(domain, (source,), min_patients=1)


def folders_of(specs: Sequence[SiteSpec]) -> list[Path]:
    """List the folders that the sites read."""
    return [
        source.folder
        for spec in specs
        for source in spec.sources
        if isinstance(source, FolderSource)
    ]


def seeds(seed: int, *, of_a_run: bool) -> Callable[[str], int]:
    """Return the seeds of sites: those of a federation's run, or the plain one."""
    if not of_a_run:
        return lambda site: seed
    return lambda site: derive_seed(seed, round_number=0, phase="data", site=site)
