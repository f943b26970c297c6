"""Who teaches whom: what every design promises, with and without a network."""

from itertools import pairwise

import networkx
import pytest

from strategies.topologies.builtin import AMAZON
from strategies.topologies.underlay import Underlay, full_mesh, great_circle_km
from strategies.topology import (
    DESIGNS,
    Neighbours,
    build_topology,
    load_underlay,
)

# The ring published for Gaia, in teaching order.
GAIA_RING = [
    "Virginia", "Sao Paulo", "Dublin", "Frankfurt", "Mumbai", "Singapore", "Sydney",
    "Seoul", "Tokyo", "Oregon", "California",
]  # fmt: skip
SAN_JOSE_IN_COSTA_RICA = (9.93, -84.08)
# The ring published for Amazon North America, in teaching order.
AMAZON_RING = [
    "Ashburn", "San Jose", "Miami", "Jacksonville", "Atlanta", "Saint-Louis",
    "Chicago", "Dallas", "Denver", "Phoenix", "Los Angeles", "Palo Alto", "Hayward",
    "Seattle", "Minneapolis", "South Bend", "Toronto", "Montreal", "Boston",
    "New York", "Newark", "Philadelphia",
]  # fmt: skip


def in_teaching_order(neighbours: Neighbours, start: str) -> list[str]:
    student_of = {teachers[0]: silo for silo, teachers in neighbours.items()}
    order = [start]
    while student_of[order[-1]] != start:
        order.append(student_of[order[-1]])
    return order


def length_km(tour: list[str], underlay: Underlay) -> float:
    places = [underlay.positions[city] for city in (*tour, tour[0])]
    return sum(great_circle_km(*pair) for pair in pairwise(places))


def as_digraph(neighbours: Neighbours) -> networkx.DiGraph:
    graph = networkx.DiGraph()
    graph.add_nodes_from(neighbours)
    graph.add_edges_from(
        (teacher, student)
        for student, teachers in neighbours.items()
        for teacher in teachers
    )
    return graph


def neighbours(design: str, silos: list[str]) -> Neighbours:
    return build_topology(design, silos).union()


def test_everyone_on_the_ring_learns_from_the_one_before() -> None:
    assert neighbours("ring", ["c", "a", "b"]) == {
        "a": ("c",),
        "b": ("a",),
        "c": ("b",),
    }


def test_two_silos_teach_each_other() -> None:
    assert neighbours("ring", ["a", "b"]) == {"a": ("b",), "b": ("a",)}


@pytest.mark.parametrize("design", ["ring", "complete"])
def test_a_lone_silo_has_no_teacher(design: str) -> None:
    assert neighbours(design, ["a"]) == {"a": ()}


def test_in_the_complete_graph_all_others_teach() -> None:
    assert neighbours("complete", ["b", "c", "a"]) == {
        "a": ("b", "c"),
        "b": ("a", "c"),
        "c": ("a", "b"),
    }


def test_without_a_network_the_first_silo_is_the_hub_of_a_star() -> None:
    assert build_topology("star", ["c", "b", "a"]).union() == {
        "a": ("b", "c"),
        "b": ("a",),
        "c": ("a",),
    }


@pytest.mark.parametrize("network", ["gaia", "amazon"])
@pytest.mark.parametrize("design", DESIGNS)
def test_every_design_lets_knowledge_reach_all_silos(design: str, network: str) -> None:
    underlay = load_underlay(network)
    silos = underlay.nodes
    topology = build_topology(design, silos, underlay=underlay)
    neighbours = topology.union()
    graph = as_digraph(neighbours)
    assert list(neighbours) == sorted(silos) == list(topology.silos)
    assert all(teachers == tuple(sorted(teachers)) for teachers in neighbours.values())
    assert networkx.is_strongly_connected(graph)
    assert networkx.number_of_selfloops(graph) == 0
    if design != "ring":
        assert set(graph.edges) == {
            (student, teacher) for teacher, student in graph.edges
        }


@pytest.mark.parametrize(
    ("design", "network"),
    [*((design, "gaia") for design in DESIGNS)]
    + [(design, None) for design in DESIGNS if design not in ("mst", "mbst")],
)
def test_two_silos_teach_each_other_in_every_design(
    design: str, network: str | None
) -> None:
    underlay = load_underlay(network) if network else None
    topology = build_topology(design, ["b", "a"], underlay=underlay)
    assert topology.union() == {"a": ("b",), "b": ("a",)}


