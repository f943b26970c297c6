"""Spanning trees of a complete graph: shortest, and with few edges at every node.

The degree-bounded trees are those of Andersen and Ras, "Minimum bottleneck spanning
trees with degree bounds", Networks 68(4), 2016, which Marfoq et al. (NeurIPS 2020,
algorithm 1) choose from. Their cube algorithm gives a path whose longest edge is at
most three times the longest edge of the best tree, where the triangle inequality holds;
for the greedy tree (delta-Prim) no bound is used here.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pair = tuple[int, int]
"""Two nodes, the smaller one first."""

Weights = NDArray[np.float64]
"""(nodes, nodes), symmetric."""


def minimum_spanning_tree(weights: Weights) -> list[Pair]:
    """Find a spanning tree of least total weight.

    Args:
        weights: Of all pairs.

    Returns:
        Its edges, sorted; one fewer than nodes.
    """
    import networkx  # slow to import

    tree = networkx.minimum_spanning_tree(complete_graph(weights))
    return sorted(pair(first, second) for first, second in tree.edges)


def cube_path(tree: list[Pair]) -> list[Pair]:
    """Find a path through all nodes that steps at most three edges of a tree at once.

    The cube of a tree always has one (Sekanina, 1960): going through the tree in
    depth, nodes of even depth are noted on the way down and nodes of odd depth on the
    way back up.

    Args:
        tree: At least one edge; nodes are numbered from zero.

    Returns:
        The edges of the path, sorted.
    """
    import networkx  # slow to import

    graph = networkx.Graph(tree)
    depth = networkx.single_source_shortest_path_length(graph, 0)
    order = [
        node
        for _, node, step in networkx.dfs_labeled_edges(graph, 0)
        if step == ("reverse" if depth[node] % 2 else "forward")
    ]
    return sorted(pair(*step) for step in pairwise(order))


def degree_bounded_tree(weights: Weights, bound: int) -> list[Pair]:
    """Grow a tree as Prim does, but never beyond a number of edges at a node.

    Args:
        weights: Of all pairs.
        bound: Largest number of edges at a node, at least 2.

    Returns:
        The edges of the tree, sorted.

    Raises:
        ValueError: If the bound is below 2.
    """
    if bound < 2:
        raise ValueError(
            f"A tree needs up to 2 edges at a node, got a bound of {bound}."
        )
    size = len(weights)
    degree = np.zeros(size, dtype=np.int64)
    inside = np.zeros(size, dtype=np.bool_)
    inside[0] = True
    tree = []
    for _ in range(size - 1):
        open_nodes = inside & (degree < bound)
        allowed = open_nodes[:, None] & ~inside[None, :]
        place = np.where(allowed, weights, np.inf).argmin()
        old, new = (int(index) for index in np.unravel_index(place, weights.shape))
        tree.append(pair(old, new))
        degree[[old, new]] += 1
        inside[new] = True
    return sorted(tree)


def complete_graph(weights: Weights) -> Any:  # noqa: ANN401 - networkx has no types
    """Return all pairs as a `networkx.Graph` on the numbers of the nodes."""
    import networkx  # slow to import

    graph = networkx.Graph()
    # Numbers, not names: the order of a set of names changes from run to run.
    graph.add_nodes_from(range(len(weights)))
    graph.add_weighted_edges_from(
        (first, second, float(weights[first, second]))
        for first in range(len(weights))
        for second in range(first + 1, len(weights))
    )
    return graph


def pair(first: int, second: int) -> Pair:
    """Return two nodes, the smaller one first."""
    return (first, second) if first < second else (second, first)
