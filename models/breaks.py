"""Gaps of a predicted wire: breaks inside it, and truncation at its ends.

Our definition. A pixel of the label's pruned skeleton is covered when the prediction
has a pixel within the tolerance. Uncovered pixels form runs along the wire. A run that
reaches no end of the skeleton and meets covered pixels on two sides is a break; any
other run is truncation, a wire missed as a whole included. A closed ring with one gap
has one break. In px; one class of one frame.
"""

from typing import NamedTuple

import numpy as np

from models.distances import is_within, nearest_distances
from models.overlap import Mask
from models.region_metrics import check_masks
from models.skeletons import SkeletonGraph, build_graph, pruned_skeleton


class BreakCounts(NamedTuple):
    """What a prediction leaves out of a label's centre lines."""

    breaks: int  # gaps with the wire found on both sides
    broken_px: int  # skeleton pixels in those gaps
    truncated_px: int  # uncovered skeleton pixels that are in no break
    skeleton_px: int  # all skeleton pixels of the label

    @property
    def truncation(self) -> float:
        """Truncated share of the skeleton, 0 to 1; 0 for an empty label."""
        return self.truncated_px / self.skeleton_px if self.skeleton_px else 0.0


def count_breaks(
    predicted: Mask, label: Mask, *, tolerance_px: float = 2.0
) -> BreakCounts:
    """Count the gaps of a predicted wire.

    Args:
        predicted: (height, width), bool.
        label: (height, width), bool.
        tolerance_px: Largest distance from the prediction that counts as covered,
            >= 0. Gaps up to about twice as wide are closed by it.

    Returns:
        The counts: no breaks and full truncation for an empty prediction, all zero
        for an empty label.

    Raises:
        ValueError: If the masks are not boolean or not of one (height, width), or the
            tolerance is negative.
    """
    check_masks(predicted, label)
    lines = pruned_skeleton(label)
    covered = is_within(nearest_distances(lines, predicted), tolerance_px)
    if covered.all():
        return BreakCounts(0, 0, 0, covered.size)
    graph = build_graph(lines)
    uncovered = np.flatnonzero(~covered)
    inner = graph.steps[uncovered][:, uncovered]
    runs = SkeletonGraph(graph.pixels[uncovered], inner).pieces()
    sizes = np.bincount(runs)
    contacts = np.bincount(runs, graph.degrees[uncovered] - np.diff(inner.indptr))
    reaches_end = np.bincount(runs, graph.degrees[uncovered] <= 1) > 0
    is_break = ~reaches_end & (contacts >= 2)
    return BreakCounts(
        breaks=int(is_break.sum()),
        broken_px=int(sizes[is_break].sum()),
        truncated_px=int(sizes[~is_break].sum()),
        skeleton_px=covered.size,
    )
