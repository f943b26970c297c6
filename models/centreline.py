"""How near predicted lines are to drawn ones, whatever their widths.

Precision and recall at a tolerance, after the protocol of MSLNet (Sensors 2025,
25:6426): a wire drawn too wide, or shifted by a pixel, is still the same wire. Works
on one class of one frame, in pixels.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from models.overlap import Mask, harmonic_mean, ratio, skeleton


class ToleranceScores(NamedTuple):
    """Agreement of two sets of pixels within a distance; each from 0 to 1."""

    precision: float  # share of predicted pixels near the label
    recall: float  # share of label pixels near the prediction
    f1: float  # their harmonic mean


def centreline_scores(
    predicted: Mask, label: Mask, *, tolerance_px: float
) -> ToleranceScores:
    """Compare the centre lines of a prediction and a label.

    Args:
        predicted: (height, width), bool.
        label: (height, width), bool; may be drawn much wider than the device.
        tolerance_px: Largest distance that counts as found, px, >= 0.

    Returns:
        The scores; all 1 when both masks are empty, all 0 when one is.

    Raises:
        ValueError: If the shapes differ or the tolerance is negative.
    """
    if predicted.shape != label.shape or predicted.ndim != 2:
        raise ValueError(
            "Two masks of one (height, width) were wanted, got "
            f"{predicted.shape} and {label.shape}."
        )
    if not tolerance_px >= 0:
        raise ValueError(f"tolerance_px must be >= 0, got {tolerance_px}.")
    lines, label_lines = skeleton(predicted), skeleton(label)
    empty = not (lines.any() or label_lines.any())
    precision = ratio(_count_near(lines, label_lines, tolerance_px), *_of(lines, empty))
    recall = ratio(
        _count_near(label_lines, lines, tolerance_px), *_of(label_lines, empty)
    )
    return ToleranceScores(precision, recall, harmonic_mean(precision, recall))


def _of(lines: Mask, empty: bool) -> tuple[int, bool]:
    return int(lines.sum()), empty


def _count_near(lines: Mask, others: Mask, tolerance_px: float) -> int:
    """Count pixels of `lines` within the tolerance of a pixel of `others`."""
    if not others.any():
        return 0
    distance: NDArray[np.float64] = distance_transform_edt(~others)
    return int((lines & (distance <= tolerance_px)).sum())
