import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from clients.adaptation import fine_losses as module
from clients.adaptation.fine_losses import FineLosses, binarised, fine_losses
from clients.adaptation.fine_passes import Labels, Passes
from models.network import SegmentationOutput
from strategies.adaptation_settings import AdaptationSettings, LossWeights
from strategies.settings import RunSettings, SettingValue

SURE = 60.0  # a logit whose sigmoid is 1
LEFT = torch.tensor([[1, 0], [1, 0]])
ALL = LossWeights(1, 1, 1, 1)
EMBEDDING_ONLY = LossWeights(0, 0, 1, 0)


@pytest.fixture
def settings(run_config: dict[str, SettingValue]) -> AdaptationSettings:
    return RunSettings.from_run_config(run_config).adapt


def sure(mask: Tensor) -> Tensor:
    return SURE * (2.0 * mask - 1.0)


def output(plane: Tensor, features: Tensor | None = None) -> SegmentationOutput:
    """Put a plane (batch, 2, 2) in the second of two classes; the first is noise."""
    logits = torch.stack([torch.full_like(plane, 7.0), plane], dim=1)
    if features is None:
        features = torch.eye(2).view(1, 2, 1, 2).repeat(len(plane), 1, 1, 1)
    return SegmentationOutput(logits, features)


def labels_of(mask: Tensor) -> Labels:
    """Return labels of the second class only."""
    batch = len(mask)
    return Labels(
        torch.stack([torch.zeros_like(mask), mask], dim=1).to(torch.uint8),
        torch.tensor([[False, True]]).repeat(batch, 1),
        torch.ones(batch, 1, 2, 2, dtype=torch.bool),
    )


def passes_of(
    student_weak: Tensor,
    student_strong: Tensor,
    teacher_weak: Tensor,
    teacher_strong: Tensor,
) -> Passes:
    planes = (student_weak, student_strong, teacher_weak, teacher_strong)
    return Passes(*(output(plane[None].float()) for plane in planes))


UNSURE = torch.zeros(2, 2)  # a probability of 0.5 everywhere
# Dice of it against two of four pixels, eq. (3): 1 - (2 * 1 + 1) / (2 + 2 + 1).
UNSURE_DICE = 0.4


def test_eq_2_the_student_is_held_to_the_teachers_decision(
    settings: AdaptationSettings,
) -> None:
    # The pseudo-label (all) is another one and must not matter.
    passes = passes_of(sure(LEFT), UNSURE, 0.1 * sure(LEFT), sure(1 - LEFT))
    labels = labels_of(torch.ones(1, 2, 2))
    found = fine_losses(passes, labels, LossWeights(5, 0, 0, 0), settings)
    assert found.consistency is not None
    assert found.consistency.item() == pytest.approx(0.5 * UNSURE_DICE + 0.5 * 0)


def test_eq_4_all_four_predictions_are_held_to_the_pseudo_label(
    settings: AdaptationSettings,
) -> None:
    wrong = 1 - (0 + 1) / (2 + 2 + 1)  # no pixel shared
    passes = passes_of(sure(LEFT), UNSURE, sure(1 - LEFT), UNSURE)
    found = fine_losses(passes, labels_of(LEFT[None]), ALL, settings)
    assert found.pseudo_label is not None
    expected = 0.5 * (UNSURE_DICE + 0 + UNSURE_DICE + wrong)
    assert found.pseudo_label.item() == pytest.approx(expected)


@pytest.mark.parametrize("inner_weight", [0.5, 1.0, 0.0])
def test_eqs_7_and_8_hold_the_teachers_strong_view_to_its_weak_one(
    settings: AdaptationSettings, inner_weight: float
) -> None:
    passes = passes_of(sure(1 - LEFT), sure(1 - LEFT), sure(LEFT), UNSURE)
    labels = labels_of(torch.ones(1, 2, 2))
    settings = replace(settings, prediction_inner_weight=inner_weight)
    found = fine_losses(passes, labels, LossWeights(0, 0, 0, 1), settings)
    assert found.prediction is not None
    focal = 0.8 * (1 - math.exp(-math.log(2))) ** 2 * math.log(2)
    expected = inner_weight * focal + inner_weight * UNSURE_DICE
    assert found.prediction.item() == pytest.approx(expected)


