"""Where a device ends: the distal tip of a label, and a prediction's distance from it.

End points are those of the pruned skeleton (`models/skeletons.py`). The label's tip is
the annotated one or, without, the end farthest along the wire from where it enters the
image; the predicted tip is the end of the prediction nearest to it. That is kind to a
prediction in many pieces: report the Betti-0 error beside it. A skeleton ends about
half a wire's width before the mask does, in prediction and label alike.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.distances import Spacing, pixel_size
from models.overlap import Mask
from models.region_metrics import check_masks
from models.skeletons import (
    Indices,
    SkeletonGraph,
    build_graph,
    local_radii,
    pruned_skeleton,
)

Outcome = Literal["found", "missed", "false-alarm", "not-counted"]
PCK_THRESHOLDS_PX = (3, 5, 9)


class OrderedLine(NamedTuple):
    """Pixels of a wire from where it enters the image."""

    pixels: Indices  # (pixels, 2): row, column
    arc_length_px: NDArray[np.float64]  # (pixels,), never falling, first is 0
    is_end: Mask  # (pixels,)


class TipResult(NamedTuple):
    """One frame's tip: NaN errors unless it was found, and in mm without spacing."""

    outcome: Outcome
    error_px: float = math.nan
    error_mm: float = math.nan

    def within(self, threshold_px: float) -> float:
        """Return the frame's part in PCK: 1 near enough, 0 not or missed.

        Args:
            threshold_px: Largest error that counts, px.

        Returns:
            0 or 1; NaN when the label has no tip, and the frame is not counted.
        """
        if self.outcome not in ("found", "missed"):
            return math.nan
        return float(self.outcome == "found" and self.error_px <= threshold_px)

    def missed(self) -> float:
        """Return the frame's part in the miss rate: 1, 0, or NaN when not counted."""
        if self.outcome not in ("found", "missed"):
            return math.nan
        return float(self.outcome == "missed")


def end_points(mask: Mask) -> Indices:
    """Find the ends of all wires of a mask.

    Args:
        mask: (height, width), bool.

    Returns:
        (ends, 2): row, column. None for a ring, an empty mask or a blob that thins to
        one pixel.
    """
    graph = build_graph(pruned_skeleton(mask))
    return graph.pixels[graph.ends]


def order_wire(mask: Mask) -> OrderedLine:
    """Order the largest piece of a mask's skeleton along the wire.

    It starts at its end nearest to the edge of the image, where the wire enters, or
    for a ring at the pixel nearest to the edge.

    Args:
        mask: (height, width), bool.

    Returns:
        Pixels by geodesic distance from the start; none for an empty mask.
    """
    graph = build_graph(pruned_skeleton(mask))
    if not len(graph.pixels):
        return OrderedLine(graph.pixels, np.zeros(0), np.zeros(0, bool))
    lengths = graph.arc_lengths(_entry(graph, mask.shape))
    order = np.argsort(lengths, kind="stable")[: np.isfinite(lengths).sum()]
    return OrderedLine(graph.pixels[order], lengths[order], np.isin(order, graph.ends))


def distal_tip(label: Mask) -> tuple[int, int] | None:
    """Find the tip of a labelled device.

    Args:
        label: (height, width), bool.

    Returns:
        Row and column of the end farthest along the wire from where it enters. None
        when the largest piece has fewer than two ends, or the far end lies no farther
        from the edge of the image than the wire's radius: the wire leaves the image.
    """
    line = order_wire(label)
    if line.is_end.sum() < 2:
        return None
    far_end = line.pixels[line.is_end][-1:]
    if _to_edge(far_end, label.shape)[0] <= local_radii(label, far_end)[0]:
        return None
    return int(far_end[0, 0]), int(far_end[0, 1])


def compare_tips(
    predicted: Mask,
    label: Mask,
    *,
    tip: tuple[float, float] | None = None,
    spacing_mm: Spacing | None = None,
) -> TipResult:
    """Measure how far the predicted tip is from the label's.

    Args:
        predicted: (height, width), bool.
        label: (height, width), bool.
        tip: The annotated tip, row and column in px; None reads it off the label.
        spacing_mm: Size of a pixel; None gives no error in mm.

    Returns:
        "missed" when the label has a tip and the prediction no end point;
        "false-alarm" when only the prediction shows a device; "not-counted" when
        neither does or the label's tip is not in the image.

    Raises:
        ValueError: If the masks or the spacing are not what they should be.
    """
    check_masks(predicted, label)
    scale = pixel_size(spacing_mm)
    wanted = distal_tip(label) if tip is None else tip
    if wanted is None:
        is_alarm = predicted.any() and not label.any()
        return TipResult("false-alarm" if is_alarm else "not-counted")
    offsets = end_points(predicted) - np.asarray(wanted, dtype=float)
    if not len(offsets):
        return TipResult("missed")
    nearest = offsets[np.square(offsets).sum(axis=1).argmin()]
    error_mm = math.nan if spacing_mm is None else float(np.hypot(*(nearest * scale)))
    return TipResult("found", float(np.hypot(*nearest)), error_mm)


def _entry(graph: SkeletonGraph, shape: tuple[int, ...]) -> int:
    """Return the pixel of the largest piece where its wire enters the image."""
    pieces = graph.pieces()
    largest = np.flatnonzero(pieces == np.bincount(pieces).argmax())
    ends = np.intersect1d(largest, graph.ends)
    candidates = ends if len(ends) else largest
    return int(candidates[_to_edge(graph.pixels[candidates], shape).argmin()])


def _to_edge(pixels: Indices, shape: tuple[int, ...]) -> Indices:
    """Return the distance of pixels from the outermost row or column, px."""
    distances: Indices = np.minimum(pixels, np.asarray(shape) - 1 - pixels).min(axis=1)
    return distances
