import math

import pytest
import torch
from skimage.morphology import dilation, disk, skeletonize
from torch import Tensor

from models.losses import (
    cross_entropy_loss,
    focal_loss,
    skeleton_recall_loss,
    soft_cldice_loss,
    soft_dice_loss,
)
from models.soft_skeleton import skeleton_tubes, soft_skeleton

torch.set_num_threads(1)

KNOWN = torch.ones(1, 1, dtype=torch.bool)
LN2 = math.log(2)


def rows(first: int, last: int, size: int = 16) -> Tensor:
    """A full-width bar in the one class of one image."""
    mask = torch.zeros(1, 1, size, size)
    mask[:, :, first : last + 1] = 1
    return mask


def sure(mask: Tensor) -> Tensor:
    return 100.0 * (2 * mask - 1)


def test_cross_entropy_weighs_device_pixels_as_told() -> None:
    # p = 0.5 everywhere, a quarter of the pixels is device.
    loss = cross_entropy_loss(
        torch.zeros(1, 1, 16, 16), rows(6, 9), KNOWN, positive_weight=3.0
    )
    assert loss.item() == pytest.approx(LN2 * (0.75 + 3 * 0.25))


def test_squared_dice_squares_probabilities_in_the_denominator() -> None:
    # p = 0.5 on 256 pixels: sum p^2 = 64; the label has 64 pixels, overlap 32.
    loss = soft_dice_loss(
        torch.zeros(1, 1, 16, 16), rows(6, 9), KNOWN, squared=True
    ).item()
    assert loss == pytest.approx(1 - 65 / 129)


def test_pooling_decides_what_one_ratio_sums_over() -> None:
    # Class 0: image 0 found, image 1 missed. Class 1: both found. 64 pixels each.
    bar, nothing = rows(6, 9)[0, 0], torch.zeros(16, 16)
    predicted = torch.stack([torch.stack([bar, bar]), torch.stack([nothing, bar])])
    masks = bar.expand(2, 2, 16, 16)
    known = torch.ones(2, 2, dtype=torch.bool)
    logits = sure(predicted)
    by_entry = soft_dice_loss(logits, masks, known).item()
    by_class = soft_dice_loss(logits, masks, known, pooling="class").item()
    by_batch = soft_dice_loss(logits, masks, known, pooling="batch").item()
    assert by_entry == pytest.approx((1 - 1 / 65) / 4)
    assert by_class == pytest.approx((1 - 129 / 193) / 2)
    assert by_batch == pytest.approx(1 - 385 / 449)


@pytest.mark.parametrize("pooling", ["class", "batch"])
def test_pooled_sums_leave_unknown_entries_out(pooling: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 1, 16, 16, generator=generator)
    masks = (torch.rand(3, 1, 16, 16, generator=generator) > 0.8).float()
    known = torch.tensor([[True], [False], [True]])
    kept = [0, 2]
    for loss in (cross_entropy_loss, soft_dice_loss, skeleton_recall_loss, focal_loss):
        partial = loss(logits, masks, known, pooling=pooling)
        alone = loss(logits[kept], masks[kept], known[kept], pooling=pooling)
        assert partial.item() == pytest.approx(alone.item(), rel=1e-6)


def test_a_class_nobody_annotated_does_not_dilute_the_others() -> None:
    masks = rows(6, 9).expand(2, 2, 16, 16)
    logits = torch.zeros(2, 2, 16, 16)
    known = torch.tensor([[True, False], [True, False]])
    for loss in (cross_entropy_loss, soft_dice_loss):
        pooled = loss(logits, masks, known, pooling="class")
        one_class = loss(logits[:, :1], masks[:, :1], known[:, :1], pooling="class")
        assert pooled.item() == pytest.approx(one_class.item(), rel=1e-6)


def test_balanced_focal_loss_is_the_sum_counted_on_paper() -> None:
    # p_t = 0.5 everywhere: (1 - p_t)^2 BCE = ln 2 / 4; a quarter is device.
    loss = focal_loss(torch.zeros(1, 1, 16, 16), rows(6, 9), KNOWN)
    weight = 0.25 * 0.25 + 0.75 * 0.75
    assert loss.item() == pytest.approx(weight * LN2 / 4)


def test_unbalanced_focal_loss_weighs_every_pixel_by_alpha() -> None:
    # Logit ln 3: p = 3/4. Device pixels (a quarter) cost ln(4/3)/16, others
    # 9/16 ln 4.
    logits = torch.full((1, 1, 16, 16), math.log(3))
    loss = focal_loss(logits, rows(6, 9), KNOWN, alpha=0.8, balanced=False)
    device, others = math.log(4 / 3) / 16, 9 / 16 * math.log(4)
    assert loss.item() == pytest.approx(0.8 * (device / 4 + others * 3 / 4))


