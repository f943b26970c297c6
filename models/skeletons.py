"""The skeleton of a mask as a graph: end points, spurs, and lengths along the wire.

Pixels are joined to their neighbours left, right, above and below, and diagonally only
where no such neighbour joins both already ("m-adjacency"): a corner of a staircase is
then no branching, and the last pixel of a hooked end still is an end. Thinning leaves
short spurs on wide wires, whose tips are no ends of a device: those that stick out of
the wire by less than its radius are pruned (our convention). Lengths are px; one class
of one frame.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import KDTree

from models.overlap import Mask, skeleton

Indices = NDArray[np.int64]

# A spur starts at the middle of the wire, so its first radius is inside the wire. On
# 100 rough wires, one radius left 4.3 ends per wire and two radii 2.1 (2 are right).
_SPUR_RADII = 2.0

_FORWARD_STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))  # the other four are their mirror


@dataclass(frozen=True)
class SkeletonGraph:
    """Pixels of a skeleton and the steps between them."""

    pixels: Indices  # (pixels, 2): row, column, in the order of numpy.argwhere
    steps: csr_array  # (pixels, pixels), symmetric: 1 or sqrt(2) px between neighbours

    @property
    def degrees(self) -> Indices:
        """Neighbours of each pixel, (pixels,)."""
        rows = self.steps.nonzero()[0]
        return np.bincount(rows, minlength=len(self.pixels)).astype(np.int64)

    @property
    def ends(self) -> Indices:
        """Indices of the pixels with one neighbour; a lone pixel is no end."""
        return np.flatnonzero(self.degrees == 1)

    def arc_lengths(self, start: int) -> NDArray[np.float64]:
        """Measure along the skeleton from one of its pixels.

        Args:
            start: Index of the pixel.

        Returns:
            (pixels,), px; infinite for pixels of other pieces.
        """
        lengths: NDArray[np.float64] = dijkstra(self.steps, indices=start)
        return lengths

    def pieces(self) -> Indices:
        """Return the number of the connected piece of each pixel, (pixels,)."""
        return _pieces(self.steps)


def build_graph(lines: Mask) -> SkeletonGraph:
    """Join the pixels of a skeleton.

    Args:
        lines: (height, width), bool, thinned.

    Returns:
        The graph; without pixels when the mask is empty.
    """
    pixels = np.argwhere(lines)
    rows, columns = pixels.T + 1
    index = np.full(np.add(lines.shape, 2), -1)  # a margin saves looking for the edge
    index[rows, columns] = np.arange(len(pixels))
    starts, stops, lengths = [], [], []
    for down, right in _FORWARD_STEPS:
        neighbour = index[rows + down, columns + right]
        joined = neighbour >= 0
        if down and right:
            joined &= index[rows + down, columns] < 0
            joined &= index[rows, columns + right] < 0
        starts.append(np.flatnonzero(joined))
        stops.append(neighbour[joined])
        lengths.append(np.full(joined.sum(), np.hypot(down, right)))
    where = np.concatenate(starts), np.concatenate(stops)
    half = coo_array((np.concatenate(lengths), where), shape=(len(pixels),) * 2)
    return SkeletonGraph(pixels, csr_array(half + half.T))


def pruned_skeleton(mask: Mask) -> Mask:
    """Thin a mask and remove spurs that leave the wire by less than its radius.

    A spur leads from an end to a branching, where the radius is measured; its length
    counts from there, so it is pruned below two radii. Of several at one branching the
    shortest goes first: a forked end loses a prong and not its length.

    Args:
        mask: (height, width), bool.

    Returns:
        (height, width), bool; not empty unless the mask is.
    """
    lines = skeleton(mask)
    spurs = _short_spurs(lines, mask)
    while spurs.any():
        lines = lines & ~spurs
        spurs = _short_spurs(lines, mask)
    return lines


def local_radii(mask: Mask, pixels: Indices) -> NDArray[np.float64]:
    """Measure from pixels of a mask to the nearest background inside the image.

    The edge of the image is no background: a wire that leaves it is not thinner there.

    Args:
        mask: (height, width), bool.
        pixels: (pixels, 2), row and column, inside the mask.

    Returns:
        (pixels,), px, >= 1; infinite when there is no background.
    """
    # The nearest background always touches the mask, and a tree over that layer is
    # ten times faster than a distance transform of the whole frame.
    layer = np.argwhere(binary_dilation(mask) & ~mask)
    if not len(layer):
        return np.full(len(pixels), np.inf)
    radii: NDArray[np.float64] = KDTree(layer).query(pixels)[0]
    return radii


def _short_spurs(lines: Mask, mask: Mask) -> Mask:
    """Return, for each branching, the pixels of its shortest spur if that is short."""
    spurs = np.zeros_like(lines)
    graph = build_graph(lines)
    is_branching = graph.degrees >= 3
    inner, branchings = np.flatnonzero(~is_branching), np.flatnonzero(is_branching)
    if not (len(branchings) and len(graph.ends)):
        return spurs
    arms = _pieces(graph.steps[inner][:, inner])
    links = graph.steps[inner][:, branchings].tocoo()
    lengths = _arm_lengths(graph, inner, arms)
    # An arm with an end has one link; arms between branchings are not looked at.
    foot = np.zeros(lengths.size, dtype=np.int64)
    foot[arms[links.row]] = links.col
    has_end = np.bincount(arms, graph.degrees[inner] == 1, lengths.size) == 1
    radius = local_radii(mask, graph.pixels[branchings[foot]])
    short = np.flatnonzero(has_end & (lengths < _SPUR_RADII * radius))
    short = short[np.argsort(lengths[short], kind="stable")]
    crossings = _pieces(graph.steps[branchings][:, branchings])
    _, first = np.unique(crossings[foot[short]], return_index=True)
    chosen = inner[np.isin(arms, short[first])]
    spurs[tuple(graph.pixels[chosen].T)] = True
    return spurs


def _arm_lengths(
    graph: SkeletonGraph, inner: Indices, arms: Indices
) -> NDArray[np.float64]:
    """Return the length of each arm up to and including the steps to branchings."""
    all_steps = graph.steps[inner].sum(axis=1)
    inner_steps = graph.steps[inner][:, inner].sum(axis=1)  # seen from both pixels
    return np.bincount(arms, all_steps - inner_steps / 2).astype(np.float64)


def _pieces(steps: csr_array) -> Indices:
    return np.asarray(connected_components(steps, directed=False)[1], dtype=np.int64)