def test_eq_6_adds_up_both_views(settings: AdaptationSettings) -> None:
    # Cells: device left, rest right. In the weak view student and teacher agree; in
    # the strong one the student's device looks like the teacher's rest.
    swapped = torch.eye(2).flip(0).view(1, 2, 1, 2)
    plane = sure(LEFT)[None]
    passes = Passes(output(plane), output(plane, swapped), output(plane), output(plane))
    found = fine_losses(
        passes, labels_of(LEFT[None]), LossWeights(0, 0, 1, 0), settings
    )
    assert found.embedding is not None
    agree = -math.log(math.exp(1 / 0.3) / (math.exp(1 / 0.3) + 1))
    differ = -math.log(1 / (1 + math.exp(1 / 0.3)))
    assert found.embedding.item() == pytest.approx(agree + differ, rel=1e-5)
    settings = replace(settings, embedding_loss="zero")
    found = fine_losses(
        passes, labels_of(LEFT[None]), LossWeights(0, 0, 1, 0), settings
    )
    assert found.computed()["embedding"].item() == 0


def test_eq_9_weighs_the_four_terms() -> None:
    terms = FineLosses(*(torch.tensor(value) for value in (1.0, 10.0, 100.0, 1000.0)))
    assert terms.total(LossWeights(5, 2, 0.5, 1)).item() == 5 + 20 + 50 + 1000
    assert FineLosses(embedding=torch.tensor(2.0)).total(ALL).item() == 2
    with pytest.raises(ValueError, match="got none"):
        FineLosses().total(ALL)


def test_eq_3_flattens_the_batch(settings: AdaptationSettings) -> None:
    # Image 1 is unsure of two pixels, image 2 is right about none.
    masks = torch.stack([LEFT, torch.zeros(2, 2)])
    plane = torch.stack([UNSURE, sure(torch.zeros(2, 2))])
    weak = output(sure(masks))
    passes = Passes(output(plane), output(plane), weak, None)
    found = fine_losses(passes, labels_of(masks), LossWeights(1, 0, 0, 0), settings)
    assert found.consistency is not None
    # One ratio over both: not the mean of 0.4 and 0.
    assert found.consistency.item() == pytest.approx(0.4)


def test_a_class_without_pseudo_label_that_was_looked_for_counts_as_empty(
    settings: AdaptationSettings,
) -> None:
    labels = replace(labels_of(LEFT[None]), annotated=torch.ones(1, 2).bool())
    plane = torch.stack([UNSURE, sure(LEFT)])[None]
    one = SegmentationOutput(plane, torch.eye(2).view(1, 2, 1, 2))
    found = fine_losses(
        Passes(one, one, one, one), labels, LossWeights(0, 1, 0, 0), settings
    )
    assert found.pseudo_label is not None
    # Mean over classes of 1 - 1 / (4 * 0.5 + 1) and 0; four predictions at a half.
    assert found.pseudo_label.item() == pytest.approx(4 * 0.5 * (2 / 3 + 0) / 2)


def test_defect_4_a_device_begins_at_probability_one_half(
    settings: AdaptationSettings,
) -> None:
    logits = torch.tensor([-0.1, 0.1, 0.45, 0.55])  # 0.475, 0.525, 0.611, 0.634
    assert binarised(logits, settings.logit_threshold).tolist() == [0, 1, 1, 1]
    legacy = replace(settings, legacy_logit_threshold=True)
    assert binarised(logits, legacy.logit_threshold).tolist() == [0, 0, 0, 1]


def test_defect_4_the_legacy_threshold_changes_the_targets(
    settings: AdaptationSettings,
) -> None:
    teacher = torch.where(LEFT.bool(), 0.3, -SURE)  # probability 0.574
    passes = passes_of(sure(LEFT), sure(LEFT), teacher, sure(LEFT))
    losses = [
        fine_losses(passes, labels_of(LEFT[None]), LossWeights(1, 0, 0, 1), one)
        for one in (settings, replace(settings, legacy_logit_threshold=True))
    ]
    ours, legacy = (one.computed() for one in losses)
    assert ours["consistency"].item() == pytest.approx(0)
    # Nothing passes the threshold: the student's two pixels are then both wrong.
    assert legacy["consistency"].item() == pytest.approx(1 - 1 / (2 + 1))
    assert legacy["prediction"] > ours["prediction"]


