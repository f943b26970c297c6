import dataclasses
import math

import pytest
import torch

from strategies.distillation import (
    distillation_loss,
    edge_weight,
    multishot_loss,
    score_teachers,
)
from strategies.settings import FedEFMSettings, RunSettings


@pytest.fixture
def fedefm(run_settings: RunSettings) -> FedEFMSettings:
    return run_settings.fedefm


def change(settings: FedEFMSettings, **values: object) -> FedEFMSettings:
    return dataclasses.replace(settings, **values)  # type: ignore[arg-type]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_a_student_that_agrees_pays_nothing() -> None:
    logits = torch.tensor([[[[-3.0, 0.0, 5.0]]]])
    assert distillation_loss(logits, logits, temperature=2.0).item() == pytest.approx(
        0, abs=1e-6
    )


def test_the_loss_is_the_divergence_of_two_coins_times_the_squared_temperature() -> (
    None
):
    # At T = 2 the teacher's coin shows heads with p = 3/4, the student's with 1/2.
    teacher = torch.full((1, 1, 1, 1), 2 * math.log(3))
    student = torch.zeros(1, 1, 1, 1)
    expected = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    found = distillation_loss(student, teacher, temperature=2.0)
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_the_teacher_receives_no_gradient() -> None:
    teacher = torch.ones(1, 2, 3, 3, requires_grad=True)
    student = torch.zeros(1, 2, 3, 3, requires_grad=True)
    distillation_loss(student, teacher, temperature=1.0).backward()
    assert teacher.grad is None
    assert student.grad is not None
    # d/ds of a cross-entropy is sigmoid(s) - sigmoid(t), over 18 numbers.
    expected = (0.5 - 1 / (1 + math.exp(-1))) / 18
    assert student.grad.flatten()[0].item() == pytest.approx(expected, rel=1e-5)


def test_logits_of_different_size_are_refused() -> None:
    with pytest.raises(ValueError, match="must agree"):
        distillation_loss(
            torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 4, 4), temperature=1.0
        )


LABEL = torch.tensor(10.0)
DISTANCES = [torch.tensor(2.0), torch.tensor(4.0)]
WEIGHTS = [torch.tensor(0.5), torch.tensor(1.0)]


def test_teachers_are_averaged_and_mixed_with_the_labels(
    fedefm: FedEFMSettings,
) -> None:
    # 0.25 * (0.5 * 2 + 1 * 4) / 2 + 0.75 * 10
    found = multishot_loss(LABEL, DISTANCES, WEIGHTS, beta=0.25, settings=fedefm)
    assert found.item() == pytest.approx(0.25 * 2.5 + 7.5)


def test_the_sum_over_teachers_is_a_setting(fedefm: FedEFMSettings) -> None:
    settings = change(fedefm, reduction="sum")
    found = multishot_loss(LABEL, DISTANCES, WEIGHTS, beta=0.25, settings=settings)
    assert found.item() == pytest.approx(0.25 * 5 + 7.5)


def test_the_literal_paper_weighs_the_labels_too(fedefm: FedEFMSettings) -> None:
    # Eq. (2): (0.5 + 1) * [0.25 * (2 + 4) + 0.75 * 10]
    settings = change(fedefm, reduction="sum", weight_scope="loss")
    found = multishot_loss(LABEL, DISTANCES, WEIGHTS, beta=0.25, settings=settings)
    assert found.item() == pytest.approx(1.5 * (0.25 * 6 + 7.5))


def test_without_teachers_the_labels_alone_count(fedefm: FedEFMSettings) -> None:
    found = multishot_loss(LABEL, [], [], beta=0.5, settings=fedefm)
    assert found.item() == 10


def test_a_teacher_with_the_same_features_scores_one(fedefm: FedEFMSettings) -> None:
    maps = torch.randn(2, 5, 8, 8, generator=generator())
    scores = score_teachers(maps, {"same": maps, "opposite": -maps}, fedefm)
    assert scores["same"].item() == pytest.approx(1)
    assert scores["opposite"].item() < 0.7


def test_a_negative_score_weighs_nothing(fedefm: FedEFMSettings) -> None:
    weights = [
        edge_weight(torch.tensor(score), fedefm, generator=generator()).item()
        for score in (-0.4, 0.0, 0.8)
    ]
    assert weights == pytest.approx([0, 0, 0.8])


def test_the_controls_do_not_look_at_the_score(fedefm: FedEFMSettings) -> None:
    one = change(fedefm, edge_weight="one")
    random = change(fedefm, edge_weight="random")
    low, high = torch.tensor(-0.9), torch.tensor(0.9)
    assert edge_weight(low, one, generator=generator()).item() == 1
    drawn = [edge_weight(s, random, generator=generator()).item() for s in (low, high)]
    assert drawn[0] == drawn[1]
    assert 0 <= drawn[0] <= 1
