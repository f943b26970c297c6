"""The network below: places where silos stand, and the links between them.

Silos exchange messages over an underlay: nodes (cities, routers) joined by links of a
known length. A message from one silo to another takes the shortest way by distance; the
delay of that way is counted in `strategies.topologies.delays`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

EARTH_RADIUS_KM = 6371.0

Position = tuple[float, float]
"""Latitude (-90 to 90, north positive) and longitude (-180 to 180, east), degrees."""


@dataclass(frozen=True)
class Link:
    """A link that carries both ways."""

    first: str
    second: str
    distance_km: float  # >= 0
    capacity_mbit_s: float | None = None  # > 0; None where the file does not say


@dataclass(frozen=True)
class Underlay:
    """A connected network; see `load_underlay` in `strategies.topology`.

    Raises:
        ValueError: If a name is used twice or unknown, a link leads back to its own
            node, a distance, capacity or position is out of range, or the network
            falls into parts.
    """

    name: str
    nodes: tuple[str, ...]
    links: tuple[Link, ...]
    positions: Mapping[str, Position] = field(default_factory=dict)  # where known

    def __post_init__(self) -> None:
        """Check the network."""
        if not self.nodes:
            raise ValueError("The network has no nodes.")
        if len(set(self.nodes)) < len(self.nodes):
            raise ValueError("The network has two nodes of one name; rename one.")
        for link in self.links:
            _check_link(link, self.nodes)
        for node, (latitude, longitude) in self.positions.items():
            # Written so that NaN fails too.
            if not (abs(latitude) <= 90 and abs(longitude) <= 180):
                raise ValueError(
                    f"Node '{node}' lies at latitude {latitude}, longitude {longitude};"
                    " wanted -90 to 90 and -180 to 180 degrees."
                )
        import networkx  # slow to import

        graph = as_graph(self)
        if not networkx.is_connected(graph):
            parts = networkx.number_connected_components(graph)
            raise ValueError(
                f"The network falls into {parts} parts without a link between them; "
                "every node must reach every other."
            )


class Routes(NamedTuple):
    """The shortest way between every two of some nodes; zero on the diagonal."""

    distance_km: NDArray[np.float64]  # (nodes, nodes)
    hops: NDArray[np.int64]  # (nodes, nodes), number of links on the way
    capacity_mbit_s: NDArray[np.float64]  # (nodes, nodes), least known one, else NaN


def great_circle_km(first: Position, second: Position) -> float:
    """Return the distance of two positions on a sphere of 6,371 km (haversine)."""
    (latitude_1, longitude_1), (latitude_2, longitude_2) = (
        (math.radians(first[0]), math.radians(first[1])),
        (math.radians(second[0]), math.radians(second[1])),
    )
    half_chord_squared = (
        math.sin((latitude_2 - latitude_1) / 2) ** 2
        + math.cos(latitude_1)
        * math.cos(latitude_2)
        * math.sin((longitude_2 - longitude_1) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(half_chord_squared)))


def full_mesh(name: str, positions: Mapping[str, Position]) -> Underlay:
    """Join every two cities by a link as long as their great circle.

    Args:
        name: Of the network.
        positions: At least one city, in the order that the nodes keep.

    Returns:
        The network, without capacities.
    """
    cities = tuple(positions)
    links = tuple(
        Link(first, second, great_circle_km(positions[first], positions[second]))
        for index, first in enumerate(cities)
        for second in cities[index + 1 :]
    )
    return Underlay(name, cities, links, dict(positions))


def as_graph(underlay: Underlay) -> Any:  # noqa: ANN401 - networkx has no types
    """Return the network as an undirected `networkx.Graph` with `distance_km`."""
    import networkx  # slow to import

    graph = networkx.Graph()
    graph.add_nodes_from(underlay.nodes)
    for link in underlay.links:
        known = graph.get_edge_data(link.first, link.second)
        # Of parallel links the shortest one carries the messages.
        if known is None or link.distance_km < known["distance_km"]:
            graph.add_edge(
                link.first,
                link.second,
                distance_km=link.distance_km,
                capacity_mbit_s=link.capacity_mbit_s,
            )
    return graph


def find_routes(underlay: Underlay, nodes: Sequence[str]) -> Routes:
    """Find the shortest way between every two of some nodes.

    Args:
        underlay: The network; ways may lead through all its nodes.
        nodes: Distinct nodes of it.

    Returns:
        Length, number of links and least known capacity of every way.
    """
    import networkx  # slow to import

    graph, size = as_graph(underlay), len(nodes)
    distance_km = np.zeros((size, size))
    hops = np.zeros((size, size), dtype=np.int64)
    capacity = np.full((size, size), np.nan)
    for row, start in enumerate(nodes):
        lengths, ways = networkx.single_source_dijkstra(
            graph, start, weight="distance_km"
        )
        # One triangle only: of two ways of one length both directions use the same.
        for column in range(row + 1, size):
            way = ways[nodes[column]]
            known = [
                graph.edges[pair]["capacity_mbit_s"]
                for pair in pairwise(way)
                if graph.edges[pair]["capacity_mbit_s"] is not None
            ]
            for pair in ((row, column), (column, row)):
                distance_km[pair] = lengths[nodes[column]]
                hops[pair] = len(way) - 1
                capacity[pair] = min(known, default=math.nan)
    return Routes(distance_km, hops, capacity)


def place_silos(silos: Sequence[str], underlay: Underlay) -> dict[str, str]:
    """Say at which node of the network every silo stands.

    Args:
        silos: Distinct names. Either all are names of nodes, or none is.
        underlay: The network.

    Returns:
        The node of the same name; for other silos, in sorted order, the first nodes.

    Raises:
        ValueError: If there are more silos than nodes, or only some names are known.
    """
    ordered = sorted(silos)
    if len(ordered) > len(underlay.nodes):
        raise ValueError(
            f"{len(ordered)} silos do not fit on the {len(underlay.nodes)} nodes of "
            f"network '{underlay.name}'; choose a larger network or fewer silos."
        )
    unknown = [silo for silo in ordered if silo not in underlay.nodes]
    if not unknown:
        return {silo: silo for silo in ordered}
    if len(unknown) == len(ordered):
        return dict(zip(ordered, underlay.nodes, strict=False))
    raise ValueError(
        f"Network '{underlay.name}' has no node called "
        + ", ".join(f"'{silo}'" for silo in unknown)
        + "; name all silos like nodes, or none."
    )


def _check_link(link: Link, nodes: Sequence[str]) -> None:
    ends = f"between '{link.first}' and '{link.second}'"
    for end in (link.first, link.second):
        if end not in nodes:
            raise ValueError(f"A link leads to '{end}', which is no node.")
    if link.first == link.second:
        raise ValueError(f"A link of node '{link.first}' leads back to it; remove it.")
    if not (0 <= link.distance_km < math.inf):
        raise ValueError(
            f"The distance {ends} is {link.distance_km} km; it must be a number >= 0."
        )
    if link.capacity_mbit_s is not None and not (0 < link.capacity_mbit_s < math.inf):
        raise ValueError(
            f"The capacity {ends} is {link.capacity_mbit_s} Mbit/s; it must be > 0."
        )
