"""FedNTD: the global model teaches where no label says that something is there."""

import math

import pytest
import torch

from models.network import SegmentationOutput
from strategies.rivals.fedntd import FedNTD, NotTrueTeacher, not_true_loss
from strategies.rivals.method import Memory, Objective
from strategies.settings import RunSettings
from tests.strategies.rivals.toy_federation import (
    Frame,
    Scales,
    Silos,
    by_silo,
    frame,
    listed,
    play,
    state,
    step,
    terms,
    visit,
)


def divergence(teacher: float, student: float, temperature: float = 1.0) -> float:
    """T^2 KL of two coins, of their logits, by hand."""
    p, q = (1 / (1 + math.exp(-x / temperature)) for x in (teacher, student))
    found = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    return temperature**2 * found


def logits(*values: float) -> torch.Tensor:
    return torch.tensor(values).reshape(1, -1, 1, 1)


def shares(*values: float) -> list[float]:
    exponentials = [math.exp(value) for value in values]
    return [one / sum(exponentials) for one in exponentials]


def softmax_divergence(
    teacher: list[float], student: list[float], temperature: float = 1.0
) -> float:
    """T^2 KL of two softmaxes, of their logits, by hand."""
    p = shares(*(value / temperature for value in teacher))
    q = shares(*(value / temperature for value in student))
    return temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_on_a_device_the_other_one_and_background_are_taught() -> None:
    # Class 0 is labelled as there: left are background, of logit 0, and class 1.
    batch = frame(masks=(1, 0))
    found = not_true_loss(logits(5.0, 1.0), logits(-5.0, 2.0), batch, temperature=2.0)
    expected = softmax_divergence([0.0, 2.0], [0.0, 1.0], 2.0)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert expected == pytest.approx(divergence(2.0, 1.0, 2.0))  # it is a coin


def test_on_background_only_which_device_rather_than_the_other_is_taught() -> None:
    batch = frame(masks=(0, 0))
    found = not_true_loss(logits(1.0, 0.5), logits(2.0, -1.0), batch, temperature=1.0)
    expected = softmax_divergence([2.0, -1.0], [1.0, 0.5])
    assert found.item() == pytest.approx(expected, rel=1e-5)
    # That both devices seem likelier to the teacher contradicts the label: not taught.
    sure = not_true_loss(logits(1.0, 0.5), logits(6.0, 5.5), batch, temperature=1.0)
    assert sure.item() == pytest.approx(0.0, abs=1e-6)


def test_all_of_a_class_that_the_site_does_not_annotate_is_taught() -> None:
    # What stands in the mask of an unannotated class says nothing.
    batch = frame(masks=(1, 1), annotated=(True, False))
    found = not_true_loss(logits(5.0, 1.0), logits(-5.0, 2.0), batch, temperature=1.0)
    assert found.item() == pytest.approx(divergence(2.0, 1.0), rel=1e-5)


def test_without_any_annotation_every_class_teaches_its_coin() -> None:
    batch = frame(masks=(0, 0), annotated=(False, False))
    found = not_true_loss(logits(1.0, 0.0), logits(2.0, -1.0), batch, temperature=1.0)
    expected = (divergence(2.0, 1.0) + divergence(-1.0, 0.0)) / 2
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_three_devices_are_taught_without_the_true_one() -> None:
    batch = frame(masks=(0, 1, 0))
    found = not_true_loss(
        logits(1.0, 9.0, 0.0), logits(2.0, 0.0, -1.0), batch, temperature=1.0
    )
    expected = softmax_divergence([0.0, 2.0, -1.0], [0.0, 1.0, 0.0])
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_pixels_outside_the_valid_area_do_not_count() -> None:
    batch = Frame(
        torch.ones(1, 1, 1, 2),
        torch.zeros(1, 2, 1, 2, dtype=torch.uint8),
        torch.tensor([[True, True]]),
        torch.tensor([[[[True, False]]]]),
    )
    student = torch.tensor([[[[1.0, 7.0]], [[0.0, 5.0]]]], requires_grad=True)
    teacher = torch.tensor([[[[2.0, -7.0]], [[-1.0, 3.0]]]])
    found = not_true_loss(student, teacher, batch, temperature=1.0)
    found.backward()
    expected = softmax_divergence([2.0, -1.0], [1.0, 0.0])
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert student.grad is not None
    assert student.grad[0, :, 0, 1].tolist() == [0, 0]
    assert student.grad[0, 0, 0, 0] != 0


def test_where_everything_is_true_nothing_is_taught() -> None:
    student = logits(1.0, 2.0).requires_grad_()
    found = not_true_loss(
        student, logits(-3.0, -3.0), frame(masks=(1, 1)), temperature=1.0
    )
    found.backward()
    assert found.item() == 0.0
    assert student.grad is not None
    assert student.grad.abs().sum() == 0


def test_every_frame_has_its_own_truth() -> None:
    batch = Frame(
        torch.ones(2, 1, 1, 1),
        torch.tensor([1, 0, 0, 1], dtype=torch.uint8).reshape(2, 2, 1, 1),
        torch.ones(2, 2, dtype=torch.bool),
        torch.ones(2, 1, 1, 1, dtype=torch.bool),
    )
    student = torch.tensor([9.0, 1.0, 0.0, 9.0]).reshape(2, 2, 1, 1)
    teacher = torch.tensor([0.0, 2.0, -1.0, 0.0]).reshape(2, 2, 1, 1)
    expected = (divergence(2.0, 1.0) + divergence(-1.0, 0.0)) / 2
    found = not_true_loss(student, teacher, batch, temperature=1.0)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_logits_of_different_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="must agree"):
        not_true_loss(logits(1.0), logits(1.0, 2.0), frame(), temperature=1.0)


def test_the_arrived_model_teaches_with_strength_beta(
    run_settings: RunSettings,
) -> None:
    told = visit(
        run_settings,
        {"weight": torch.tensor([2.0])},
        not_true_weight=3.0,
        temperature=2.0,
    )
    objective = NotTrueTeacher.of(told)
    assert listed(objective.teachers["global"]) == {"weight": [2.0]}
    answers = {"global": SegmentationOutput(logits(2.0, -1.0), logits(2.0, -1.0))}
    both = frame(masks=(0, 0))
    found = objective.loss(
        step(Scales(1.0, 0.5), both, answers=answers, label_loss=10.0)
    )
    expected = softmax_divergence([2.0, -1.0], [1.0, 0.5], 2.0)
    assert found.item() == pytest.approx(10 + 3 * expected, rel=1e-6)


def test_without_strength_only_labels_count(run_settings: RunSettings) -> None:
    objective = NotTrueTeacher.of(visit(run_settings, {}, not_true_weight=0.0))
    assert type(objective) is Objective
    assert objective.loss(step(Scales(1.0), label_loss=10.0)).item() == 10.0


def test_the_centre_averages_by_frames(run_settings: RunSettings) -> None:
    ask = Silos(by_silo(a=2.0, b=4.0), frames={"a": 1, "b": 3})
    memory = Memory(state(1.0))
    after = play(FedNTD(terms(run_settings)), memory, ask)
    assert listed(after.theta) == {"w": [(2 + 3 * 4) / 4]}
    assert all(not task.aids for task in ask.asked[0])
    assert play(FedNTD(terms(run_settings)), memory, Silos(by_silo())) is memory
