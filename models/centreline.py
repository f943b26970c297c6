"""How near predicted lines are to drawn ones, whatever their widths.

Precision and recall at a tolerance, after the protocol of MSLNet (Sensors 2025,
25:6426): a wire drawn too wide, or shifted by a pixel, is still the same wire. On the
centre lines or on whole masks. Works on one class of one frame, in pixels.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from models.distances import Distances, is_within, nearest_distances
from models.overlap import Mask, harmonic_mean, ratio, skeleton
from models.region_metrics import check_masks


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
        ValueError: If the masks are not boolean or not of one shape, or the tolerance
            is negative.
    """
    return tolerance_scores(predicted, label, [tolerance_px], on="skeleton")[0]


def tolerance_scores(
    predicted: Mask,
    label: Mask,
    tolerances_px: Sequence[float],
    *,
    on: Literal["mask", "skeleton"] = "mask",
) -> list[ToleranceScores]:
    """Compare a prediction and a label at several tolerances at once.

    Args:
        predicted: (height, width), bool.
        label: (height, width), bool.
        tolerances_px: Largest distances that count as found, px, each >= 0.
        on: "mask" compares all pixels, "skeleton" the centre lines.

    Returns:
        The scores for each tolerance; all 1 when both masks are empty, all 0 when one
        is.

    Raises:
        ValueError: If the masks are not boolean or not of one shape, a tolerance is
            negative, or `on` is neither word.
    """
    check_masks(predicted, label)
    if on not in ("mask", "skeleton"):
        raise ValueError(f"`on` must be 'mask' or 'skeleton', got {on!r}.")
    if on == "skeleton":
        predicted, label = skeleton(predicted), skeleton(label)
    there = nearest_distances(predicted, label)
    back = nearest_distances(label, predicted)
    empty = not (there.size or back.size)
    return [
        _score(_share_within(there, at, empty), _share_within(back, at, empty))
        for at in tolerances_px
    ]


def _score(precision: float, recall: float) -> ToleranceScores:
    return ToleranceScores(precision, recall, harmonic_mean(precision, recall))


def _share_within(distances: Distances, tolerance_px: float, empty: bool) -> float:
    near = int(is_within(distances, tolerance_px).sum())
    return ratio(near, distances.size, empty)
