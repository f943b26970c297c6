import dataclasses
import math

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, kl_divergence

from strategies.distillation import (
    classification_distillation_loss,
    distillation_loss,
    distillation_shares,
    multishot_loss,
)
from strategies.fedefm_settings import FedEFMSettings
from strategies.settings import RunSettings


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


def pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a student and a teacher: two frames, three classes, 4 x 4 px."""
    source = torch.Generator().manual_seed(seed)
    both = 3 * torch.randn(2, 2, 3, 4, 4, generator=source)
    return both[0], both[1]


def test_only_valid_pixels_and_chosen_classes_count() -> None:
    student, teacher = pair()
    valid = torch.rand(2, 1, 4, 4, generator=generator()) < 0.6
    classes = torch.tensor([[True, False, True], [False, False, True]])
    divergence = kl_divergence(
        Bernoulli(logits=teacher / 2), Bernoulli(logits=student / 2)
    )
    counts = valid & classes[..., None, None]
    found = distillation_loss(
        student, teacher, temperature=2.0, valid=valid, classes=classes
    )
    assert found.item() == pytest.approx(4 * divergence[counts].mean().item(), rel=1e-5)


def test_what_does_not_count_may_be_anything() -> None:
    student, teacher = pair()
    valid = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    valid[..., 0] = False
    options = {"temperature": 2.0, "valid": valid}
    expected = distillation_loss(student, teacher, **options)
    student[..., 0], teacher[..., 0] = 1e6, -1e6
    student.requires_grad_()
    found = distillation_loss(student, teacher, **options)
    found.backward()
    assert found.item() == pytest.approx(expected.item())
    assert float(student.grad[..., 0].abs().max()) == 0
    assert float(student.grad[..., 1:].abs().min()) > 0


def test_masks_that_let_everything_through_change_nothing() -> None:
    student, teacher = pair()
    plain = distillation_loss(student, teacher, temperature=2.0)
    masked = distillation_loss(
        student,
        teacher,
        temperature=2.0,
        valid=torch.ones(2, 1, 4, 4, dtype=torch.bool),
        classes=torch.ones(2, 3, dtype=torch.bool),
        weights=torch.ones(2),
    )
    assert masked.item() == pytest.approx(plain.item(), rel=1e-6)


def test_a_weight_multiplies_what_its_frame_costs() -> None:
    student, teacher = pair()
    alone = [
        distillation_loss(student[k : k + 1], teacher[k : k + 1], temperature=1.0)
        for k in range(2)
    ]
    found = distillation_loss(
        student, teacher, temperature=1.0, weights=torch.tensor([0.5, 3.0])
    )
    expected = (0.5 * alone[0] + 3.0 * alone[1]) / 2
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_shares_of_frames_average_to_the_loss_also_behind_masks() -> None:
    student, teacher = pair()
    valid = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    valid[1, :, :3] = False  # a quarter of the second frame is left
    options = {"temperature": 2.0, "valid": valid}
    shares = distillation_shares(student, teacher, **options)
    loss = distillation_loss(student, teacher, **options)
    assert shares.shape == (2,)
    assert shares.mean().item() == pytest.approx(loss.item(), rel=1e-6)


def test_when_nothing_counts_the_loss_and_its_gradients_are_zero() -> None:
    student, teacher = pair()
    student.requires_grad_()
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    found = distillation_loss(student, teacher, temperature=2.0, classes=nothing)
    found.backward()
    assert found.item() == 0
    assert torch.equal(student.grad, torch.zeros_like(student))


def test_masks_of_another_shape_are_refused() -> None:
    student, teacher = pair()
    with pytest.raises(ValueError, match=r"'valid' must be.*\(2, 1, 4, 4\)"):
        distillation_loss(
            student, teacher, temperature=1.0, valid=torch.ones(2, 3, 4, 4).bool()
        )
    with pytest.raises(ValueError, match="'classes' must be"):
        distillation_loss(
            student, teacher, temperature=1.0, classes=torch.ones(2, 1).bool()
        )


def test_image_logits_are_compared_as_one_softmax_times_the_squared_temperature() -> (
    None
):
    # At T = 2 the teacher says 3/4, 1/8, 1/8 and the student a third each.
    teacher = 2 * torch.tensor([[6.0, 1.0, 1.0]]).log()
    student = torch.zeros(1, 3)
    expected = 4 * (0.75 * math.log(0.75 * 3) + 0.25 * math.log(0.125 * 3))
    found = classification_distillation_loss(student, teacher, 2.0)
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_image_losses_agree_with_torch_and_are_averaged_over_the_batch() -> None:
    student = torch.randn(5, 6, generator=generator(), requires_grad=True)
    teacher = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    teacher.requires_grad_()
    expected = kl_divergence(
        Categorical(logits=teacher / 3), Categorical(logits=student / 3)
    ).mean()
    found = classification_distillation_loss(student, teacher, 3.0)
    assert found.item() == pytest.approx(9 * expected.item(), rel=1e-5)
    found.backward()
    assert teacher.grad is None
    # d/ds of T^2 KL is T (softmax(s / T) - softmax(t / T)), over the batch.
    slope = 3 * ((student / 3).softmax(1) - (teacher / 3).softmax(1)) / 5
    torch.testing.assert_close(student.grad, slope.detach())
    same = classification_distillation_loss(teacher, teacher, 3.0)
    assert same.item() == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="must agree"):
        classification_distillation_loss(student, teacher[:, :4], 3.0)


FRAME_LABELS = torch.tensor([10.0, 20.0])
FRAME_LOSSES = [torch.tensor([2.0, 4.0]), torch.tensor([6.0, 8.0])]
FRAME_WEIGHTS = [torch.tensor([0.5, 0.0]), torch.tensor([1.0, 0.25])]


def test_weights_of_frames_multiply_frame_by_frame(fedefm: FedEFMSettings) -> None:
    # Teachers: (0.5 * 2 + 0 * 4) / 2 = 0.5 and (1 * 6 + 0.25 * 8) / 2 = 4.
    label = torch.tensor(15.0)
    found = multishot_loss(
        label, FRAME_LOSSES, FRAME_WEIGHTS, beta=0.25, settings=fedefm
    )
    assert found.item() == pytest.approx(0.25 * (0.5 + 4) / 2 + 0.75 * 15)
    settings = change(fedefm, reduction="sum")
    found = multishot_loss(
        label, FRAME_LOSSES, FRAME_WEIGHTS, beta=0.25, settings=settings
    )
    assert found.item() == pytest.approx(0.25 * (0.5 + 4) + 0.75 * 15)


def test_the_literal_paper_can_weigh_frame_by_frame_too(fedefm: FedEFMSettings) -> None:
    settings = change(fedefm, reduction="sum", weight_scope="loss")
    # Frame 0: (0.5 + 1) [0.25 (2 + 6) + 0.75 * 10]; frame 1: 0.25 [0.25 * 12 + 15].
    expected = (1.5 * (0.25 * 8 + 7.5) + 0.25 * (0.25 * 12 + 15)) / 2
    found = multishot_loss(
        FRAME_LABELS, FRAME_LOSSES, FRAME_WEIGHTS, beta=0.25, settings=settings
    )
    assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize("scope", ["teacher", "loss"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_equal_weights_of_all_frames_are_the_weight_of_the_batch(
    scope: str, reduction: str, fedefm: FedEFMSettings
) -> None:
    settings = change(fedefm, weight_scope=scope, reduction=reduction)
    by_frame = multishot_loss(
        torch.tensor([8.0, 12.0]),
        [torch.tensor([1.0, 3.0]), torch.tensor([4.0, 4.0])],
        [weight.expand(2) for weight in WEIGHTS],
        beta=0.25,
        settings=settings,
    )
    by_batch = multishot_loss(LABEL, DISTANCES, WEIGHTS, beta=0.25, settings=settings)
    assert by_frame.item() == pytest.approx(by_batch.item())


def test_without_teachers_labels_of_frames_are_averaged(fedefm: FedEFMSettings) -> None:
    found = multishot_loss(FRAME_LABELS, [], [], beta=0.5, settings=fedefm)
    assert found.item() == 15
