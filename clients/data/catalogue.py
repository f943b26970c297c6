"""What a folder holds, under pseudonyms: sequences, frames, and what is wrong.

The plain result of looking at an archive. `clients.data.scan` fills it in,
`clients.data.check` and `clients.data.card` report it, `clients.data.folders` reads
its frames.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from clients.annotations.annotation import Annotation, LabelMap
from clients.images.source import SourceFacts


class Severity(StrEnum):
    """Whether a problem stops the work."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong; safe to show anyone."""

    severity: Severity
    what: str  # what was wanted, what came, what to do
    sequence: str = ""  # pseudonym; "" = the whole folder
    frame: int | None = None  # counted from 1 within the sequence


@dataclass(frozen=True)
class FolderSpec:
    """A folder and what its site declares of it."""

    folder: Path = field(repr=False)
    layout: str = "auto"  # auto | pairs (stills, arrays, videos) | dicom
    labels: LabelMap = field(default_factory=LabelMap)
    min_patients: int = 3
    skip_damaged: bool = False  # leave damaged frames out instead of refusing all
    device_polarity: str = "unknown"  # dark | bright | unknown
    unlabelled: bool = False  # all frames, none of whose annotations is ever opened

    def uses(self, frame: "FrameEntry") -> bool:
        """Tell whether anybody trains or tests on a frame."""
        return self.unlabelled or frame.annotation is not None


@dataclass(frozen=True)
class FrameEntry:
    """Where one frame and its annotation are."""

    path: Path = field(repr=False)  # of the file
    index: int  # within the file, from 0
    number: int  # within the sequence, from 1; damaged frames count
    annotation: Annotation | None = field(default=None, repr=False)


@dataclass(frozen=True)
class SequenceEntry:
    """One sequence under its pseudonym."""

    id: str  # "S-…"
    patient: str  # "P-…"
    patient_token: int = field(repr=False)  # 63 bit, stable, not keyed: never shown
    facts: SourceFacts  # num_frames over all its files
    frames: tuple[FrameEntry, ...] = field(repr=False)


@dataclass(frozen=True)
class Catalogue:
    """All sequences of a folder, sorted by id, and all problems found so far."""

    spec: FolderSpec
    sequences: tuple[SequenceEntry, ...]
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Return the problems that stop the work."""
        return tuple(p for p in self.problems if p.severity is Severity.ERROR)
