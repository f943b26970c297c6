"""Designs against brute force over small graphs."""

from itertools import combinations, pairwise, permutations, product

import networkx
import numpy as np
import pytest
from scipy.sparse.csgraph import minimum_spanning_tree as scipy_tree

from strategies.topologies.cycle_time import maximum_cycle_mean
from strategies.topologies.delays import Connections, DelayModel, edge_delays
from strategies.topologies.designs import (
    as_matrix,
    both_ways,
    bottleneck_pairs,
    ring_edges,
)
from strategies.topologies.matcha import (
    activation_probabilities,
    decompose,
    draw_active,
)
from strategies.topologies.trees import (
    cube_path,
    degree_bounded_tree,
    minimum_spanning_tree,
)

SEEDS = range(5)


def random_metric(size: int, seed: int) -> np.ndarray:
    """Distances of random points, with a constant as delays have."""
    points = np.random.default_rng(seed).random((size, 2))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1) + 0.1
    np.fill_diagonal(distances, 0)
    return distances


def laplacian(links: list[tuple[int, int]], size: int) -> np.ndarray:
    graph = networkx.Graph(links)
    graph.add_nodes_from(range(size))
    return networkx.laplacian_matrix(graph, nodelist=range(size)).toarray()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_ring_is_a_tour_at_most_half_longer_than_the_best(seed: int) -> None:
    weights = random_metric(7, seed)
    edges = ring_edges(weights)
    graph = networkx.DiGraph(edges)
    assert networkx.is_strongly_connected(graph)
    assert len(edges) == 7
    assert all(degree == 2 for _, degree in graph.degree)
    best = min(
        sum(weights[pair] for pair in pairwise((0, *tour, 0)))
        for tour in permutations(range(1, 7))
    )
    assert sum(weights[edge] for edge in edges) <= 1.5 * best + 1e-12


