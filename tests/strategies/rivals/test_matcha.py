"""Random matchings: the mixing by hand, its matrix, its step and its draws."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from strategies.rivals.matcha import (
    Matcha,
    Plan,
    best_step,
    contraction,
    mix,
    mixing_matrix,
)
from strategies.rivals.method import Ask, Memory, SiloAnswer, SiloTask, Terms
from strategies.settings import RunSettings
from strategies.topologies.matcha import laplacian
from strategies.topologies.trees import Pair

STEP = {"a": 1.0, "b": 10.0, "c": 100.0, "d": 1000.0}
START = {"w": torch.tensor([0.0])}


@pytest.fixture
def terms(run_settings: RunSettings) -> Terms:
    return Terms(run_settings.rival, ("a", "b", "c", "d"), steps=1, seed=3)


def asker(tasks: list[SiloTask], absent: str = "") -> Ask:
    def ask(asked: Sequence[SiloTask]) -> list[SiloAnswer]:
        tasks.extend(asked)
        return [
            SiloAnswer(one.silo, "", {"w": one.weights["w"] + STEP[one.silo]}, 1)
            for one in asked
            if one.silo not in absent
        ]

    return ask


def models(method: Matcha, memory: Memory) -> list[float]:
    return [method.personal(memory, silo)["w"].item() for silo in method.terms.silos]


class TwoLinks(Matcha):
    """Of which every round has the links a-b and c-d, and alpha is a quarter."""

    def links(self, number: int) -> list[Pair]:
        return [(0, 1), (2, 3)]


def two_links(terms: Terms) -> TwoLinks:
    method = TwoLinks(terms)
    method.plan.alpha = 0.25
    return method


def test_linked_silos_approach_each_other_by_hand(terms: Terms) -> None:
    method = two_links(terms)
    memory = method.play(method.begin(START), 1, asker([]))
    assert models(method, memory) == [
        1 + 0.25 * (10 - 1),
        10 + 0.25 * (1 - 10),
        100 + 0.25 * (1000 - 100),
        1000 + 0.25 * (100 - 1000),
    ]
    assert memory.theta["w"].item() == 1111 / 4


def test_every_silo_goes_on_from_its_own_model(terms: Terms) -> None:
    method, tasks = two_links(terms), []
    first = method.play(method.begin(START), 1, asker(tasks))
    second = method.play(first, 2, asker(tasks))
    assert [task.weights["w"].item() for task in tasks[4:]] == models(method, first)
    a, b = models(method, first)[0] + 1, models(method, first)[1] + 10
    assert models(method, second)[0] == a + 0.25 * (b - a)


def test_links_of_a_missing_silo_fall_away(terms: Terms) -> None:
    method = two_links(terms)
    memory = method.play(method.begin(START), 1, asker([], absent="b"))
    assert models(method, memory)[:2] == [1, 0]
    assert models(method, memory)[2] == 100 + 0.25 * 900
    assert memory.theta["w"].item() == pytest.approx(1101 / 3)  # of those that came


def test_without_an_answer_nothing_changes(terms: Terms) -> None:
    method = two_links(terms)
    begun = method.begin(START)
    memory = method.play(begun, 1, asker([], absent="abcd"))
    assert memory.theta is begun.theta
    assert models(method, memory) == [0, 0, 0, 0]


def test_who_has_no_link_keeps_its_tensors_to_the_bit() -> None:
    states = {name: {"w": torch.tensor([STEP[name] / 3])} for name in "abc"}
    mixed = mix(states, mixing_matrix([(0, 2)], 3, 0.5))
    assert mixed["b"] is states["b"]
    assert mixed["a"]["w"].item() == pytest.approx((1 + 100) / 6)


@pytest.mark.parametrize("size", [2, 3, 4, 5, 8])
def test_the_matrix_is_symmetric_and_keeps_the_mean(size: int) -> None:
    plan = Plan(size, 0.5)
    links = [link for matching in plan.matchings for link in matching]
    for active in ([], links[:1], links):
        matrix = mixing_matrix(active, size, plan.alpha)
        np.testing.assert_array_equal(matrix, matrix.T)
        np.testing.assert_allclose(matrix.sum(0), 1)
        np.testing.assert_allclose(matrix.sum(1), 1)
        if size <= 4:  # beyond, the paper's alpha may leave a silo less than nothing
            assert matrix.min() > -1e-12


@pytest.mark.parametrize("budget", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("size", [2, 3, 4, 7])
def test_silos_approach_one_another_in_expectation(size: int, budget: float) -> None:
    plan = Plan(size, budget)
    found = contraction(plan.alpha, plan.matchings, plan.probabilities, size)
    assert 0 <= found < 1
    for other in (0.8 * plan.alpha, 1.2 * plan.alpha, 0.0):
        assert contraction(other, plan.matchings, plan.probabilities, size) > found


@pytest.mark.parametrize("size", [4, 6])
def test_the_step_is_that_of_the_closed_form_where_all_matchings_are_alike(
    size: int,
) -> None:
    # Perfect matchings: E[L] = p n (I - J), sum_j L_j^2 = 2 n (I - J), so the norm is
    # 1 - 2 a p n + a^2 (p^2 n^2 + 2 p (1 - p) n), least at a = 1 / (p n + 2 (1 - p)).
    share = 0.25
    plan = Plan(size, share)
    assert plan.alpha == pytest.approx(1 / (share * size + 2 * (1 - share)))


def test_the_contraction_is_that_of_all_rounds_that_can_be() -> None:
    matchings = [((0, 1),), ((1, 2),), ((0, 2),)]
    chances = (0.5, 0.25, 0.75)
    mean, gram = np.full((3, 3), 1 / 3), np.zeros((3, 3))
    for number in range(8):
        used = [bool(number >> bit & 1) for bit in range(3)]
        chance = np.prod([p if on else 1 - p for p, on in zip(chances, used, strict=1)])
        links = [one for (one,), on in zip(matchings, used, strict=True) if on]
        matrix = mixing_matrix(links, 3, 0.3)
        gram += chance * matrix.T @ matrix
    expected = np.linalg.norm(gram - mean, 2)
    assert contraction(0.3, matchings, chances, 3) == pytest.approx(expected)
    step = best_step(matchings, chances, 3)
    assert contraction(step, matchings, chances, 3) < expected


def test_with_all_links_in_every_round_everybody_gets_the_mean(terms: Terms) -> None:
    settings = replace(terms.settings, activation=1.0)
    method = Matcha(replace(terms, settings=settings))
    memory = method.play(method.begin(START), 1, asker([]))
    assert models(method, memory) == pytest.approx([1111 / 4] * 4, rel=1e-6)


@pytest.mark.parametrize("budget", [0.25, 0.5])
def test_a_round_uses_the_budgets_share_of_links_on_average(
    terms: Terms, budget: float
) -> None:
    settings = replace(terms.settings, activation=budget)
    method = Matcha(replace(terms, settings=settings))
    used = [len(method.links(number)) for number in range(1, 1001)]
    assert np.mean(used) / 6 == pytest.approx(budget, abs=0.04)


def test_links_are_those_of_seed_and_round(terms: Terms) -> None:
    first, second = Matcha(terms), Matcha(terms)
    other = Matcha(replace(terms, seed=4))
    rounds = range(1, 21)
    assert [first.links(n) for n in rounds] == [second.links(n) for n in rounds]
    assert [first.links(n) for n in rounds] != [other.links(n) for n in rounds]
    assert len({tuple(first.links(n)) for n in rounds}) > 3


def test_a_lone_silo_has_nobody_to_mix_with(terms: Terms) -> None:
    method = Matcha(replace(terms, silos=("a",)))
    memory = method.play(method.begin(START), 1, asker([]))
    assert memory.theta["w"].item() == models(method, memory)[0] == 1


def test_a_laplacian_is_degrees_minus_links() -> None:
    expected = [[2, -1, -1], [-1, 1, 0], [-1, 0, 1]]
    np.testing.assert_array_equal(laplacian([(0, 1), (0, 2)], 3), expected)
