"""Who teaches whom.

A topology gives every silo i its in-neighbours N(i): the hosts that train a copy of
i's model and send it back as a teacher (FedEFM, arXiv 2501.16992, eq. 2). Silos are
known by name and always handled in sorted order. Over a network (an underlay) designs
are chosen by delay; what they cost is worked out in `strategies.topologies.comparison`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from strategies.randomness import derive_seed
from strategies.topologies.builtin import NETWORKS
from strategies.topologies.delays import DelayModel, connect, lone_delays
from strategies.topologies.designs import (
    Edge,
    both_ways,
    bottleneck_pairs,
    find_hub,
    ring_edges,
    star_pairs,
)
from strategies.topologies.graph_files import read_underlay
from strategies.topologies.matcha import (
    activation_probabilities,
    decompose,
    draw_active,
)
from strategies.topologies.trees import Pair, minimum_spanning_tree, pair
from strategies.topologies.underlay import Underlay, full_mesh, place_silos

Neighbours = dict[str, tuple[str, ...]]
"""For every silo, sorted, the hosts that teach it, sorted."""

DESIGNS: tuple[str, ...] = ("ring", "complete", "star", "mst", "mbst", "matcha")
"""Designs by name; a further one, "edges", is any list of edges."""

ANY_EDGES = "edges"


@dataclass(frozen=True)
class Topology:
    """Who teaches whom, round by round.

    Args:
        name: Name of the design.
        silos: All silos, sorted.
        edges: (teacher, student), all that can occur, sorted.
        matchings: Of a topology that changes: pairs of numbers of silos which teach
            each other in the rounds that use the matching.
        probabilities: How often each matching is used.
        seed: Of the changes.
    """

    name: str
    silos: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]
    matchings: tuple[tuple[Pair, ...], ...] = ()
    probabilities: tuple[float, ...] = ()
    seed: int = 0

    def neighbours(self, round_number: int) -> Neighbours:
        """Return the teachers of every silo in a round.

        Args:
            round_number: Number of the round; only matcha depends on it. The same
                round of the same topology is always the same.

        Returns:
            All silos; in some rounds of matcha some have no teacher.
        """
        if not self.matchings:
            return self.union()
        seed = derive_seed(
            self.seed, round_number=round_number, phase="topology", site=""
        )
        links = draw_active(
            self.matchings, self.probabilities, np.random.default_rng(seed)
        )
        return _teachers(self.silos, _named(both_ways(links), self.silos))

    def union(self) -> Neighbours:
        """Return every teacher that a silo can have in any round."""
        return _teachers(self.silos, self.edges)


def build_topology(
    design: str,
    silos: Sequence[str],
    *,
    underlay: Underlay | None = None,
    seed: int = 0,
    edges: Sequence[tuple[str, str]] = (),
    delays: DelayModel | None = None,
) -> Topology:
    """Build a topology of silos.

    Args:
        design: One of `DESIGNS`, or "edges".
        silos: Distinct names. On a network they stand at nodes, see `place_silos`.
        underlay: The network. Without one a ring follows sorted names, the first silo
            is the hub of a star, and matcha draws from all pairs.
        seed: Of matcha's rounds.
        edges: (teacher, student) for the design "edges".
        delays: What is sent over the network; default `DelayModel()`.

    Returns:
        The topology. star, mst, mbst, matcha and complete teach in both directions.

    Raises:
        ValueError: If the design is unknown or needs a network, silos are named twice
            or do not fit on the network, or an edge is wrong.
    """
    ordered = tuple(sorted(silos))
    if len(set(ordered)) < len(ordered):
        raise ValueError("Two silos have the same name; name them apart.")
    if design != ANY_EDGES and edges:
        raise ValueError(f"Edges are for the design 'edges', not for '{design}'.")
    if design == ANY_EDGES:
        return Topology(design, ordered, _check_edges(edges, ordered))
    if design not in DESIGNS:
        known = ", ".join((*DESIGNS, ANY_EDGES))
        raise ValueError(f"The topology must be one of {known}, got '{design}'.")
    if underlay is None and design in ("mst", "mbst"):
        raise ValueError(
            f"Topology '{design}' is chosen by delays over a network: set "
            "fedefm.underlay to gaia, amazon or a GML or GraphML file."
        )
    nodes = []
    if underlay is not None:
        places = place_silos(ordered, underlay)
        nodes = [places[silo] for silo in ordered]
    if len(ordered) < 2:
        return Topology(design, ordered, ())
    if design == "matcha":
        return _matcha(ordered, underlay, nodes, seed)
    found = _design(design, len(ordered), underlay, nodes, delays or DelayModel())
    return Topology(design, ordered, _named(found, ordered))


def load_underlay(name_or_path: str) -> Underlay:
    """Return a network.

    Args:
        name_or_path: "gaia", "amazon", or the path of a GML or GraphML file.

    Returns:
        The network.

    Raises:
        ValueError: If there is no such file, or it does not describe a network.
    """
    if name_or_path in NETWORKS:
        return full_mesh(name_or_path, NETWORKS[name_or_path])
    return read_underlay(Path(name_or_path))


def _design(
    design: str,
    size: int,
    underlay: Underlay | None,
    nodes: Sequence[str],
    model: DelayModel,
) -> list[Edge]:
    """Return the edges of a design that stays the same, between numbered silos."""
    if design == "complete":
        return both_ways(_all_pairs(size))
    if underlay is None:
        if design == "star":
            return both_ways(star_pairs(0, size))
        return [((number - 1) % size, number) for number in range(size)]
    if design == "star":
        return both_ways(star_pairs(find_hub(underlay, nodes), size))
    connections = connect(underlay, nodes, model)
    alone = lone_delays(connections, model)
    if design == "ring":
        return ring_edges(alone)
    if design == "mst":
        return both_ways(minimum_spanning_tree(alone))
    return both_ways(bottleneck_pairs(alone, connections, model)[0])


def _matcha(
    silos: tuple[str, ...], underlay: Underlay | None, nodes: Sequence[str], seed: int
) -> Topology:
    size = len(silos)
    links = _all_pairs(size)
    if underlay is not None:
        links = _direct_links(underlay, nodes) or links
    matchings = decompose(links, size)
    return Topology(
        name="matcha",
        silos=silos,
        edges=_named(both_ways(links), silos),
        matchings=tuple(matchings),
        probabilities=activation_probabilities(matchings, size),
        seed=seed,
    )


def _direct_links(underlay: Underlay, nodes: Sequence[str]) -> list[Pair]:
    """Return the network's own links between silos; none if they do not join all."""
    import networkx  # slow to import

    numbers = {node: number for number, node in enumerate(nodes)}
    links = {
        pair(numbers[link.first], numbers[link.second])
        for link in underlay.links
        if link.first in numbers and link.second in numbers
    }
    graph = networkx.Graph(sorted(links))
    graph.add_nodes_from(range(len(nodes)))
    return sorted(links) if networkx.is_connected(graph) else []


