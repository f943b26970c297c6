"""FedGKD: the mean of the last global models teaches."""

import math

import pytest
import torch

from models.network import SegmentationOutput
from strategies.rivals.fedgkd import FedGKD, FormerTeacher
from strategies.rivals.method import Memory, Objective
from strategies.settings import RunSettings
from tests.strategies.rivals.toy_federation import (
    Frame,
    Scales,
    Silos,
    by_silo,
    listed,
    play,
    state,
    step,
    terms,
    visit,
)


def play_rounds(method: FedGKD, *results: float) -> tuple[Memory, list[Silos]]:
    """Rounds from 0 on whose silo answers one number after the other."""
    memory, asked = Memory(state(0.0)), []
    for number, result in enumerate(results, 1):
        asked.append(Silos(by_silo(a=result)))
        memory = play(method, memory, asked[-1], number)
    return memory, asked


def test_the_teacher_is_the_mean_of_the_last_global_models(
    run_settings: RunSettings,
) -> None:
    method = FedGKD(terms(run_settings, ["a"], former_models=3))
    _, asked = play_rounds(method, 3.0, 6.0, 12.0, 0.0)
    taught = [silos.tasks()["a"].aids for silos in asked]
    assert taught[0] == {}  # 0.0 alone, which arrives anyhow
    assert listed(taught[1]["former"]) == {"w": [(3 + 0) / 2]}
    assert listed(taught[2]["former"]) == {"w": [(6 + 3 + 0) / 3]}
    assert listed(taught[3]["former"]) == {"w": [(12 + 6 + 3) / 3]}


def test_no_more_models_are_kept_than_are_needed(run_settings: RunSettings) -> None:
    method = FedGKD(terms(run_settings, ["a"], former_models=3))
    memory, _ = play_rounds(method, 3.0, 6.0, 12.0, 0.0)
    kept = [memory.shared[name]["w"].item() for name in sorted(memory.shared)]
    assert kept == [12.0, 6.0]


def test_a_long_memory_stays_in_order(run_settings: RunSettings) -> None:
    method = FedGKD(terms(run_settings, ["a"], former_models=13))
    memory, _ = play_rounds(method, *(float(one) for one in range(1, 15)))
    kept = [memory.shared[name]["w"].item() for name in sorted(memory.shared)]
    assert kept == [float(one) for one in range(13, 1, -1)]


def test_with_a_memory_of_one_the_arrived_model_teaches(
    run_settings: RunSettings,
) -> None:
    method = FedGKD(terms(run_settings, ["a"], former_models=1))
    memory, asked = play_rounds(method, 3.0, 6.0)
    assert not memory.shared
    assert all(not silos.tasks()["a"].aids for silos in asked)
    told = visit(run_settings, {"weight": torch.tensor([2.0])})
    teachers = FormerTeacher.of(told).teachers
    assert listed(teachers["former"]) == {"weight": [2.0]}


def test_the_centre_averages_by_frames(run_settings: RunSettings) -> None:
    ask = Silos(by_silo(a=2.0, b=4.0), frames={"a": 1, "b": 3})
    after = play(FedGKD(terms(run_settings)), Memory(state(1.0)), ask)
    assert listed(after.theta) == {"w": [(2 + 3 * 4) / 4]}


def test_a_round_in_which_nobody_answers_changes_nothing(
    run_settings: RunSettings,
) -> None:
    memory = Memory(state(1.0), {"former-0001": state(0.0)})
    method = FedGKD(terms(run_settings))
    assert play(method, memory, Silos(by_silo())) is memory


def test_a_round_goes_on_without_a_missing_silo(run_settings: RunSettings) -> None:
    memory = Memory(state(1.0), {"former-0001": state(0.0)})
    after = play(FedGKD(terms(run_settings)), memory, Silos(by_silo(b=4.0)))
    assert listed(after.theta) == {"w": [4.0]}
    assert [one["w"].item() for one in after.shared.values()] == [1.0, 0.0]


def test_half_of_gamma_times_the_divergence_is_added(
    run_settings: RunSettings,
) -> None:
    # At T = 2 the teacher's coin shows heads with 3/4, the student's with 1/2; the
    # second pixel is not valid.
    batch = Frame(
        torch.zeros(1, 1, 1, 2),
        torch.zeros(1, 1, 1, 2, dtype=torch.uint8),
        torch.tensor([[False]]),
        torch.tensor([[[[True, False]]]]),
    )
    teacher = torch.tensor([[[[2 * math.log(3), 5.0]]]])
    told = visit(
        run_settings,
        {"weight": torch.tensor([2.0])},
        {"former": {"weight": torch.tensor([1.5])}},
        former_weight=0.5,
        temperature=2.0,
    )
    objective = FormerTeacher.of(told)
    assert listed(objective.teachers["former"]) == {"weight": [1.5]}
    answers = {"former": SegmentationOutput(teacher, teacher)}
    found = objective.loss(step(Scales(1.0), batch, answers=answers, label_loss=10.0))
    divergence = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert found.item() == pytest.approx(10 + 0.25 * divergence, rel=1e-6)


def test_without_strength_only_labels_count(run_settings: RunSettings) -> None:
    objective = FormerTeacher.of(visit(run_settings, {}, former_weight=0.0))
    assert type(objective) is Objective
    assert objective.loss(step(Scales(1.0), label_loss=10.0)).item() == 10.0
