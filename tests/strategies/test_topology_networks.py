"""Networks, built in and from files, and silos placed on them."""

from pathlib import Path

import networkx
import pytest

from strategies.topologies.underlay import (
    Link,
    Underlay,
    find_routes,
    full_mesh,
    great_circle_km,
    place_silos,
)
from strategies.topology import build_topology, load_underlay

# Distances in the published Gaia file, km.
PUBLISHED_KM = {
    ("Virginia", "California"): 3560.9,
    ("Virginia", "Sao Paulo"): 7500.9,
    ("California", "Oregon"): 825.4,
    ("Dublin", "Frankfurt"): 1091.0,
    ("Mumbai", "Singapore"): 3899.2,
    ("Sydney", "Seoul"): 8296.0,
    ("Tokyo", "Oregon"): 8028.5,
    ("Tokyo", "Sao Paulo"): 18528.7,
}
ZOO = """Creator "hand"
graph [
  Network "Small"
  node [ id 0 label "Ulm" Latitude 48.4 Longitude 9.99 ]
  node [ id 1 label "Lyon" Latitude 45.76 Longitude 4.84 ]
  node [ id 2 label "Li&#233;ge" Latitude 50.63 Longitude 5.57 ]
  node [ id 7 label "Ulm" lat 48.5 lon 10.1 ]
  node [ id 9 label "Nowhere" ]
  edge [ source 0 target 1 LinkSpeedRaw 10000000000.0 ]
  edge [ source 1 target 2 distance 700 capacity 155000000.0 ]
  edge [ source 2 target 1 distance 600.5 ]
  edge [ source 0 target 7 ]
]
"""