def _check_edges(
    edges: Sequence[tuple[str, str]], silos: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    if not edges and len(silos) > 1:
        raise ValueError("The design 'edges' needs at least one edge.")
    for teacher, student in edges:
        unknown = [name for name in (teacher, student) if name not in silos]
        if unknown:
            raise ValueError(f"An edge names '{unknown[0]}', which is no silo.")
        if teacher == student:
            raise ValueError(f"Silo '{teacher}' cannot teach itself; remove the edge.")
    return tuple(sorted(set(edges)))


def _all_pairs(size: int) -> list[Pair]:
    return [
        (first, second) for first in range(size) for second in range(first + 1, size)
    ]


def _named(edges: Iterable[Edge], silos: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((silos[teacher], silos[student]) for teacher, student in edges))


def _teachers(silos: Sequence[str], edges: Iterable[tuple[str, str]]) -> Neighbours:
    found: dict[str, set[str]] = {silo: set() for silo in silos}
    for teacher, student in edges:
        found[student].add(teacher)
    return {silo: tuple(sorted(teachers)) for silo, teachers in found.items()}


def tour_order(silos: Sequence[str], number: int) -> tuple[str, ...]:
    """Return the silos in the order in which a round visits them.

    Args:
        silos: Names, sorted.
        number: Of the round. Round 1 starts with the first silo; the start moves on by
            one every round, so that nobody is always last, since what was seen last
            is remembered best.
    """
    first = (number - 1) % len(silos)
    return (*silos[first:], *silos[:first])
