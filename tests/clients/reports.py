"""Reports of folders that do not exist, for tests of what is made of reports."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clients.annotations.annotation import LabelMap
from clients.data.catalogue import FolderSpec, Problem
from clients.data.findings import CheckReport, SequenceFindings
from clients.images.source import SourceFacts

SECRET = "SECRET-FOLDER"
SPEC = FolderSpec(
    Path(SECRET),
    labels=LabelMap(classes=("catheter",), aliases={"secret-label": "catheter"}),
)
FACTS = SourceFacts(
    num_frames=4,
    height=50,
    width=100,
    bits=12,
    modality="XA",
    spacing_mm=0.2,
    spacing_origin="imager pixel spacing / magnification",
    frame_time_ms=66.7,
)


def make_sequence(number: int, **changes: Any) -> SequenceFindings:  # noqa: ANN401
    """Four labelled frames of 100 x 50 px; half of them show a catheter of 100 px.

    Args:
        number: In the pseudonyms of sequence and patient.
        **changes: Other values of the findings.
    """
    sequence = SequenceFindings(
        id=f"S-AAAAAAAA{number:02d}",
        patient=f"P-AAAAAAAA{number:02d}",
        facts=FACTS,
        frames=4,
        damaged=0,
        labelled=4,
        sizes={(50, 100): 4},
        drawn={"catheter": 2},
        area={"catheter": 200},
        labelled_pixels=20_000,
        score=-1.0,
    )
    return replace(sequence, **changes)


def make_report(
    sequences: Sequence[SequenceFindings],
    *problems: Problem,
    **declared: Any,  # noqa: ANN401
) -> CheckReport:
    """Put a report together.

    Args:
        sequences: What was found.
        *problems: In order.
        **declared: Other values of the specification.
    """
    spec = replace(SPEC, **declared)
    return CheckReport(spec, tuple(sequences), problems, digest="d" * 64)
