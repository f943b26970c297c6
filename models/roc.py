"""Pixel ROC AUC: exact on scores at hand, and from histograms that hospitals may add.

AUC is the chance that a labelled pixel has a higher score than an unlabelled one, ties
counting half (Mann & Whitney, 1947). The exact form needs all pixels in one place. The
histogram form counts them in fixed bins; counts add exactly, and it states how far the
bins can have moved its value. Pooled over frames, it is NaN only without one class.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

Scores = NDArray[np.floating]
Flags = NDArray[np.bool_]

NUM_BINS = 1024
# Bins are equally wide in the logit: a network gives most pixels a probability very
# near 0, where bins of equal probability could not tell them apart.
_LARGEST_LOGIT = 16.0  # p = 1 - 1.1e-7, about the last step of float32 below 1


def roc_auc(probabilities: Scores, labels: Flags) -> float:
    """Compute the area under the ROC curve from the ranks of all scores.

    Args:
        probabilities: Any shape; any increasing score will do, but no NaN.
        labels: The same shape, bool.

    Returns:
        0 to 1; NaN when labelled or unlabelled pixels are missing.

    Raises:
        ValueError: If the shapes differ, labels are not boolean or a score is NaN.
    """
    _check(probabilities, labels)
    flags = labels.ravel()
    positives = int(flags.sum())
    negatives = flags.size - positives
    if not (positives and negatives):
        return math.nan
    # A third of a second to import, and a hospital starts a program a message.
    from scipy.stats import rankdata

    ranks = rankdata(probabilities.ravel())  # 1 is the smallest; ties share a mean
    wins = float(ranks[flags].sum()) - positives * (positives + 1) / 2
    return wins / (positives * negatives)


@dataclass(frozen=True)
class ScoreHistogram:
    """Pixels by predicted probability; `NUM_BINS` whole numbers each. Add with `+`."""

    positives: tuple[int, ...] = (0,) * NUM_BINS  # labelled pixels
    negatives: tuple[int, ...] = (0,) * NUM_BINS  # unlabelled pixels

    def __post_init__(self) -> None:
        """Refuse numbers that no set of pixels can have."""
        for counts in (self.positives, self.negatives):
            is_valid = all(type(count) is int and count >= 0 for count in counts)
            if len(counts) != NUM_BINS or not is_valid:
                raise ValueError(
                    f"A histogram must have {NUM_BINS} whole numbers >= 0 for labelled "
                    f"and for unlabelled pixels, got {len(counts)} values."
                )

    def __add__(self, other: Self) -> Self:
        """Return the histogram of the union of two disjoint sets of pixels."""
        return type(self)(
            _add(self.positives, other.positives), _add(self.negatives, other.negatives)
        )

    @classmethod
    def of(cls, probabilities: Scores, labels: Flags) -> Self:
        """Count pixels.

        Args:
            probabilities: Any shape, 0 to 1.
            labels: The same shape, bool.

        Returns:
            The histogram.

        Raises:
            ValueError: If the shapes differ, labels are not boolean or a probability
                is not from 0 to 1.
        """
        _check(probabilities, labels)
        if not ((probabilities >= 0) & (probabilities <= 1)).all():
            raise ValueError(
                "Probabilities from 0 to 1 were wanted, got others. Apply a sigmoid "
                "to logits first."
            )
        position = (logit(probabilities.astype(np.float64)) / _LARGEST_LOGIT + 1) / 2
        bins = np.clip(np.floor(position * NUM_BINS), 0, NUM_BINS - 1).astype(int)
        return cls(_count(bins[labels]), _count(bins[~labels]))

    def auc(self) -> float:
        """Compute the ROC AUC with all pixels of a bin taken as ties.

        Returns:
            0 to 1, within `uncertainty()` of the exact value; NaN when labelled or
            unlabelled pixels are missing.
        """
        pairs = sum(self.positives) * sum(self.negatives)
        if not pairs:
            return math.nan
        doubled_wins, below = 0, 0  # Python's whole numbers: pairs can pass 64 bits
        for positives, negatives in zip(self.positives, self.negatives, strict=True):
            doubled_wins += positives * (2 * below + negatives)
            below += negatives
        return doubled_wins / (2 * pairs)

    def uncertainty(self) -> float:
        """Return how far from the exact AUC the value can be.

        Returns:
            Half the share of pairs in one bin, 0 to 0.5; NaN like `auc`.
        """
        pairs = sum(self.positives) * sum(self.negatives)
        tied = sum(map(int.__mul__, self.positives, self.negatives))
        return tied / (2 * pairs) if pairs else math.nan

    def to_dict(self) -> dict[str, list[int]]:
        """Return the entries of a message."""
        return {
            "roc-positives": list(self.positives),
            "roc-negatives": list(self.negatives),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Sequence[int]]) -> Self:
        """Read the entries of `to_dict` back.

        Args:
            values: Exactly the keys of `to_dict`.

        Returns:
            The histogram.

        Raises:
            ValueError: If a key is missing or unknown, or a value is not possible.
        """
        keys = ("roc-positives", "roc-negatives")
        if values.keys() != set(keys):
            raise ValueError(f"A histogram has the keys {keys}, got {sorted(values)}.")
        return cls(*(tuple(values[key]) for key in keys))


def _count(bins: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(np.bincount(bins, minlength=NUM_BINS).tolist())


def _add(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(int.__add__, first, second))


def _check(probabilities: Scores, labels: Flags) -> None:
    if probabilities.shape != labels.shape or labels.dtype != np.bool_:
        raise ValueError(
            "Scores and boolean labels of one shape were wanted, got "
            f"{probabilities.shape} and {labels.dtype} {labels.shape}."
        )
    if np.isnan(probabilities).any():
        raise ValueError("A score is not a number: check the network's output.")
