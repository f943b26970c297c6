"""Designs of a topology over a network, chosen by delays.

All work on silos numbered in their order. They are those that Marfoq et al. compare
(NeurIPS 2020, arXiv 2010.12229, sections 3 and 4): a directed ring by Christofides, a
star, a minimum spanning tree, and the best of several degree-bounded trees.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from strategies.topologies.cycle_time import maximum_cycle_mean
from strategies.topologies.delays import Connections, DelayModel, Matrix, edge_delays
from strategies.topologies.trees import (
    Pair,
    complete_graph,
    cube_path,
    degree_bounded_tree,
    minimum_spanning_tree,
)
from strategies.topologies.underlay import Underlay, as_graph

Edge = tuple[int, int]
"""Teacher and student."""


def ring_edges(delays: Matrix) -> list[Edge]:
    """Find a short tour (Christofides, 1976) and let each silo teach the next one.

    Args:
        delays: (silos, silos), symmetric, of at least one silo. Where they obey the
            triangle inequality, the tour is at most 1.5 times the shortest one.

    Returns:
        One edge a silo, starting at the first silo towards the later of its two
        neighbours; none for a lone silo.
    """
    size = len(delays)
    if size < 4:
        tour = list(range(size))  # there is only one
    else:
        # Slow to import.
        from networkx.algorithms.approximation import christofides

        tour = christofides(complete_graph(delays))[:-1]
        start = tour.index(0)
        tour = tour[start:] + tour[:start]
        if tour[1] < tour[-1]:
            tour = [tour[0], *reversed(tour[1:])]
    if size < 2:
        return []
    return [(tour[index - 1], silo) for index, silo in enumerate(tour)]


def star_pairs(hub: int, size: int) -> list[Pair]:
    """Join one silo to all others.

    Args:
        hub: Number of the silo in the middle.
        size: Number of silos.

    Returns:
        One pair for each other silo.
    """
    return [(min(hub, silo), max(hub, silo)) for silo in range(size) if silo != hub]


def find_hub(underlay: Underlay, nodes: Sequence[str]) -> int:
    """Find the silo that most shortest ways lead through (load centrality).

    Args:
        underlay: The network, all its nodes counted.
        nodes: Where the silos stand, in their order.

    Returns:
        The number of the silo. Where several are equal, as in a network that joins all
        to all, the one that comes first in the network.
    """
    import networkx  # slow to import

    load = networkx.load_centrality(as_graph(underlay), weight="distance_km")
    # Rounded: equal nodes must stay equal, whatever the order of their sums.
    best = max(nodes, key=lambda node: (round(load[node], 9), -_rank(underlay, node)))
    return list(nodes).index(best)


def bottleneck_pairs(
    delays: Matrix, connections: Connections, model: DelayModel
) -> tuple[list[Pair], int]:
    """Choose the tree with the shortest cycle time (Marfoq et al., algorithm 1).

    Candidates are the path of the cube algorithm (2 edges at a node) and one tree of
    delta-Prim for each bound from 3 on.

    Args:
        delays: Delays of lone edges, of at least two silos.
        connections: From `connect`.
        model: What is sent.

    Returns:
        The pairs of the tree, and its bound on the edges at a node.
    """
    size = len(delays)
    candidates = [(cube_path(minimum_spanning_tree(delays)), 2)]
    for bound in range(3, size):
        tree = degree_bounded_tree(delays, bound)
        candidates.append((tree, bound))
        if as_matrix(both_ways(tree), size).sum(axis=0).max() < bound:
            break  # the bound no longer binds: larger ones give the same tree
    times = [
        maximum_cycle_mean(
            edge_delays(connections, model, as_matrix(both_ways(tree), size))
        )
        for tree, _ in candidates
    ]
    return candidates[int(np.argmin(times))]


def both_ways(pairs: Iterable[Pair]) -> list[Edge]:
    """Let the two silos of every pair teach each other."""
    return [
        edge for first, second in pairs for edge in ((first, second), (second, first))
    ]


def as_matrix(edges: Iterable[Edge], size: int) -> NDArray[np.bool_]:
    """Return edges as a (silos, silos) table, teacher by student."""
    table = np.zeros((size, size), dtype=np.bool_)
    for edge in edges:
        table[edge] = True
    return table


def _rank(underlay: Underlay, node: str) -> int:
    return underlay.nodes.index(node)