@pytest.mark.parametrize("design", DESIGNS)
def test_on_a_network_too_a_lone_silo_has_no_teacher(design: str) -> None:
    topology = build_topology(design, ["a"], underlay=load_underlay("gaia"))
    assert topology.union() == topology.neighbours(3) == {"a": ()}


def test_the_gaia_ring_is_the_published_one() -> None:
    underlay = load_underlay("gaia")
    found = build_topology("ring", underlay.nodes, underlay=underlay).union()
    assert in_teaching_order(found, "Virginia") == GAIA_RING


def test_the_amazon_ring_visits_san_jose_between_its_neighbours() -> None:
    underlay = load_underlay("amazon")
    found = build_topology("ring", underlay.nodes, underlay=underlay).union()
    graph = as_digraph(found)
    beside = {*graph.predecessors("San Jose"), *graph.successors("San Jose")}
    assert beside <= {"Palo Alto", "Hayward", "Los Angeles"}


def test_the_published_amazon_ring_has_its_san_jose_in_costa_rica() -> None:
    underlay = full_mesh("amazon", AMAZON | {"San Jose": SAN_JOSE_IN_COSTA_RICA})
    found = build_topology("ring", underlay.nodes, underlay=underlay).union()
    order = in_teaching_order(found, "Ashburn")
    # The same tour but for Chicago, which another short cut visits elsewhere.
    assert [city for city in order if city != "Chicago"] == [
        city for city in AMAZON_RING if city != "Chicago"
    ]
    assert length_km(order, underlay) <= length_km(AMAZON_RING, underlay)


def test_in_a_star_the_node_that_most_ways_lead_through_is_the_hub() -> None:
    underlay = full_mesh("line", {"w": (0, 0), "x": (0, 1)})
    chain = [*underlay.links, *full_mesh("m", {"x": (0, 1), "y": (0, 2)}).links]
    line = type(underlay)("line", ("w", "x", "y"), tuple(chain))
    found = build_topology("star", ["w", "x", "y"], underlay=line).union()
    assert found["x"] == ("w", "y")


def test_an_edge_list_is_taken_as_it_is() -> None:
    topology = build_topology(
        "edges", ["a", "b", "c"], edges=[("b", "a"), ("c", "a"), ("a", "b"), ("b", "a")]
    )
    assert topology.neighbours(0) == {"a": ("b", "c"), "b": ("a",), "c": ()}


def test_matcha_changes_from_round_to_round_and_can_be_repeated() -> None:
    underlay = load_underlay("gaia")
    first, again, other = (
        build_topology("matcha", underlay.nodes, underlay=underlay, seed=seed)
        for seed in (3, 3, 4)
    )
    rounds = [first.neighbours(number) for number in range(20)]
    assert rounds == [again.neighbours(number) for number in range(20)]
    assert rounds != [other.neighbours(number) for number in range(20)]
    assert len({str(neighbours) for neighbours in rounds}) > 10
    assert first.neighbours(7) == rounds[7]
    union = first.union()
    for neighbours in rounds:
        assert list(neighbours) == list(first.silos)
        for silo, teachers in neighbours.items():
            assert set(teachers) <= set(union[silo])
            assert all(silo in neighbours[teacher] for teacher in teachers)


def test_matcha_sends_half_of_all_messages_over_many_rounds() -> None:
    topology = build_topology("matcha", list("abcdef"), seed=1)
    sent = [
        sum(map(len, topology.neighbours(number).values())) for number in range(2000)
    ]
    # 15 pairs both ways, half of them used; standard error of the mean about 0.15.
    assert sum(sent) / len(sent) == pytest.approx(15, abs=0.6)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"design": "web", "silos": ["a", "b"]}, "must be one of ring, complete"),
        ({"design": "mst", "silos": ["a", "b"]}, "set fedefm.underlay"),
        ({"design": "mbst", "silos": ["a"]}, "set fedefm.underlay"),
        ({"design": "ring", "silos": ["a", "a"]}, "same name"),
        ({"design": "edges", "silos": ["a", "b"]}, "at least one edge"),
        (
            {"design": "edges", "silos": ["a", "b"], "edges": [("a", "z")]},
            "names 'z', which is no silo",
        ),
        (
            {"design": "edges", "silos": ["a", "b"], "edges": [("a", "a")]},
            "cannot teach itself",
        ),
        (
            {"design": "ring", "silos": ["a", "b"], "edges": [("a", "b")]},
            "not for 'ring'",
        ),
    ],
)
def test_a_wrong_topology_is_refused_in_a_sentence(wrong: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build_topology(**wrong)