def test_focal_loss_without_focus_is_cross_entropy() -> None:
    logits = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    plain = cross_entropy_loss(logits, rows(6, 9), KNOWN)
    found = focal_loss(logits, rows(6, 9), KNOWN, alpha=1.0, gamma=0.0, balanced=False)
    assert found.item() == pytest.approx(plain.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, "alpha must lie between 0 and 1, got 1.5"),
        ({"gamma": 0.5}, "gamma must be 0 or >= 1, got 0.5"),
        ({"gamma": float("nan")}, "gamma must be 0 or >= 1"),
    ],
)
def test_a_focal_loss_out_of_range_is_refused(
    options: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        focal_loss(rows(6, 9), rows(6, 9), KNOWN, **options)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_weight_that_rewards_misses_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="positive_weight must be > 0"):
        cross_entropy_loss(rows(6, 9), rows(6, 9), KNOWN, positive_weight=weight)


def test_skeleton_recall_is_the_ratio_counted_on_paper() -> None:
    # A one-pixel line is its own tube; half of its 32 pixels are predicted.
    line = rows(8, 8, size=32)
    half = line.clone()
    half[..., 16:] = 0
    found = skeleton_recall_loss(sure(half), line, KNOWN)
    published = skeleton_recall_loss(sure(half), line, KNOWN, shifted=False)
    assert found.item() == pytest.approx(1 - 17 / 33)
    assert published.item() == pytest.approx(-17 / 33)


def test_skeleton_recall_is_lowest_for_a_perfect_prediction() -> None:
    bar = rows(5, 11, size=32)
    perfect = skeleton_recall_loss(sure(bar), bar, KNOWN)
    published = skeleton_recall_loss(sure(bar), bar, KNOWN, shifted=False)
    assert perfect.item() == pytest.approx(0, abs=1e-6)
    assert published.item() == pytest.approx(-1, abs=1e-6)


def test_skeleton_recall_ignores_false_alarms_and_rewards_only_the_tube() -> None:
    bar = rows(4, 12, size=32)
    tube = skeleton_tubes(bar)
    logits = torch.zeros(1, 1, 32, 32, requires_grad=True)
    skeleton_recall_loss(logits, bar, KNOWN).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad < 0, tube > 0)
    assert (logits.grad[tube == 0] == 0).all()


def test_a_tube_is_the_twice_dilated_skeleton_inside_the_label() -> None:
    generator = torch.Generator().manual_seed(2)
    blobs = torch.rand(2, 2, 12, 12, generator=generator) > 0.6
    masks = blobs.repeat_interleave(6, 2).repeat_interleave(5, 3)
    tubes = skeleton_tubes(masks)
    cross = disk(1)
    for tube, mask in zip(tubes.flatten(0, 1), masks.flatten(0, 1), strict=True):
        label = mask.numpy()
        grown = dilation(dilation(skeletonize(label), cross), cross)
        assert (tube.numpy() == (grown & label)).all()
    assert 0 < tubes.sum() < masks.sum()


def test_a_seven_pixel_bar_has_a_tube_of_five_rows() -> None:
    tube = skeleton_tubes(rows(5, 11, size=32))[0, 0, :, 16]
    assert tube.nonzero().flatten().tolist() == [6, 7, 8, 9, 10]


def test_a_blob_that_thinning_could_remove_keeps_a_tube() -> None:
    mask = torch.zeros(1, 1, 16, 16)
    mask[0, 0, 3:5, 3:5] = 1
    assert skeleton_tubes(mask).sum() > 0
    assert skeleton_tubes(torch.zeros(1, 1, 16, 16)).sum() == 0


def test_a_tube_carries_no_gradient() -> None:
    masks = rows(5, 11).requires_grad_()
    assert not skeleton_tubes(masks).requires_grad


def test_the_soft_skeleton_has_the_gradient_of_finite_differences() -> None:
    # Distinct values: no two pixels tie for a minimum or a maximum.
    order = torch.randperm(49, generator=torch.Generator().manual_seed(3))
    maps = ((order.double() + 1) / 50).reshape(1, 1, 7, 7).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda values: soft_skeleton(values, iterations=2), maps, eps=1e-5
    )


def test_pooled_cldice_sums_over_the_batch() -> None:
    # Line found in image 0, missed in image 1: Tp = 1, Ts = (32 + 1) / (64 + 1).
    line = rows(8, 8, size=32)
    masks = torch.cat([line, line])
    logits = sure(torch.cat([line, torch.zeros_like(line)]))
    loss = soft_cldice_loss(
        logits, masks, KNOWN.repeat(2, 1), iterations=2, pooling="class"
    )
    sensitivity = 33 / 65
    assert loss.item() == pytest.approx(1 - 2 * sensitivity / (1 + sensitivity))