def write(folder: Path, text: str, name: str = "secret-name.gml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def gml(nodes: str, edges: str) -> str:
    return f"graph [\n{nodes}\n{edges}\n]\n"


TWO = 'node [ id 0 label "a" ]\nnode [ id 1 label "b" ]'


@pytest.mark.parametrize(
    ("name", "nodes", "links"), [("gaia", 11, 55), ("amazon", 22, 231)]
)
def test_the_built_in_networks_have_the_published_size(
    name: str, nodes: int, links: int
) -> None:
    underlay = load_underlay(name)
    assert (len(underlay.nodes), len(underlay.links)) == (nodes, links)
    assert set(underlay.positions) == set(underlay.nodes)


def test_the_distances_of_gaia_are_nearly_the_published_ones() -> None:
    underlay = load_underlay("gaia")
    found = {
        frozenset((link.first, link.second)): link.distance_km
        for link in underlay.links
    }
    for ends, published in PUBLISHED_KM.items():
        assert found[frozenset(ends)] == pytest.approx(published, rel=0.02)


def test_a_quarter_of_the_equator_is_ten_thousand_kilometres() -> None:
    assert great_circle_km((0, 0), (0, 90)) == pytest.approx(10007.5, abs=0.1)
    assert great_circle_km((90, 0), (-90, 55)) == pytest.approx(20015, abs=0.1)
    assert great_circle_km((12, 34), (12, 34)) == 0


def test_a_file_of_the_topology_zoo_is_read_leniently(tmp_path: Path) -> None:
    underlay = load_underlay(write(tmp_path, ZOO, "small.gml"))
    assert underlay.name == "small"
    assert underlay.nodes == ("Ulm 0", "Lyon", "Liége", "Ulm 7")
    links = {(link.first, link.second): link for link in underlay.links}
    assert len(links) == 3
    fast = links["Ulm 0", "Lyon"]
    assert fast.capacity_mbit_s == 10000
    assert fast.distance_km == pytest.approx(
        great_circle_km((48.4, 9.99), (45.76, 4.84))
    )
    short = next(
        link for link in underlay.links if "Liége" in (link.first, link.second)
    )
    assert (short.distance_km, short.capacity_mbit_s) == (600.5, None)
    assert underlay.positions["Ulm 7"] == (48.5, 10.1)


@pytest.mark.parametrize("ending", ["gml", "graphml"])
def test_what_networkx_writes_is_read_back(tmp_path: Path, ending: str) -> None:
    graph = networkx.Graph()
    graph.add_node("Ward A", Latitude=10.0, Longitude=20.0)
    graph.add_node("Ward B", Latitude=11.0, Longitude=21.0)
    graph.add_node("Ward C", Latitude=12.0, Longitude=22.0)
    graph.add_edge("Ward A", "Ward B", distance=120.5, capacity=2e9)
    graph.add_edge("Ward B", "Ward C", distance=130.0)
    path = tmp_path / f"wards.{ending}"
    getattr(networkx, f"write_{ending}")(graph, path)
    underlay = load_underlay(str(path))
    assert underlay.nodes == ("Ward A", "Ward B", "Ward C")
    assert underlay.links == (
        Link("Ward A", "Ward B", 120.5, 2000),
        Link("Ward B", "Ward C", 130),
    )
    assert underlay.positions["Ward C"] == (12, 22)


def test_a_directed_file_becomes_undirected(tmp_path: Path) -> None:
    graph = networkx.DiGraph()
    graph.add_edge("a", "b", distance=5)
    graph.add_edge("b", "a", distance=4)
    networkx.write_graphml(graph, tmp_path / "two.graphml")
    underlay = load_underlay(str(tmp_path / "two.graphml"))
    assert [link.distance_km for link in underlay.links] == [4]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read as GML"),
        ("graph [ node [", "cannot be read as GML"),
        ("\x00\x01\x02", "cannot be read as GML"),
        ("<graphml><graph", "cannot be read as GraphML"),
        ("<html></html>", "GraphML"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><graphml/>', "entities"),
        (gml(TWO, ""), "no links"),
        (gml(TWO, "edge [ source 0 target 1 ]"), "'a' has no position"),
        (gml(TWO, "edge [ source 0 target 1 distance -3 ]"), "must be a number >= 0"),
        (gml(TWO, 'edge [ source 0 target 1 distance "far" ]'), "distance that is no"),
        (
            gml(TWO, "edge [ source 0 target 1 distance 1 capacity 0 ]"),
            "capacity .* must be > 0",
        ),
        (
            gml(
                TWO, "edge [ source 0 target 1 distance 1 ] edge [ source 0 target 0 ]"
            ),
            "no distance and 'a' has no position",
        ),
        (
            gml(
                TWO,
                "edge [ source 0 target 1 distance 1 ]\n"
                "edge [ source 0 target 0 distance 1 ]",
            ),
            "leads back to it",
        ),
        (
            gml(
                'node [ id 0 label "a" Latitude 95 Longitude 0 ]\nnode [ id 1 ]',
                "edge [ source 0 target 1 distance 1 ]",
            ),
            "latitude 95",
        ),
        (
            gml(
                TWO + "\nnode [ id 2 ]\nnode [ id 3 ]",
                "edge [ source 0 target 1 distance 1 ]\n"
                "edge [ source 2 target 3 distance 1 ]",
            ),
            "falls into 2 parts",
        ),
    ],
)
def test_a_bad_file_is_refused_in_a_sentence_without_its_path(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        load_underlay(write(tmp_path, text))
    assert "secret-name" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("name", ["gaja", "/nowhere/net.gml", ".", ""])
def test_a_network_that_does_not_exist_is_told_so(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be opened: name gaia, amazon"):
        load_underlay(name)


def test_messages_take_the_shortest_way_and_count_its_links() -> None:
    links = (Link("a", "b", 1), Link("b", "c", 1), Link("a", "c", 5), Link("c", "a", 9))
    routes = find_routes(Underlay("net", ("a", "b", "c"), links), ["a", "c"])
    assert routes.distance_km.tolist() == [[0, 2], [2, 0]]
    assert routes.hops.tolist() == [[0, 2], [2, 0]]


def test_silos_stand_at_nodes_of_their_name() -> None:
    found = place_silos(["Tokyo", "Dublin"], load_underlay("gaia"))
    assert found == {"Dublin": "Dublin", "Tokyo": "Tokyo"}


def test_other_silos_get_the_first_nodes_in_sorted_order() -> None:
    found = place_silos(["ward-2", "ward-1"], load_underlay("gaia"))
    assert found == {"ward-1": "Virginia", "ward-2": "Sao Paulo"}


def test_one_misspelt_node_is_named() -> None:
    with pytest.raises(ValueError, match="no node called 'Tokio'; name all"):
        place_silos(["Tokio", "Dublin"], load_underlay("gaia"))


def test_too_many_silos_are_counted() -> None:
    with pytest.raises(ValueError, match="12 silos do not fit on the 11 nodes"):
        build_topology(
            "ring", [f"ward-{n}" for n in range(12)], underlay=load_underlay("gaia")
        )


def test_a_network_over_which_silos_are_not_joined_directly_lets_matcha_pair_all() -> (
    None
):
    links = (Link("a", "hub", 1), Link("b", "hub", 1), Link("c", "hub", 1))
    underlay = Underlay("hubs", ("a", "b", "c", "hub"), links)
    found = build_topology("matcha", ["a", "b", "c"], underlay=underlay).union()
    assert found == {"a": ("b", "c"), "b": ("a", "c"), "c": ("a", "b")}
    joined = build_topology("matcha", ["a", "b", "c", "hub"], underlay=underlay)
    assert joined.union()["a"] == ("hub",)


@pytest.mark.parametrize(
    ("nodes", "links", "said"),
    [
        ((), (), "no nodes"),
        (("a", "a"), (), "two nodes of one name"),
        (("a",), (Link("a", "z", 1),), "'z', which is no node"),
        (("a", "b"), (Link("a", "b", float("nan")),), "must be a number"),
    ],
)
def test_an_impossible_network_is_refused(
    nodes: tuple[str, ...], links: tuple[Link, ...], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Underlay("net", nodes, links)


def test_a_mesh_of_one_city_is_a_network() -> None:
    assert full_mesh("one", {"a": (1, 2)}).links == ()