def test_what_the_teacher_decides_carries_no_gradient(
    settings: AdaptationSettings,
) -> None:
    planes = [torch.randn(1, 2, 2, requires_grad=True) for _ in range(4)]
    passes = Passes(*(output(plane) for plane in planes))
    labels = labels_of(LEFT[None])
    losses = fine_losses(passes, labels, ALL, settings).computed()

    def reached(name: str) -> list[bool]:
        slopes = torch.autograd.grad(
            losses[name], planes, allow_unused=True, retain_graph=True
        )
        return [slope is not None and bool(slope.any()) for slope in slopes]

    assert reached("consistency") == [True, True, False, False]
    assert reached("pseudo_label") == [True, True, True, True]
    assert reached("prediction") == [False, False, False, True]


def test_what_is_unknown_or_hidden_has_no_say(settings: AdaptationSettings) -> None:
    torch.manual_seed(0)
    labels = labels_of(LEFT[None])
    labels.valid[0, 0, 1, 1] = False
    planes = torch.randn(4, 1, 2, 2)
    changed = planes.clone()
    changed[..., 1, 1] = 100.0
    other_class = torch.tensor([-9.0, 1.0]).view(2, 1, 1)
    noisy = [
        one._replace(logits=one.logits * other_class) for one in map(output, changed)
    ]
    first = fine_losses(Passes(*map(output, planes)), labels, ALL, settings)
    labels.masks[0, :, 1, 1] = 1
    labels.masks[0, 0] = 1
    second = fine_losses(Passes(*noisy), labels, ALL, settings)
    for name, loss in first.computed().items():
        torch.testing.assert_close(second.computed()[name], loss)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_defect_3_every_batch_size_works(
    settings: AdaptationSettings, batch: int
) -> None:
    generator = torch.Generator().manual_seed(batch)
    planes = torch.randn(4, batch, 2, 2, generator=generator)
    masks = LEFT.repeat(batch, 1, 1)
    found = fine_losses(Passes(*map(output, planes)), labels_of(masks), ALL, settings)
    assert len(found.computed()) == 4
    assert bool(torch.isfinite(found.total(ALL)))


@pytest.mark.parametrize(
    ("position", "name", "worker"),
    [
        (0, "consistency", "build_dice"),
        (1, "pseudo_label", "build_dice"),
        (2, "embedding", "embedding_loss"),
        (3, "prediction", "build_sim_to_real"),
    ],
)
def test_a_term_of_weight_zero_is_not_computed(
    settings: AdaptationSettings,
    monkeypatch: pytest.MonkeyPatch,
    position: int,
    name: str,
    worker: str,
) -> None:
    passes = passes_of(sure(LEFT), UNSURE, sure(LEFT), UNSURE)
    numbers = [1.0] * 4
    numbers[position] = 0.0
    if worker == "build_dice":
        numbers[0] = numbers[1] = 0.0
    weights = LossWeights(*numbers)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError(f"{worker} was called")

    monkeypatch.setattr(module, worker, refuse)
    found = fine_losses(passes, labels_of(LEFT[None]), weights, settings)
    assert name not in found.computed()
    assert getattr(found, name) is None
    expected = {n for n, value in vars(weights).items() if value}
    assert found.computed().keys() == expected


def test_the_strong_pass_of_the_teacher_is_asked_for_where_needed(
    settings: AdaptationSettings,
) -> None:
    passes = replace(passes_of(UNSURE, UNSURE, UNSURE, UNSURE), teacher_strong=None)
    labels = labels_of(LEFT[None])
    assert not module.needs_teacher_strong(LossWeights(5, 0, 0, 0))
    fine_losses(passes, labels, LossWeights(5, 0, 0, 0), settings)
    for weights in (
        LossWeights(0, 1, 0, 0),
        LossWeights(0, 0, 1, 0),
        LossWeights(0, 0, 0, 1),
    ):
        assert module.needs_teacher_strong(weights)
        with pytest.raises(ValueError, match="strong view"):
            fine_losses(passes, labels, weights, settings)
