"""Networks from GML and GraphML files, as published collections write them.

Read leniently: the Internet Topology Zoo (Knight et al., IEEE JSAC 29(9), 2011) writes
`Latitude`, `Longitude` and `LinkSpeedRaw` (bit/s); the Rocketfuel maps that federated
studies use write `distance` and `capacity` (bit/s). Directed and parallel links become
one undirected link, the shortest; a link without a distance is as long as the great
circle between its ends. Nodes are called by their label, or by their id where two have
the same label.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strategies.topologies.underlay import Link, Position, Underlay, great_circle_km

MAX_BYTES = 64 * 2**20
BIT_PER_MBIT = 1e6

NAME_KEYS = ("label", "name")
LATITUDE_KEYS = ("latitude", "lat")
LONGITUDE_KEYS = ("longitude", "long", "lon", "lng")
DISTANCE_KEYS = ("distance_km", "distance", "dist", "length")
CAPACITY_KEYS = ("capacity", "linkspeedraw", "bandwidth")


def read_underlay(path: Path) -> Underlay:
    """Read a network from a file.

    Args:
        path: GML, or GraphML, told apart by content.

    Returns:
        The network, called like the file without its ending. Nodes keep the order of
        the file; a node that no link touches is left out.

    Raises:
        ValueError: If the file cannot be read, is neither GML nor GraphML, or does not
            describe a connected network. The text does not name the file.
    """
    graph = _parse(_read_text(path))
    used = [node for node in graph.nodes if graph.degree(node)]
    if not used:
        raise ValueError("The network file has no links; it must join its nodes.")
    names = _names({node: graph.nodes[node] for node in used})
    positions = {
        names[node]: place
        for node in used
        if (place := _position(graph.nodes[node])) is not None
    }
    links: dict[tuple[str, str], Link] = {}
    for first, second, attributes in graph.edges(data=True):
        link = _link(names[first], names[second], attributes, positions)
        ends = (min(link.first, link.second), max(link.first, link.second))
        if ends not in links or link.distance_km < links[ends].distance_km:
            links[ends] = link
    nodes = tuple(names[node] for node in used)
    return Underlay(path.stem, nodes, tuple(links.values()), positions)


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("The network file is larger than 64 MiB.")
        content = path.read_bytes()
    except OSError:
        raise ValueError(
            "The network file cannot be opened: name gaia, amazon, or a GML or GraphML "
            "file that exists."
        ) from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")  # what GML asks for; it decodes anything


def _parse(text: str) -> Any:  # noqa: ANN401 - networkx has no types
    """Return a `networkx` graph of either format."""
    import networkx  # slow to import

    is_xml = text.lstrip().startswith("<")
    if "<!ENTITY" in text:
        # Entities can make a small file fill the memory.
        raise ValueError("The network file defines XML entities; remove them.")
    try:
        if is_xml:
            return networkx.parse_graphml(text)
        # Collections often hold parallel links without saying so.
        if not re.search(r"\bmultigraph\s+1\b", text):
            text = re.sub(r"\bgraph\s*\[", "graph [\n multigraph 1\n", text, count=1)
        # Labels may be missing or double, ids are neither.
        return networkx.parse_gml(text, label=None)
    except Exception:  # noqa: BLE001 - the parsers raise whatever they meet
        kind = "GraphML" if is_xml else "GML"
        raise ValueError(
            f"The network file cannot be read as {kind}; check it with the program "
            "that wrote it."
        ) from None


def _names(nodes: Mapping[Any, Mapping[str, Any]]) -> dict[Any, str]:
    labels = {
        node: str(label)
        if (label := _first(attributes, NAME_KEYS)) not in (None, "")
        else str(node)
        for node, attributes in nodes.items()
    }
    counts = Counter(labels.values())
    return {
        node: label if counts[label] == 1 else f"{label} {node}"
        for node, label in labels.items()
    }


def _position(attributes: Mapping[str, Any]) -> Position | None:
    latitude = _number(_first(attributes, LATITUDE_KEYS), "latitude")
    longitude = _number(_first(attributes, LONGITUDE_KEYS), "longitude")
    if latitude is None or longitude is None:
        return None
    return latitude, longitude


def _link(
    first: str,
    second: str,
    attributes: Mapping[str, Any],
    positions: Mapping[str, Position],
) -> Link:
    distance = _number(_first(attributes, DISTANCE_KEYS), "distance")
    if distance is None:
        for end in (first, second):
            if end not in positions:
                raise ValueError(
                    f"The link between '{first}' and '{second}' has no distance and "
                    f"'{end}' has no position; give one of them."
                )
        distance = great_circle_km(positions[first], positions[second])
    capacity = _number(_first(attributes, CAPACITY_KEYS), "capacity")
    return Link(
        first,
        second,
        distance,
        None if capacity is None else capacity / BIT_PER_MBIT,
    )


def _first(attributes: Mapping[str, Any], keys: tuple[str, ...]) -> object:
    """Return the value of the first key that is there, whatever its case."""
    lower = {str(key).lower(): value for key, value in attributes.items()}
    return next((lower[key] for key in keys if key in lower), None)


def _number(value: object, what: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise ValueError(f"The network file has a {what} that is no number.")
    return number
