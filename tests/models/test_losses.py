import math

import pytest
import torch
from torch import Tensor

from models.losses import (
    SegmentationLoss,
    soft_cldice_loss,
    soft_dice_loss,
    soft_skeleton,
)

torch.set_num_threads(1)

KNOWN = torch.ones(1, 2, dtype=torch.bool)
SURE = 100.0  # a logit whose sigmoid is 0 or 1 in float32


def empty(size: int = 16) -> Tensor:
    return torch.zeros(1, 2, size, size)


def bar(first_row: int, last_row: int, size: int = 16) -> Tensor:
    """A horizontal bar across the whole frame, in both classes."""
    mask = empty(size)
    mask[:, :, first_row : last_row + 1] = 1
    return mask


def sure_logits(mask: Tensor) -> Tensor:
    return SURE * (2 * mask - 1)


def test_soft_dice_is_the_ratio_counted_on_paper() -> None:
    # Rows 4-7 predicted, rows 6-9 labelled: 64 pixels each, 32 in common.
    loss = soft_dice_loss(sure_logits(bar(4, 7)), bar(6, 9), KNOWN)
    assert loss.item() == pytest.approx(1 - (2 * 32 + 1) / (64 + 64 + 1))


def test_soft_dice_does_not_square_probabilities() -> None:
    # p = 0.5 on all 256 pixels, label on 64 of them.
    loss = soft_dice_loss(empty(), bar(6, 9), KNOWN)
    assert loss.item() == pytest.approx(1 - (2 * 32 + 1) / (128 + 64 + 1))


def test_an_empty_label_with_an_empty_prediction_costs_nothing() -> None:
    logits = sure_logits(empty())
    assert soft_dice_loss(logits, empty(), KNOWN).item() == pytest.approx(0, abs=1e-6)
    cldice = soft_cldice_loss(logits, empty(), KNOWN, iterations=3)
    assert cldice.item() == pytest.approx(0, abs=1e-6)
    total = SegmentationLoss(cldice_weight=0.5)(logits, empty(), KNOWN)
    assert total.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("cldice_weight", [0.0, 0.25, 1.0])
def test_a_perfect_prediction_costs_nothing(cldice_weight: float) -> None:
    mask = bar(6, 8)
    loss = SegmentationLoss(cldice_weight=cldice_weight)
    assert loss(sure_logits(mask), mask, KNOWN).item() == pytest.approx(0, abs=1e-5)


def test_dice_is_taken_per_image_and_class_then_averaged() -> None:
    # Image 0 is perfect in both classes, image 1 misses both.
    masks = bar(6, 9).repeat(2, 1, 1, 1)
    logits = torch.cat([sure_logits(bar(6, 9)), sure_logits(empty())])
    loss = soft_dice_loss(logits, masks, KNOWN.repeat(2, 1))
    assert loss.item() == pytest.approx((0 + (1 - 1 / 65)) / 2)


def test_what_is_not_annotated_changes_neither_loss_nor_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 16, 16, generator=generator, requires_grad=True)
    masks = bar(6, 9).repeat(2, 1, 1, 1)
    annotated = torch.tensor([[True, False], [True, True]])
    loss = SegmentationLoss(cldice_weight=0.25)
    value = loss(logits, masks, annotated)
    (gradient,) = torch.autograd.grad(value, logits)
    other_masks = masks.clone()
    other_masks[0, 1] = 1 - other_masks[0, 1]
    assert loss(logits, other_masks, annotated).item() == value.item()
    assert gradient[0, 1].abs().max() == 0
    assert gradient[0, 0].abs().max() > 0


def test_nothing_annotated_is_a_loss_of_zero_with_a_gradient_of_zeros() -> None:
    logits = torch.randn(2, 2, 16, 16, requires_grad=True)
    unknown = torch.zeros(2, 2, dtype=torch.bool)
    loss = SegmentationLoss(cldice_weight=0.25)(logits, logits.detach() > 0, unknown)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("extreme", [1e4, 1e30, -1e30])
def test_extreme_logits_give_finite_losses_and_gradients(extreme: float) -> None:
    logits = torch.full((1, 2, 16, 16), extreme, requires_grad=True)
    loss = SegmentationLoss(cldice_weight=0.5)(logits, bar(6, 9), KNOWN)
    loss.backward()
    assert math.isfinite(loss.item())
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_uint8_masks_cost_the_same_as_float_masks() -> None:
    logits = torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    loss = SegmentationLoss(cldice_weight=0.25)
    masks = bar(3, 5)
    assert loss(logits, masks.byte(), KNOWN) == loss(logits, masks, KNOWN)


def test_the_mixture_is_cross_entropy_plus_the_weighted_overlaps() -> None:
    logits = torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(2))
    masks = bar(3, 5)
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, masks)
    dice = soft_dice_loss(logits, masks, KNOWN)
    cldice = soft_cldice_loss(logits, masks, KNOWN, iterations=4)
    mixed = SegmentationLoss(cldice_weight=0.25)(logits, masks, KNOWN)
    expected = cross_entropy + 0.75 * dice + 0.25 * cldice
    assert mixed.item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_soft_skeleton_of_a_bar_is_its_middle_row() -> None:
    # 5 rows high: two erosions leave row 8, one pixel wide.
    skeleton = soft_skeleton(bar(6, 10), iterations=2)
    assert torch.equal(skeleton, bar(8, 8))


def test_too_few_iterations_miss_the_middle_of_a_wide_bar() -> None:
    assert soft_skeleton(bar(4, 10), iterations=2).sum() == 0
    assert torch.equal(soft_skeleton(bar(4, 10), iterations=3), bar(7, 7))


def test_soft_cldice_forgives_width_and_punishes_a_gap() -> None:
    label = bar(8, 8, size=32)
    # Twice the dilation of the label: its centre line is the label itself.
    wide = sure_logits(bar(7, 9, size=32))
    assert soft_cldice_loss(wide, label, KNOWN, iterations=3).item() < 1e-5
    # Half of the wire is gone: precision 1, sensitivity (16 + 1) / (32 + 1).
    half = label.clone()
    half[..., 16:] = 0
    found = soft_cldice_loss(sure_logits(half), label, KNOWN, iterations=3)
    sensitivity = 17 / 33
    assert found.item() == pytest.approx(1 - 2 * sensitivity / (1 + sensitivity))


def test_the_gradient_of_soft_cldice_reaches_every_pixel_of_the_wire() -> None:
    logits = (2.0 * bar(8, 8) - 1.0).requires_grad_()
    soft_cldice_loss(logits, bar(8, 8), KNOWN, iterations=2).backward()
    assert logits.grad is not None
    assert (logits.grad[:, :, 8] < 0).all()


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_a_cldice_weight_outside_zero_to_one_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="cldice_weight must lie between 0 and 1"):
        SegmentationLoss(cldice_weight=weight)


def test_a_skeleton_without_iterations_is_refused() -> None:
    with pytest.raises(ValueError, match="skeleton_iterations must be >= 1, got 0"):
        SegmentationLoss(skeleton_iterations=0)
    with pytest.raises(ValueError, match="iterations >= 1, got 0"):
        soft_skeleton(empty(), iterations=0)


def test_shapes_that_disagree_are_named_in_the_error() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2, 16, 16\), \(1, 2, 8, 8\)"):
        SegmentationLoss()(empty(16), empty(8), KNOWN)
    with pytest.raises(ValueError, match=r"and \(1, 1\)"):
        soft_dice_loss(empty(), empty(), KNOWN[:, :1])
