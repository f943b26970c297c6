"""Neighbours on a ring, each model one number; a step at a silo adds its number."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from strategies.rivals.gossip import Gossip, combine, ring_neighbours
from strategies.rivals.method import Ask, Memory, Method, SiloAnswer, SiloTask, Terms
from strategies.settings import RunSettings

STEP = {"a": 1.0, "b": 10.0, "c": 100.0, "d": 1000.0}
START = {"w": torch.tensor([0.0])}


def asker(phases: list[list[SiloTask]], lost: Sequence[tuple[str, str]] = ()) -> Ask:
    """Answer every task but the lost ones, named by owner and silo."""

    def ask(tasks: Sequence[SiloTask]) -> list[SiloAnswer]:
        phases.append(list(tasks))
        answers = [
            SiloAnswer(
                task.silo, task.owner, {"w": task.weights["w"] + STEP[task.silo]}, 1
            )
            for task in tasks
            if (task.owner, task.silo) not in lost
        ]
        return sorted(answers, key=lambda answer: (answer.owner, answer.silo))

    return ask


@pytest.fixture
def terms(run_settings: RunSettings) -> Terms:
    return Terms(run_settings.rival, ("a", "b", "c"), steps=1, seed=0)


def models(method: Method, memory: Memory) -> list[float]:
    return [method.personal(memory, silo)["w"].item() for silo in method.terms.silos]


def test_a_round_is_the_released_codes_by_hand(terms: Terms) -> None:
    method, phases = Gossip(terms), []
    memory = method.play(method.begin(START), 1, asker(phases))
    at_home, visits = phases
    assert [(one.silo, one.owner) for one in at_home] == [
        ("a", ""),
        ("b", ""),
        ("c", ""),
    ]
    # At home: 1, 10, 100. Then copies of the others step on the silo's frames.
    sent = {(one.owner, one.silo): one.weights["w"].item() for one in visits}
    assert sent == {
        ("b", "a"): 10,
        ("c", "a"): 100,
        ("a", "b"): 1,
        ("c", "b"): 100,
        ("a", "c"): 1,
        ("b", "c"): 10,
    }
    assert memory.theta["w"].item() == 37  # (1 + 10 + 100) / 3, before any visit
    assert models(method, memory) == [
        0.5 * 1 + 0.25 * (10 + 1) + 0.25 * (100 + 1),
        0.5 * 10 + 0.25 * (1 + 10) + 0.25 * (100 + 10),
        0.5 * 100 + 0.25 * (1 + 100) + 0.25 * (10 + 100),
    ]


def test_nobody_ever_gets_the_mean(terms: Terms) -> None:
    method, phases = Gossip(terms), []
    first = method.play(method.begin(START), 1, asker(phases))
    method.play(first, 2, asker(phases))
    started = [task.weights["w"].item() for task in phases[2]]
    assert started == models(method, first)
    assert first.theta["w"].item() not in started


def test_a_silo_that_failed_keeps_its_own_and_not_the_mean(terms: Terms) -> None:
    method, phases = Gossip(terms), []
    memory = method.play(method.begin(START), 1, asker(phases, lost=[("", "b")]))
    assert all("b" not in (task.silo, task.owner) for task in phases[1])
    assert memory.theta["w"].item() == (1 + 100) / 2
    assert models(method, memory) == [
        0.5 * 1 + 0.5 * (100 + 1),
        0,
        0.5 * 100 + 0.5 * (1 + 100),
    ]


def test_the_part_of_a_lost_copy_goes_to_the_other(terms: Terms) -> None:
    method = Gossip(terms)
    lost = [("b", "a"), ("a", "b"), ("c", "b")]
    memory = method.play(method.begin(START), 1, asker([], lost))
    assert models(method, memory)[:2] == [0.5 * 1 + 0.5 * (100 + 1), 10]


def test_without_an_answer_nothing_changes(terms: Terms) -> None:
    method, phases = Gossip(terms), []
    everybody = [("", silo) for silo in terms.silos]
    begun = method.begin(START)
    memory = method.play(begun, 1, asker(phases, everybody))
    assert len(phases) == 1
    assert memory.theta is begun.theta
    assert models(method, memory) == [0, 0, 0]


def test_without_visit_steps_nothing_travels_and_neighbours_are_averaged(
    terms: Terms,
) -> None:
    settings = replace(terms.settings, visit_steps=0, gossip_share=0.8)
    method, phases = Gossip(replace(terms, settings=settings)), []
    memory = method.play(method.begin(START), 1, asker(phases))
    assert len(phases) == 1
    assert models(method, memory) == pytest.approx(
        [0.2 * 1 + 0.4 * 110, 0.2 * 10 + 0.4 * 101, 0.2 * 100 + 0.4 * 11]
    )


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, [1, 10, 100]), (1.0, [56, 60.5, 105.5])]
)
def test_the_share_goes_from_none_to_all(
    terms: Terms, share: float, expected: list[float]
) -> None:
    settings = replace(terms.settings, gossip_share=share)
    method = Gossip(replace(terms, settings=settings))
    memory = method.play(method.begin(START), 1, asker([]))
    assert models(method, memory) == pytest.approx(expected)


def test_the_memory_before_stays_as_it_was(terms: Terms) -> None:
    method = Gossip(terms)
    first = method.play(method.begin(START), 1, asker([]))
    before = models(method, first)
    method.play(first, 2, asker([]))
    assert models(method, first) == before
    assert START["w"].item() == 0


def test_a_lone_silo_trains_alone(terms: Terms) -> None:
    method, phases = Gossip(replace(terms, silos=("a",))), []
    memory = method.play(method.begin(START), 1, asker(phases))
    assert len(phases) == 1
    assert memory.theta["w"].item() == method.personal(memory, "a")["w"].item() == 1


@pytest.mark.parametrize(
    ("silos", "expected"),
    [
        ("a", [()]),
        ("ab", [("b",), ("a",)]),
        ("abc", [("b", "c"), ("a", "c"), ("a", "b")]),
        ("abcd", [("b", "d"), ("a", "c"), ("b", "d"), ("a", "c")]),
    ],
)
def test_neighbours_stand_on_both_sides(
    silos: str, expected: list[tuple[str, ...]]
) -> None:
    assert [ring_neighbours(tuple(silos), silo) for silo in silos] == expected


def test_models_are_mixed_in_double_and_keep_their_type() -> None:
    states = [{"w": torch.tensor([1.0, 1e8])}, {"w": torch.tensor([2.0, -1e8])}]
    mixed = combine(states, [0.5, 0.5])["w"]
    assert mixed.dtype == torch.float32
    assert mixed.tolist() == [1.5, 0.0]


def test_a_variance_is_never_pushed_below_those_that_are_mixed() -> None:
    states = [
        {"bn.running_var": torch.tensor([9.0]), "w": torch.tensor([9.0])},
        {"bn.running_var": torch.tensor([1.0]), "w": torch.tensor([1.0])},
    ]
    mixed = combine(states, [-0.5, 1.5])
    assert mixed["w"].item() == -0.5 * 9 + 1.5
    assert mixed["bn.running_var"].item() == 1


@pytest.mark.parametrize("weights", [[], [1.0], [0.5, 0.25, 0.25]])
def test_every_model_wants_one_weight(weights: list[float]) -> None:
    with pytest.raises(ValueError, match=f"2 models and {len(weights)} weights"):
        combine([START, START], weights)
