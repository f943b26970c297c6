"""MOON: like the global model, unlike the silo's own former one."""

import math

import pytest
import torch
from torch.nn import functional

from models.network import SegmentationOutput
from strategies.rivals.method import Memory, Objective
from strategies.rivals.moon import ModelContrast, Moon, contrastive_loss
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

EAST, NORTH = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]])


def test_the_contrast_is_the_softmax_of_two_cosines() -> None:
    # z lies on z_glob and square to z_prev: -log(e^(1 / 0.5) / (e^(1 / 0.5) + e^0)).
    found = contrastive_loss(EAST, EAST, NORTH, temperature=0.5)
    expected = -math.log(math.exp(2) / (math.exp(2) + 1))
    assert found.item() == pytest.approx(expected, rel=1e-6)
    opposite = contrastive_loss(EAST, NORTH, EAST, temperature=0.5)
    assert opposite.item() == pytest.approx(expected + 2, rel=1e-6)


def test_the_contrast_is_a_cross_entropy_whose_first_answer_is_right() -> None:
    generator = torch.Generator().manual_seed(0)
    z, near, far = torch.randn(3, 4, 8, generator=generator)
    cosines = torch.stack(
        [functional.cosine_similarity(z, other) for other in (near, far)], 1
    )
    expected = functional.cross_entropy(cosines / 0.1, torch.zeros(4).long())
    found = contrastive_loss(z, near, far, temperature=0.1)
    torch.testing.assert_close(found, expected)


def test_equal_teachers_teach_nothing() -> None:
    z = torch.tensor([[1.0, 2.0]], requires_grad=True)
    loss = contrastive_loss(z, EAST, EAST, temperature=0.5)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert z.grad is not None
    torch.testing.assert_close(z.grad, torch.zeros(1, 2), atol=1e-6, rtol=0)


def test_features_of_zeros_are_no_division_by_zero() -> None:
    z = torch.zeros(1, 2, requires_grad=True)
    loss = contrastive_loss(z, EAST, NORTH, temperature=0.5)
    loss.backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


def test_features_are_averaged_over_the_frame_before_they_are_compared(
    run_settings: RunSettings,
) -> None:
    # Pixels 4 and -2 pool to 1: the student's features are its weights, (1, -1).
    images = torch.tensor([[[[4.0, -2.0]]]])
    plain = frame(masks=(0, 0))
    batch = Frame(images, plain.masks, plain.annotated, plain.valid)
    aids = {"previous": {"weight": torch.tensor([1.0, 1.0])}}
    received = {"weight": torch.tensor([1.0, -1.0])}
    told = visit(
        run_settings, received, aids, contrast_weight=3.0, contrast_temperature=0.5
    )
    objective = ModelContrast.of(told)
    assert listed(objective.teachers["global"]) == {"weight": [1.0, -1.0]}
    assert listed(objective.teachers["previous"]) == {"weight": [1.0, 1.0]}
    answers = {
        name: Scales(*model["weight"].tolist()).forward_with_features(images)
        for name, model in objective.teachers.items()
    }
    found = objective.loss(
        step(Scales(1.0, -1.0), batch, answers=answers, label_loss=10.0)
    )
    expected = 10 - 3 * math.log(math.exp(2) / (math.exp(2) + 1))
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_descending_moves_towards_the_global_model() -> None:
    model = Scales(1.0, 1.0)
    objective = ModelContrast({}, {}, weight=1.0, temperature=0.5)
    answers = {
        "global": SegmentationOutput(EAST, EAST[..., None, None]),
        "previous": SegmentationOutput(NORTH, NORTH[..., None, None]),
    }
    objective.loss(step(model, frame(masks=(0, 0)), answers=answers)).backward()
    assert model.weight.grad is not None
    east, north = (-model.weight.grad).tolist()
    assert east > 0 > north


@pytest.mark.parametrize(
    ("aids", "weight"),
    [({}, 1.0), ({"previous": {"weight": torch.tensor([1.0])}}, 0.0)],
)
def test_without_a_former_model_or_without_strength_only_labels_count(
    run_settings: RunSettings, aids: dict[str, dict[str, torch.Tensor]], weight: float
) -> None:
    received = {"weight": torch.tensor([2.0])}
    objective = ModelContrast.of(
        visit(run_settings, received, aids, contrast_weight=weight)
    )
    assert type(objective) is Objective
    assert not objective.teachers
    found = objective.loss(step(Scales(1.0), label_loss=10.0))
    assert found.item() == 10.0


def test_the_centre_averages_and_keeps_what_each_silo_sent(
    run_settings: RunSettings,
) -> None:
    memory = Memory(state(1.0), own={"previous": {"a": state(5.0)}})
    ask = Silos(by_silo(a=2.0, b=4.0), frames={"a": 1, "b": 3})
    after = play(Moon(terms(run_settings)), memory, ask)
    assert listed(after.theta) == {"w": [(2 + 3 * 4) / 4]}
    assert listed(ask.tasks()["a"].aids["previous"]) == {"w": [5.0]}
    assert ask.tasks()["b"].aids == {}
    assert listed(after.own["previous"]["a"]) == {"w": [2.0]}
    assert listed(after.own["previous"]["b"]) == {"w": [4.0]}


def test_a_missing_silos_former_model_stays(run_settings: RunSettings) -> None:
    memory = Memory(state(1.0), own={"previous": {"b": state(5.0)}})
    after = play(Moon(terms(run_settings)), memory, Silos(by_silo(a=2.0)))
    assert listed(after.own["previous"]["b"]) == {"w": [5.0]}
    assert play(Moon(terms(run_settings)), memory, Silos(by_silo())) is memory


def test_whose_features_are_contrasted_can_be_told(run_settings: RunSettings) -> None:
    aids = {"previous": {"weight": torch.tensor([1.0, 1.0])}}
    told = visit(run_settings, {}, aids, contrast_tap="detail.stride_4")
    assert ModelContrast.of(told).tap == "detail.stride_4"
    assert ModelContrast.of(visit(run_settings, {}, aids)).tap == ""
