import math

import pytest
import torch
from torch import Tensor

from models.deep_supervision import DeepSupervisionLoss
from models.fga_net import FGANet
from models.loss_recipes import BUILDERS, build_loss
from models.loss_terms import DiceTerm
from models.losses import (
    SegmentationLoss,
    cross_entropy_loss,
    focal_loss,
    skeleton_recall_loss,
    soft_cldice_loss,
    soft_dice_loss,
)
from models.mixed_loss import MixedLoss

torch.set_num_threads(1)

KNOWN = torch.tensor([[True, True], [True, False]])


def scene() -> tuple[Tensor, Tensor]:
    logits = torch.randn(2, 2, 16, 16, generator=torch.Generator().manual_seed(4))
    masks = torch.zeros(2, 2, 16, 16)
    masks[:, :, 6:9] = 1
    return logits, masks


def test_bce_dice_is_the_loss_that_sites_train_with() -> None:
    logits, masks = scene()
    found = build_loss("bce-dice")(logits, masks, KNOWN)
    assert found.item() == SegmentationLoss()(logits, masks, KNOWN).item()


def test_the_papers_fga_net_loss_is_built_from_its_switches() -> None:
    logits, masks = scene()
    found = build_loss("fga-net", bce_weight=1.0, dice_squared=True)
    pooling = "class"
    expected = (
        cross_entropy_loss(logits, masks, KNOWN, pooling=pooling)
        + 0.75 * soft_dice_loss(logits, masks, KNOWN, squared=True, pooling=pooling)
        + 0.25 * soft_cldice_loss(logits, masks, KNOWN, iterations=10, pooling=pooling)
    )
    value = found(logits, masks, KNOWN).item()
    assert value == pytest.approx(expected.item(), rel=1e-6)


def test_sam_weighs_focal_to_dice_as_twenty_to_one() -> None:
    logits, masks = scene()
    expected = 20 * focal_loss(logits, masks, KNOWN) + soft_dice_loss(
        logits, masks, KNOWN
    )
    found = build_loss("sam")(logits, masks, KNOWN)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_skeleton_recall_is_added_to_dice_and_cross_entropy_with_weight_one() -> None:
    logits, masks = scene()
    expected = SegmentationLoss()(logits, masks, KNOWN) + skeleton_recall_loss(
        logits, masks, KNOWN
    )
    found = build_loss("skeleton-recall")(logits, masks, KNOWN)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_sim_to_real_is_half_focal_and_half_dice_over_the_flat_batch() -> None:
    # p = 0.5 everywhere, 48 of 256 pixels are device in each of two images.
    masks = scene()[1][:, :1]
    known = torch.ones(2, 1, dtype=torch.bool)
    found = build_loss("sim-to-real")(torch.zeros(2, 1, 16, 16), masks, known)
    focal = 0.8 * 0.25 * math.log(2)
    dice = 1 - (2 * 48 + 1) / (256 + 96 + 1)
    assert found.item() == pytest.approx(0.5 * focal + 0.5 * dice)


def test_a_focal_loss_of_the_mean_focuses_one_number() -> None:
    logits, masks = scene()
    known = torch.ones(2, 1, dtype=torch.bool)
    logits, masks = logits[:, :1], masks[:, :1]
    found = build_loss("sim-to-real", focal_of_mean=True)(logits, masks, known)
    mean = torch.nn.functional.binary_cross_entropy_with_logits(logits, masks).item()
    focal = 0.8 * (1 - math.exp(-mean)) ** 2 * mean
    dice = soft_dice_loss(logits, masks, known, pooling="class").item()
    assert found.item() == pytest.approx(0.5 * focal + 0.5 * dice)


def test_an_unknown_loss_is_told_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"Unknown loss 'hinge'\. Choose one of: bce,"):
        build_loss("hinge")


def test_an_unknown_option_is_told_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"no option 'alhpa'\. It has: focal_weight"):
        build_loss("sam", alhpa=0.5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fga-net", {"cldice_alpha": 1.5}, "cldice_alpha must lie between 0 and 1"),
        ("fga-net", {"skeleton_iterations": 0}, "skeleton_iterations must be >= 1"),
        ("bce", {"pooling": "image"}, "'entry', 'class' or 'batch', got 'image'"),
        ("sam", {"focal_weight": -1.0}, r"must be >= 0, got \[-1.0, 1.0\]"),
        ("sim-to-real", {"inner_weight": 0.0}, "a weight above 0, got none"),
    ],
)
def test_options_out_of_range_are_refused(
    name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_loss(name, **options)


@pytest.mark.parametrize("name", BUILDERS)
def test_following_the_gradient_of_any_loss_finds_the_wire(name: str) -> None:
    _, masks = scene()
    known = torch.ones(2, 2, dtype=torch.bool)
    loss = build_loss(name)
    logits = torch.zeros(2, 2, 16, 16, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.3)
    for _ in range(30):
        optimiser.zero_grad()
        loss(logits, masks, known).backward()
        optimiser.step()
    assert torch.equal(logits > 0, masks > 0)


def test_deep_supervision_adds_the_heads_by_their_weights() -> None:
    # Dice of every auxiliary head is 1 - 1/49, the final one is perfect.
    masks = scene()[1]
    final, missed = 200 * masks - 100, torch.full((2, 2, 16, 16), -100.0)
    loss = DeepSupervisionLoss(MixedLoss([(1.0, DiceTerm())]))
    found = loss(final, [missed] * 5, masks, KNOWN)
    assert found.item() == pytest.approx((1 - 1 / 49) * 31 / 32)
    # The shallowest head weighs half of that, the deepest 1/32.
    shallow = loss(final, [final] * 4 + [missed], masks, KNOWN)
    deep = loss(final, [missed] + [final] * 4, masks, KNOWN)
    assert shallow.item() == pytest.approx((1 - 1 / 49) / 2, abs=1e-6)
    assert deep.item() == pytest.approx((1 - 1 / 49) / 32, abs=1e-6)


def test_deep_supervision_without_weights_is_the_loss_itself() -> None:
    logits, masks = scene()
    criterion = build_loss("fga-net")
    loss = DeepSupervisionLoss(criterion, auxiliary_weights=())
    found = loss(logits, [], masks, KNOWN)
    assert found.item() == criterion(logits, masks, KNOWN).item()


def test_deep_supervision_wants_one_weight_per_head() -> None:
    logits, masks = scene()
    loss = DeepSupervisionLoss(build_loss("bce"))
    with pytest.raises(ValueError, match="has 5 weights, got 4 auxiliary outputs"):
        loss(logits, [logits] * 4, masks, KNOWN)
    with pytest.raises(ValueError, match="auxiliary_weights must be >= 0"):
        DeepSupervisionLoss(build_loss("bce"), auxiliary_weights=(-1.0,))


def test_deep_supervision_reaches_every_head_of_fga_net() -> None:
    network = FGANet(
        image_size=64, num_classes=2, widths=(8, 8, 8, 8, 16, 16), deep_supervision=True
    )
    masks = torch.zeros(2, 2, 64, 64)
    masks[:, :, 30:34] = 1
    final, auxiliaries = network.forward_with_auxiliaries(torch.rand(2, 1, 64, 64))
    loss = DeepSupervisionLoss(build_loss("fga-net", skeleton_iterations=3))
    loss(final, auxiliaries, masks, KNOWN).backward()
    heads = [network.head, *network.auxiliary]
    assert len(heads) == 6
    for head in heads:
        assert head.weight.grad is not None
        assert head.weight.grad.abs().max() > 0
