"""Cycle times against brute force, by hand, and as published."""

import networkx
import numpy as np
import pytest

from strategies.topologies.builtin import AMAZON
from strategies.topologies.comparison import (
    DesignFacts,
    compare_designs,
    cycle_time_ms,
)
from strategies.topologies.cycle_time import maximum_cycle_mean, mean_round_time
from strategies.topologies.delays import (
    Connections,
    DelayModel,
    connect,
    edge_delays,
    lone_delays,
)
from strategies.topologies.underlay import Link, Underlay, full_mesh
from strategies.topology import build_topology, load_underlay

# The published times are for FEMNIST: 4.84 Mbit, 4.6 ms, unlimited access.
FEMNIST = DelayModel(model_mbit=4.843243, compute_ms=4.6)
GAIA_MS = {"ring": 57.19, "mst": 77.20, "mbst": 77.20, "star": 289.8}


def random_delays(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    size = int(generator.integers(2, 7))
    delays = generator.uniform(0, 10, (size, size))
    delays[generator.random((size, size)) < 0.5] = -np.inf
    return delays


def by_brute_force(delays: np.ndarray) -> float:
    graph = networkx.DiGraph()
    graph.add_edges_from(zip(*np.nonzero(np.isfinite(delays)), strict=True))
    return max(
        (
            float(np.mean([delays[node, cycle[index - len(cycle) + 1]]
                           for index, node in enumerate(cycle)]))
            for cycle in networkx.simple_cycles(graph)
        ),
        default=-np.inf,
    )  # fmt: skip


def facts_of(underlay: Underlay, delays: DelayModel) -> dict[str, DesignFacts]:
    facts = compare_designs(underlay.nodes, underlay, delays)
    return {fact.topology.name: fact for fact in facts}


def line(*distances_km: float) -> Underlay:
    nodes = tuple("abcdefgh"[: len(distances_km) + 1])
    links = tuple(
        Link(nodes[index], nodes[index + 1], distance)
        for index, distance in enumerate(distances_km)
    )
    return Underlay("line", nodes, links)


@pytest.mark.parametrize("seed", range(60))
def test_the_cycle_mean_is_that_of_the_worst_simple_cycle(seed: int) -> None:
    delays = random_delays(seed)
    assert maximum_cycle_mean(delays) == pytest.approx(by_brute_force(delays))


def test_a_graph_without_cycles_has_no_cycle_mean() -> None:
    assert maximum_cycle_mean(np.array([[-np.inf, 3.0], [-np.inf, -np.inf]])) == -np.inf


@pytest.mark.parametrize("seed", range(5))
def test_a_constant_graph_keeps_its_cycle_time_when_followed(seed: int) -> None:
    delays = np.random.default_rng(seed).uniform(1, 10, (5, 5))
    found = mean_round_time([delays] * 3000)
    assert found == pytest.approx(maximum_cycle_mean(delays), rel=2e-3)


def test_rounds_without_edges_take_what_silos_compute() -> None:
    lone = np.full((3, 3), -np.inf)
    np.fill_diagonal(lone, 7.0)
    assert mean_round_time([lone] * 10) == 7.0


def test_waiting_is_counted_by_hand() -> None:
    both = np.array([[1.0, 9.0], [5.0, 1.0]])
    alone = np.array([[1.0, -np.inf], [-np.inf, 1.0]])
    # After both: (5, 9); after alone: (6, 10).
    assert mean_round_time([both, alone]) == 5.0


@pytest.mark.parametrize(
    ("delays", "said"),
    [
        (np.zeros((2, 3)), "square"),
        (np.zeros(3), "square"),
        (np.array([[np.nan]]), "minus infinity"),
        (np.array([[np.inf]]), "minus infinity"),
    ],
)
def test_delays_that_are_none_are_refused(delays: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        maximum_cycle_mean(delays)


def test_there_must_be_rounds_to_follow() -> None:
    with pytest.raises(ValueError, match="no rounds"):
        mean_round_time([])


def test_a_delay_is_computing_latency_and_transfer() -> None:
    model = DelayModel(model_mbit=100, compute_ms=10, capacity_mbit_s=1000)
    found = lone_delays(connect(line(1000), ["a", "b"], model), model)
    # 10 + 4 + 8.5 + 100 ms.
    np.testing.assert_allclose(found, [[0, 122.5], [122.5, 0]])


def test_a_way_of_two_links_has_half_the_bandwidth_and_one_base_latency() -> None:
    model = DelayModel(model_mbit=100, compute_ms=10)
    found = lone_delays(connect(line(1000, 500), ["a", "c"], model), model)
    # 10 + 4 + 0.0085 * 1500 + 200 ms.
    assert found[0, 1] == pytest.approx(226.75)


def test_edges_share_the_access_links_of_their_silos() -> None:
    model = DelayModel(
        model_mbit=10, compute_ms=1, upload_mbit_s=100, download_mbit_s=50
    )
    connections = Connections(np.full((3, 3), 4.0), np.full((3, 3), 20.0))
    edges = np.array([[0, 1, 1], [0, 0, 1], [0, 0, 0]], dtype=bool)
    found = edge_delays(connections, model, edges)
    no_edge = -np.inf
    # Silo 0 sends twice: 2 * 100 ms. Silo 1 receives once: 200 ms, silo 2 twice: 400.
    wanted = [[1, 205, 405], [no_edge, 1, 405], [no_edge, no_edge, 1]]
    np.testing.assert_allclose(found, wanted)


def test_the_capacities_of_the_network_count_only_when_asked_for() -> None:
    links = (Link("a", "b", 0, 500), Link("b", "c", 0, 100))
    underlay = Underlay("line", ("a", "b", "c"), links)
    for asked, wanted in ((False, 20.0), (True, 200.0)):
        model = DelayModel(model_mbit=10, link_capacity=asked)
        connections = connect(underlay, ["a", "c"], model)
        # 10 Mbit over a capacity shared by two hops.
        assert connections.transfer_ms[0, 1] == pytest.approx(wanted)


@pytest.mark.parametrize(
    "wrong",
    [
        {"model_mbit": 0},
        {"model_mbit": float("nan")},
        {"capacity_mbit_s": -1},
        {"upload_mbit_s": 0},
        {"download_mbit_s": float("nan")},
        {"compute_ms": -0.1},
        {"latency_base_ms": float("inf")},
    ],
)
def test_impossible_numbers_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DelayModel(**wrong)


def test_the_gaia_times_are_the_published_ones() -> None:
    facts = facts_of(load_underlay("gaia"), FEMNIST)
    for design, published in GAIA_MS.items():
        # Cities are placed to 0.01 degree, states by their middle.
        assert facts[design].cycle_time_ms == pytest.approx(published, rel=0.01)


def test_the_published_amazon_times_need_san_jose_in_costa_rica() -> None:
    wrong = full_mesh("amazon", AMAZON | {"San Jose": (9.93, -84.08)})
    found, right = facts_of(wrong, FEMNIST), facts_of(load_underlay("amazon"), FEMNIST)
    assert found["mst"].cycle_time_ms == pytest.approx(28.75, rel=0.01)
    assert found["ring"].cycle_time_ms == pytest.approx(20.35, rel=0.02)
    assert right["mst"].cycle_time_ms < 24
    assert right["ring"].cycle_time_ms < 19


@pytest.mark.parametrize("network", ["gaia", "amazon"])
def test_a_ring_is_faster_than_a_tree_and_a_tree_than_a_star(network: str) -> None:
    facts = facts_of(load_underlay(network), DelayModel())
    times = {design: fact.cycle_time_ms for design, fact in facts.items()}
    assert times["ring"] < times["mst"] < times["matcha"] < times["star"]
    assert times["mbst"] <= times["mst"] + 1e-9
    messages = {design: fact.messages for design, fact in facts.items()}
    size = len(facts["ring"].topology.silos)
    assert messages["ring"] == size
    assert messages["star"] == messages["mst"] == 2 * (size - 1)
    assert messages["complete"] == 2 * messages["matcha"] == size * (size - 1)


def test_a_ring_over_two_cities_takes_the_delay_between_them() -> None:
    underlay = line(1000)
    topology = build_topology("ring", ["a", "b"], underlay=underlay)
    model = DelayModel(model_mbit=100, compute_ms=10)
    assert cycle_time_ms(topology, underlay, model) == pytest.approx(122.5)


def test_in_a_star_models_go_up_and_come_back_down() -> None:
    underlay = line(1000)
    topology = build_topology("star", ["a", "b"], underlay=underlay)
    model = DelayModel(model_mbit=100, compute_ms=10)
    assert cycle_time_ms(topology, underlay, model) == pytest.approx(10 + 2 * 112.5)


def test_a_lone_silo_takes_what_it_computes() -> None:
    underlay = load_underlay("gaia")
    topology = build_topology("matcha", ["ward"], underlay=underlay)
    assert cycle_time_ms(topology, underlay, DelayModel(compute_ms=12)) == 12
