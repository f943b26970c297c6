"""Overlap of masks from four pixel counts: the ratios, one by one, and their averages.

Dice, IoU, precision, recall ("Sens"), accuracy ("Acc") and Macro-F1, as FGA-Net
(QIMS 2025) reports them. The averaging is always named: pooled adds the counts of all
frames and divides once (FGA-Net's Dice and "OIoU"), per image divides in every frame
and takes the mean (its "MIoU"). The two differ by a point or two on wires.

Where a ratio divides by zero: both masks empty is 1, one of them empty is 0, and no
pixels at all is NaN. Distances, skeletons and probabilities are not known here.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np

from models.overlap import Mask, ratio


@dataclass(frozen=True)
class PixelCounts:
    """Pixels of one class in one frame or, added with `+`, in many.

    The scores are from 0 to 1, and NaN when no pixel was counted.
    """

    tp: int = 0  # predicted and labelled
    fp: int = 0  # predicted, not labelled
    fn: int = 0  # labelled, not predicted
    tn: int = 0  # neither

    def __post_init__(self) -> None:
        """Refuse what cannot be a number of pixels."""
        values = (self.tp, self.fp, self.fn, self.tn)
        if not all(type(value) is int and value >= 0 for value in values):
            raise ValueError(f"Pixel counts must be whole numbers >= 0, got {values}.")

    def __add__(self, other: Self) -> Self:
        """Return the counts of the union of two disjoint sets of frames."""
        return type(self)(
            self.tp + other.tp,
            self.fp + other.fp,
            self.fn + other.fn,
            self.tn + other.tn,
        )

    def dice(self) -> float:
        """Return 2 TP / (2 TP + FP + FN), the F1 score of the foreground."""
        return self._share(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    def iou(self) -> float:
        """Return TP / (TP + FP + FN), the Jaccard index of the foreground."""
        return self._share(self.tp, self.tp + self.fp + self.fn)

    def precision(self) -> float:
        """Return TP / (TP + FP)."""
        return self._share(self.tp, self.tp + self.fp)

    def recall(self) -> float:
        """Return TP / (TP + FN), the sensitivity."""
        return self._share(self.tp, self.tp + self.fn)

    def accuracy(self) -> float:
        """Return (TP + TN) / all: 0.99 for an empty prediction of a thin wire.

        Uninformative here; it exists to match published tables.
        """
        num_pixels = self.num_pixels
        return (self.tp + self.tn) / num_pixels if num_pixels else math.nan

    def macro_f1(self) -> float:
        """Return the mean of the F1 scores of foreground and background."""
        background = PixelCounts(tp=self.tn, fp=self.fn, fn=self.fp, tn=self.tp)
        return (self.dice() + background.dice()) / 2

    @property
    def num_pixels(self) -> int:
        """All counted pixels."""
        return self.tp + self.fp + self.fn + self.tn

    def _share(self, part: int, whole: int) -> float:
        if not self.num_pixels:
            return math.nan
        return ratio(part, whole, self.tp + self.fp + self.fn == 0)


def count_pixels(predicted: Mask, label: Mask) -> PixelCounts:
    """Count how the pixels of a prediction meet those of a label.

    Args:
        predicted: (height, width), bool.
        label: (height, width), bool.

    Returns:
        The four counts; they add up to height x width.

    Raises:
        ValueError: If the masks are not boolean or not of one (height, width).
    """
    check_masks(predicted, label)
    tp = int((predicted & label).sum())
    fp = int(predicted.sum()) - tp
    fn = int(label.sum()) - tp
    return PixelCounts(tp=tp, fp=fp, fn=fn, tn=label.size - tp - fp - fn)


def pool(frames: Iterable[PixelCounts]) -> PixelCounts:
    """Add the counts of frames: `pool(frames).iou()` is FGA-Net's OIoU.

    Args:
        frames: One entry per frame, in any order.

    Returns:
        The sum; all zero, and so NaN in every score, for no frames.
    """
    return sum(frames, start=PixelCounts())


def mean_over_frames(
    frames: Iterable[PixelCounts], score: Callable[[PixelCounts], float]
) -> float:
    """Average a score over frames: with `PixelCounts.iou` it is FGA-Net's MIoU.

    Args:
        frames: One entry per frame, each of at least one pixel.
        score: Such as `PixelCounts.iou`.

    Returns:
        The mean, from 0 to 1; NaN for no frames.
    """
    scores = [score(counts) for counts in frames]
    return math.fsum(scores) / len(scores) if scores else math.nan


def check_masks(predicted: Mask, label: Mask) -> None:
    """Refuse anything but two boolean masks of one (height, width).

    Args:
        predicted: (height, width), bool.
        label: (height, width), bool.

    Raises:
        ValueError: If a mask is not boolean, or the shapes differ or are not 2-D.
    """
    if predicted.shape != label.shape or predicted.ndim != 2:
        raise ValueError(
            "Two masks of one (height, width) were wanted, got "
            f"{predicted.shape} and {label.shape}."
        )
    if predicted.dtype != np.bool_ or label.dtype != np.bool_:
        raise ValueError(
            f"Boolean masks were wanted, got {predicted.dtype} and {label.dtype}. "
            "Compare probabilities with a threshold first."
        )
