"""What a check of a folder found; plain numbers that are safe to show anyone."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from clients.data.catalogue import FolderSpec, Problem, Severity
from clients.data.polarity import judge_polarity
from clients.images.source import SourceFacts


@dataclass(frozen=True)
class SequenceFindings:
    """One sequence, every frame of it decoded.

    Attributes:
        id: Pseudonym.
        patient: Pseudonym.
        facts: What its files say of themselves.
        frames: All frames.
        damaged: Frames that cannot be read, or whose annotation does not fit.
        labelled: Frames with an annotation that fits, be it empty.
        sizes: (height, width), px, of all frames that can be read -> how many.
        drawn: Class -> labelled frames in which something of it is drawn.
        area: Class -> pixels of it in all labelled frames.
        labelled_pixels: All pixels of the labelled frames.
        score: Of the devices, -1 (dark) to 1 (bright), mean over some frames; None
            where it cannot be measured.
    """

    id: str
    patient: str
    facts: SourceFacts
    frames: int
    damaged: int
    labelled: int
    sizes: Mapping[tuple[int, int], int]
    drawn: Mapping[str, int]
    area: Mapping[str, int]
    labelled_pixels: int
    score: float | None

    @property
    def polarity(self) -> str:
        """Return "dark", "bright", "unclear", or "" where nothing was measured."""
        return judge_polarity([self.score])

    @property
    def foreground(self) -> dict[str, float]:
        """Return class -> share of all labelled pixels, 0 to 1; {} if none is."""
        if self.labelled_pixels == 0:
            return {}
        return {name: area / self.labelled_pixels for name, area in self.area.items()}


@dataclass(frozen=True)
class CheckReport:
    """A folder, all its sequences and all its problems.

    Attributes:
        spec: What was checked.
        sequences: Sorted by id.
        problems: Those of the catalogue and those of the check: errors first, then
            the ones of the whole folder, then by sequence and frame.
        digest: SHA-256 over the content of all good frames and their masks, whatever
            their order and names.
    """

    spec: FolderSpec
    sequences: tuple[SequenceFindings, ...]
    problems: tuple[Problem, ...]
    digest: str

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Return the problems that stop the work."""
        return tuple(p for p in self.problems if p.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Return the problems that a person should look at."""
        return tuple(p for p in self.problems if p.severity is Severity.WARNING)

    @property
    def num_patients(self) -> int:
        """Return how many patients have a sequence."""
        return len({sequence.patient for sequence in self.sequences})

    def count(self, name: str) -> int:
        """Add up "frames", "damaged" or "labelled" over all sequences."""
        return sum(getattr(sequence, name) for sequence in self.sequences)

    @property
    def sizes(self) -> dict[tuple[int, int], int]:
        """Return (height, width), px -> frames, the most frequent first."""
        found: Counter[tuple[int, int]] = Counter()
        for sequence in self.sequences:
            found.update(sequence.sizes)
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    @property
    def drawn(self) -> dict[str, int]:
        """Return class -> frames with something drawn, for every declared class."""
        return {
            name: sum(sequence.drawn[name] for sequence in self.sequences)
            for name in self.spec.labels.classes
        }

    @property
    def foreground(self) -> dict[str, float]:
        """Return class -> share of all labelled pixels, 0 to 1; {} if none is."""
        total = sum(sequence.labelled_pixels for sequence in self.sequences)
        if total == 0:
            return {}
        return {
            name: sum(sequence.area[name] for sequence in self.sequences) / total
            for name in self.spec.labels.classes
        }

    @property
    def score(self) -> float | None:
        """Return the mean score of the sequences, None where there is none."""
        found = [one.score for one in self.sequences if one.score is not None]
        return sum(found) / len(found) if found else None

    @property
    def polarity(self) -> str:
        """Return "dark", "bright", "unclear", or "" where nothing was measured."""
        return judge_polarity(one.score for one in self.sequences)

    def known(self, name: str) -> list[float]:
        """Return the different values of a fact that sequences have, ascending.

        Args:
            name: A field of `SourceFacts` with numbers or texts.

        Returns:
            Without None and "".
        """
        values = {getattr(sequence.facts, name) for sequence in self.sequences}
        return sorted(values - {None, ""})
