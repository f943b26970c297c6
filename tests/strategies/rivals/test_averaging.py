"""Means weighted by frames, in numbers that can be checked by hand."""

import pytest
import torch

from strategies.rivals.averaging import same_task_for_all, weighted_mean, zeros_of
from strategies.rivals.method import Memory, SiloAnswer


def answer(silo: str, frames: int, *values: float) -> SiloAnswer:
    return SiloAnswer(silo, "", {"w": torch.tensor(values)}, frames)


def test_silos_count_by_their_frames() -> None:
    mean = weighted_mean([answer("a", 1, 1.0, 0.0), answer("b", 3, 5.0, 4.0)])
    assert mean["w"].tolist() == [(1 * 1 + 3 * 5) / 4, (1 * 0 + 3 * 4) / 4]


def test_one_silo_is_its_own_mean() -> None:
    assert weighted_mean([answer("a", 7, 0.1)])["w"].item() == torch.tensor(0.1).item()


def test_a_silo_without_frames_counts_nothing() -> None:
    assert weighted_mean([answer("a", 0, 9.0), answer("b", 2, 5.0)])["w"].item() == 5


def test_the_sum_is_double_and_the_type_stays() -> None:
    answers = [answer("a", 1, 1e8), answer("b", 1, 1.0), answer("c", 1, -1e8)]
    mean = weighted_mean(answers)["w"]
    assert mean.dtype == torch.float32
    assert mean.item() == pytest.approx(1 / 3)  # in single precision it would be 0


def test_what_was_averaged_stays_as_it_was() -> None:
    answers = [answer("a", 1, 1.0), answer("b", 1, 3.0)]
    weighted_mean(answers)["w"].add_(1)
    assert [one.weights["w"].item() for one in answers] == [1, 3]


@pytest.mark.parametrize("frames", [None, 0])
def test_a_mean_of_nobody_is_refused(frames: int | None) -> None:
    answers = [] if frames is None else [answer("a", frames, 1.0)]
    with pytest.raises(ValueError, match="a silo with frames, got none"):
        weighted_mean(answers)


def test_every_silo_gets_the_global_model_itself() -> None:
    memory = Memory({"w": torch.ones(1)})
    tasks = same_task_for_all(memory, ["a", "b"])
    assert [(task.silo, task.owner, dict(task.aids)) for task in tasks] == [
        ("a", "", {}),
        ("b", "", {}),
    ]
    assert all(task.weights is memory.theta for task in tasks)


def test_zeros_have_the_shapes_and_types_of_a_model() -> None:
    state = {"w": torch.ones(2, 3), "n": torch.tensor(4)}
    zeros = zeros_of(state)
    assert zeros["w"].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert zeros["n"].dtype == torch.int64
    assert state["w"].sum() == 6