@pytest.mark.parametrize("seed", SEEDS)
def test_the_tree_is_as_light_as_that_of_scipy(seed: int) -> None:
    weights = random_metric(9, seed)
    tree = minimum_spanning_tree(weights)
    assert networkx.is_tree(networkx.Graph(tree))
    found = sum(weights[pair] for pair in tree)
    assert found == pytest.approx(scipy_tree(weights).sum(), rel=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_the_path_visits_all_and_steps_at_most_three_edges_of_its_tree(
    seed: int,
) -> None:
    generator = np.random.default_rng(seed)
    size = int(generator.integers(2, 30))
    tree = [(int(generator.integers(0, node)), node) for node in range(1, size)]
    path = networkx.Graph(cube_path(tree))
    assert networkx.is_tree(path)
    assert len(path) == size
    assert max(degree for _, degree in path.degree) <= 2
    steps = dict(networkx.all_pairs_shortest_path_length(networkx.Graph(tree)))
    assert max(steps[first][second] for first, second in path.edges) <= 3


@pytest.mark.parametrize("seed", SEEDS)
def test_the_longest_edge_of_the_path_is_at_most_three_times_the_least(
    seed: int,
) -> None:
    weights = random_metric(7, seed)
    path = cube_path(minimum_spanning_tree(weights))
    least = min(
        max(weights[pair] for pair in pairwise(order))
        for order in permutations(range(7))
    )
    assert max(weights[pair] for pair in path) <= 3 * least + 1e-12


@pytest.mark.parametrize("bound", [2, 3, 4])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_bounded_tree_keeps_its_bound(seed: int, bound: int) -> None:
    tree = networkx.Graph(degree_bounded_tree(random_metric(12, seed), bound))
    assert networkx.is_tree(tree)
    assert len(tree) == 12
    assert max(degree for _, degree in tree.degree) <= bound


def test_with_a_loose_bound_it_is_the_lightest_tree() -> None:
    weights = random_metric(12, 0)
    assert degree_bounded_tree(weights, 11) == minimum_spanning_tree(weights)


def test_a_bound_below_two_is_refused() -> None:
    with pytest.raises(ValueError, match="bound of 1"):
        degree_bounded_tree(random_metric(4, 0), 1)


def test_slow_access_links_turn_a_hub_into_a_chain() -> None:
    # One city in the middle of a circle of eight: the lightest tree is a star.
    angles = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    points = np.vstack([[0, 0], np.stack([np.cos(angles), np.sin(angles)], axis=1)])
    latency = 10 * np.linalg.norm(points[:, None] - points[None], axis=-1) + 4
    latency[0] += 0.1 - np.where(np.arange(9) == 0, 0, 3)
    latency[:, 0] = latency[0]
    connections = Connections(latency, np.full((9, 9), 1.0))
    fast, slow = (
        DelayModel(model_mbit=1),
        DelayModel(model_mbit=1, upload_mbit_s=10, download_mbit_s=10),
    )
    assert len(minimum_spanning_tree(latency)) == 8
    tree, bound = bottleneck_pairs(latency, connections, slow)
    assert bound == 2
    degrees = [degree for _, degree in networkx.Graph(tree).degree]
    assert max(degrees) == 2
    wide, _ = bottleneck_pairs(latency, connections, fast)
    assert max(degree for _, degree in networkx.Graph(wide).degree) == 8


@pytest.mark.parametrize("seed", SEEDS)
def test_the_chosen_tree_is_no_slower_than_the_lightest_one(seed: int) -> None:
    latency = 50 * random_metric(8, seed)
    connections = Connections(latency, np.full((8, 8), 5.0))
    model = DelayModel(model_mbit=5, upload_mbit_s=200, download_mbit_s=200)

    def time_of(pairs: list[tuple[int, int]]) -> float:
        table = as_matrix(both_ways(pairs), 8)
        return maximum_cycle_mean(edge_delays(connections, model, table))

    chosen, _ = bottleneck_pairs(latency, connections, model)
    assert time_of(chosen) <= time_of(minimum_spanning_tree(latency)) + 1e-9


@pytest.mark.parametrize("size", range(2, 13))
def test_all_pairs_are_played_in_as_few_rounds_as_a_tournament(size: int) -> None:
    pairs = list(combinations(range(size), 2))
    matchings = decompose(pairs, size)
    assert len(matchings) == (size - 1 if size % 2 == 0 else size)
    assert sorted(link for matching in matchings for link in matching) == pairs


@pytest.mark.parametrize("seed", range(10))
def test_matchings_hold_every_link_once_and_no_silo_twice(seed: int) -> None:
    graph = networkx.gnp_random_graph(12, 0.3, seed=seed)
    links = sorted(tuple(sorted(edge)) for edge in graph.edges)
    matchings = decompose(links, 12)
    assert sorted(link for matching in matchings for link in matching) == links
    for matching in matchings:
        ends = [end for link in matching for end in link]
        assert len(set(ends)) == len(ends)
    most = max(degree for _, degree in graph.degree)
    assert most <= len(matchings) <= 2 * most - 1


def test_the_probabilities_connect_as_well_as_a_fine_grid_finds() -> None:
    # Two triangles and a bridge: the bridge deserves more than an equal share.
    links = [(0, 1), (0, 2), (1, 2), (2, 3), (3, 4), (3, 5), (4, 5)]
    matchings = decompose(links, 6)
    tables = [laplacian(list(matching), 6) for matching in matchings]

    def connectivity(shares: tuple[float, ...]) -> float:
        expected = sum(
            share * table for share, table in zip(shares, tables, strict=True)
        )
        return float(np.linalg.eigvalsh(expected)[1])

    found = activation_probabilities(matchings, 6)
    assert np.mean(found) == pytest.approx(0.5, abs=1e-9)
    assert all(0 <= share <= 1 for share in found)
    total, grid = 0.5 * len(matchings), np.linspace(0, 1, 41)
    best = max(
        connectivity((*shares, total - sum(shares)))
        for shares in product(grid, repeat=len(matchings) - 1)
        if 0 <= total - sum(shares) <= 1
    )
    assert connectivity(found) >= best - 1e-3
    assert connectivity(found) > connectivity((0.5,) * len(matchings)) + 0.01


def test_each_matching_is_used_as_often_as_its_probability_says() -> None:
    matchings = [((0, 1),), ((1, 2),), ((0, 2),)]
    probabilities = (0.1, 0.5, 0.9)
    generator = np.random.default_rng(0)
    drawn = [draw_active(matchings, probabilities, generator) for _ in range(4000)]
    shares = [
        np.mean([matching[0] in links for links in drawn]) for matching in matchings
    ]
    np.testing.assert_allclose(shares, probabilities, atol=0.03)


@pytest.mark.parametrize("budget", [0.0, 1.1, float("nan")])
def test_a_budget_that_is_no_share_is_refused(budget: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        activation_probabilities([((0, 1),)], 2, budget)
