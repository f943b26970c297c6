"""How far the outline of a prediction lies from that of a label, in px or mm.

HD95, ASSD and NSD on boundary pixels, AHD on all pixels of the masks. A boundary pixel
is a foreground pixel with a background pixel, or the outside of the image, above,
below, left or right of it: the boundary MONAI uses. HD95 is the larger of the two
directed 95th percentiles (some libraries pool both directions first).

Empty masks: both empty is distance 0 and NSD 1; one empty is NaN and NSD 0. NaN frames
are counted by `models/image_metrics.py`, or cost the diagonal there when asked for.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from scipy.spatial import KDTree

from models.overlap import Mask, ratio
from models.region_metrics import check_masks

Distances = NDArray[np.float64]
"""One distance per pixel, (pixels,), >= 0."""
Spacing = float | tuple[float, float]
"""Size of a pixel in mm, > 0: one number, or (between rows, between columns)."""

# 3 pixels of 0.1 mm are 0.30000000000000004 mm, which is still within 0.3 mm.
_ROUNDING = 1 + 1e-9


class BoundaryDistances(NamedTuple):
    """From each boundary pixel of a mask to the nearest one of the other mask.

    Infinite when the other mask is empty; in px or mm, as they were measured.
    """

    from_predicted: Distances  # (boundary pixels of the prediction,)
    from_label: Distances  # (boundary pixels of the label,)

    def hd95(self) -> float:
        """Return the larger of both directed 95th percentiles.

        They are interpolated linearly between the two nearest distances.
        """
        if not self._both_drawn():
            return self._without_outline()
        return max(float(np.percentile(distances, 95)) for distances in self)

    def assd(self) -> float:
        """Return the mean of all distances of both directions."""
        if not self._both_drawn():
            return self._without_outline()
        return float(np.concatenate(self).mean())

    def nsd(self, tolerance: float) -> float:
        """Return the share of all boundary pixels within a distance of the other.

        Args:
            tolerance: "tau", in the units of the distances, >= 0.

        Returns:
            0 to 1; 1 when both masks are empty, 0 when one is.

        Raises:
            ValueError: If the tolerance is negative.
        """
        distances = np.concatenate(self)
        near = int(is_within(distances, tolerance).sum())
        return ratio(near, distances.size, distances.size == 0)

    def _both_drawn(self) -> bool:
        return bool(self.from_predicted.size and self.from_label.size)

    def _without_outline(self) -> float:
        """Return the distance when at least one mask is empty."""
        return math.nan if self.from_predicted.size or self.from_label.size else 0.0


def boundary_distances(
    predicted: Mask, label: Mask, *, spacing_mm: Spacing | None = None
) -> BoundaryDistances:
    """Measure the distances between the boundaries of two masks.

    Args:
        predicted: (height, width), bool.
        label: (height, width), bool.
        spacing_mm: Size of a pixel; None measures in px.

    Returns:
        Both directed sets of distances, in px or, with a spacing, in mm.

    Raises:
        ValueError: If the masks or the spacing are not what they should be.
    """
    check_masks(predicted, label)
    outline, label_outline = boundary(predicted), boundary(label)
    return BoundaryDistances(
        nearest_distances(outline, label_outline, spacing_mm=spacing_mm),
        nearest_distances(label_outline, outline, spacing_mm=spacing_mm),
    )


def average_hausdorff(
    predicted: Mask, label: Mask, *, spacing_mm: Spacing | None = None
) -> float:
    """Compute AHD: the mean of both directed mean distances between two masks.

    0.5 (mean d(P -> L) + mean d(L -> P)), over all pixels of the masks, not only
    their boundaries: overlapping pixels count as 0.

    Args:
        predicted: (height, width), bool.
        label: (height, width), bool.
        spacing_mm: Size of a pixel; None measures in px.

    Returns:
        The distance, px or mm; 0 when both masks are empty, NaN when one is.

    Raises:
        ValueError: If the masks or the spacing are not what they should be.
    """
    check_masks(predicted, label)
    if not (predicted.any() and label.any()):
        return math.nan if predicted.any() or label.any() else 0.0
    there = nearest_distances(predicted, label, spacing_mm=spacing_mm)
    back = nearest_distances(label, predicted, spacing_mm=spacing_mm)
    return float(there.mean() + back.mean()) / 2


def boundary(mask: Mask) -> Mask:
    """Return the pixels of a mask that have an outer 4-neighbour.

    Args:
        mask: (height, width), bool; the outside of the image is background.

    Returns:
        (height, width), bool.
    """
    inside: Mask = binary_erosion(mask)
    return mask & ~inside


def nearest_distances(
    pixels: Mask, others: Mask, *, spacing_mm: Spacing | None = None
) -> Distances:
    """Measure from each pixel of a mask to the nearest pixel of another one.

    Args:
        pixels: (height, width), bool.
        others: (height, width), bool.
        spacing_mm: Size of a pixel; None measures in px.

    Returns:
        (pixels,), in the order of `numpy.argwhere`, px or mm; infinite when there is
        no other pixel.

    Raises:
        ValueError: If the spacing is not positive and finite.
    """
    scale = pixel_size(spacing_mm)
    is_away = ~others[pixels]  # the other pixels are their own nearest
    distances: Distances = np.zeros(is_away.size)
    if not is_away.any():
        return distances
    ends = np.argwhere(boundary(others)) * scale  # seen from outside, one is nearest
    if not len(ends):
        return np.full(is_away.size, np.inf)
    # Devices cover a percent of a frame: a tree over their pixels is several times
    # faster than a distance transform of the whole frame, and as exact.
    distances[is_away] = KDTree(ends).query(np.argwhere(pixels & ~others) * scale)[0]
    return distances


def is_within(distances: Distances, tolerance: float) -> Mask:
    """Compare distances with a tolerance, forgiving the last digits of a float.

    Args:
        distances: (pixels,), >= 0.
        tolerance: In the units of the distances, >= 0.

    Returns:
        (pixels,), bool.

    Raises:
        ValueError: If the tolerance is negative or not a number.
    """
    if not tolerance >= 0:
        raise ValueError(f"A tolerance must be >= 0, got {tolerance}.")
    return np.asarray(distances <= tolerance * _ROUNDING)


def diagonal(shape: tuple[int, ...], *, spacing_mm: Spacing | None = None) -> float:
    """Return the diagonal of an image: what a miss may cost in a ranking.

    Args:
        shape: (height, width), px.
        spacing_mm: Size of a pixel; None measures in px.

    Returns:
        The length, px or mm.

    Raises:
        ValueError: If the spacing is not positive and finite.
    """
    return float(np.hypot(*(np.asarray(shape) * pixel_size(spacing_mm))))


def pixel_size(spacing_mm: Spacing | None) -> NDArray[np.float64]:
    """Return (between rows, between columns) in mm, or (1, 1) px without spacing.

    Args:
        spacing_mm: Size of a pixel, or None.

    Returns:
        (2,), > 0.

    Raises:
        ValueError: If a number is not positive and finite, or there are not 1 or 2.
    """
    values = np.atleast_1d(np.asarray(1.0 if spacing_mm is None else spacing_mm, float))
    if (
        values.shape not in ((1,), (2,))
        or not (np.isfinite(values) & (values > 0)).all()
    ):
        raise ValueError(
            "spacing_mm must be one size of a pixel in mm, > 0, or two (between rows, "
            f"between columns), got {spacing_mm}."
        )
    return np.broadcast_to(values, (2,))
