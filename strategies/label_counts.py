"""How often a network tells what whole frames show, as counts that hospitals may send.

The pretext of FedEFM's released code (arXiv 2501.16992) asks from which source a frame
comes. Counted is which label was guessed for which; counts add exactly over hospitals.
The names of the labels are a run's setting and therefore known to everybody.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

_PREFIX = "labels."
_BETWEEN = ">"  # no label may hold it


@dataclass(frozen=True)
class LabelCounts:
    """A confusion matrix; add with `+`. Without names nothing was classified.

    Raises:
        ValueError: If it is not a square of whole numbers >= 0, one row a name.
    """

    names: tuple[str, ...] = ()
    counts: tuple[tuple[int, ...], ...] = ()  # a row for each label, a column a guess

    def __post_init__(self) -> None:
        """Refuse what cannot be counted."""
        rows = [tuple(row) for row in self.counts]
        if (
            len(set(self.names)) != len(self.names)
            or [len(row) for row in rows] != [len(self.names)] * len(self.names)
            or not all(type(one) is int and one >= 0 for row in rows for one in row)
        ):
            raise ValueError(
                "Label counts must be a square of whole numbers >= 0, one row and one "
                "column for each of the different names."
            )

    def __add__(self, other: Self) -> Self:
        """Return the counts of the union of two disjoint sets of frames.

        Raises:
            ValueError: If they are of different labels.
        """
        if self.names != other.names:
            raise ValueError("Counts of different labels cannot be added.")
        rows = zip(self.counts, other.counts, strict=True)
        return type(self)(
            self.names,
            tuple(
                tuple(a + b for a, b in zip(mine, theirs, strict=True))
                for mine, theirs in rows
            ),
        )

    @classmethod
    def of(
        cls, names: Sequence[str], labels: Sequence[int], guesses: Sequence[int]
    ) -> Self:
        """Count the guesses for some frames.

        Args:
            names: Of all labels there are.
            labels: Number of each frame's label, from 0.
            guesses: Number of the label that was guessed for it.
        """
        rows = [[0] * len(names) for _ in names]
        for label, guess in zip(labels, guesses, strict=True):
            rows[label][guess] += 1
        return cls(tuple(names), tuple(tuple(row) for row in rows))

    @property
    def frames(self) -> int:
        """Return how many frames were classified."""
        return sum(sum(row) for row in self.counts)

    def scores(self) -> dict[str, float]:
        """Compute what a person reads.

        Returns:
            "accuracy", the share of frames with the right label; "balanced-accuracy",
            the mean of that share over the labels that some frame has; and that share
            for each of them, "accuracy.human". All in [0, 1]; empty without frames.
        """
        if not self.frames:
            return {}
        shares = {
            name: row[index] / sum(row)
            for index, (name, row) in enumerate(
                zip(self.names, self.counts, strict=True)
            )
            if sum(row)
        }
        right = sum(row[index] for index, row in enumerate(self.counts))
        return {
            "accuracy": right / self.frames,
            "balanced-accuracy": sum(shares.values()) / len(shares),
            **{f"accuracy.{name}": share for name, share in shares.items()},
        }

    def to_dict(self) -> dict[str, int]:
        """Return flat entries such as "labels.human>animal", taken for an animal's."""
        return {
            f"{_PREFIX}{label}{_BETWEEN}{guess}": number
            for label, row in zip(self.names, self.counts, strict=True)
            for guess, number in zip(self.names, row, strict=True)
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, int | float]) -> Self:
        """Read the entries of `to_dict` back; none are counts of nothing.

        Raises:
            ValueError: If the entries are not those of a matrix, or a value is not
                possible.
        """
        pairs = [key.removeprefix(_PREFIX).partition(_BETWEEN) for key in values]
        names = tuple(dict.fromkeys(label for label, _, _ in pairs))
        wanted = {f"{_PREFIX}{a}{_BETWEEN}{b}" for a in names for b in names}
        if wanted != values.keys():
            raise ValueError("Label counts: a pair of labels is missing or unknown.")
        # What is no whole number is refused by __post_init__.
        return cls(
            names,
            tuple(
                tuple(values[f"{_PREFIX}{a}{_BETWEEN}{b}"] for b in names)  # type: ignore[misc]
                for a in names
            ),
        )


def is_label_key(key: str) -> bool:
    """Tell whether an entry of a message belongs to these counts."""
    return key.startswith(_PREFIX)
