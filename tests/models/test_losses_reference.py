"""The losses beside those of MONAI and torchvision, on the same random batch."""

import pytest
import torch
from torch import Tensor

import models.torchvision_ops  # noqa: F401  # a shim that torchvision needs first
from models.loss_recipes import build_loss
from models.losses import focal_loss, soft_cldice_loss, soft_dice_loss

torch.set_num_threads(1)


def batch(classes: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    logits = 2 * torch.randn(3, classes, 40, 32, generator=generator)
    blobs = torch.rand(3, classes, 10, 8, generator=generator) > 0.7
    masks = blobs.repeat_interleave(4, 2).repeat_interleave(4, 3).float()
    return logits, masks, torch.ones(3, classes, dtype=torch.bool)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("pooling", ["entry", "class"])
def test_soft_dice_equals_monai(squared: bool, pooling: str) -> None:
    from monai.losses import DiceLoss

    logits, masks, known = batch(2)
    reference = DiceLoss(
        sigmoid=True,
        squared_pred=squared,
        smooth_nr=1,
        smooth_dr=1,
        batch=pooling == "class",
    )
    found = soft_dice_loss(logits, masks, known, squared=squared, pooling=pooling)
    assert found.item() == pytest.approx(reference(logits, masks).item(), abs=1e-6)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.7, 1.0), (0.5, 3.5)])
def test_balanced_focal_loss_equals_monai_and_torchvision(
    alpha: float, gamma: float
) -> None:
    from monai.losses import FocalLoss
    from torchvision.ops import sigmoid_focal_loss

    logits, masks, known = batch(2)
    found = focal_loss(logits, masks, known, alpha=alpha, gamma=gamma).item()
    monai = FocalLoss(gamma=gamma, alpha=alpha)(logits, masks)
    vision = sigmoid_focal_loss(logits, masks, alpha, gamma, reduction="mean")
    assert found == pytest.approx(monai.item(), abs=1e-6)
    assert found == pytest.approx(vision.item(), abs=1e-6)


def test_unbalanced_focal_loss_is_alpha_times_that_of_monai() -> None:
    from monai.losses import FocalLoss

    logits, masks, known = batch(2)
    found = focal_loss(logits, masks, known, alpha=0.8, balanced=False)
    reference = 0.8 * FocalLoss(gamma=2.0)(logits, masks)
    assert found.item() == pytest.approx(reference.item(), abs=1e-6)


@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_soft_cldice_equals_monai_on_one_class(iterations: int) -> None:
    from monai.losses import SoftclDiceLoss

    # MONAI pools the classes of an image, hence one class.
    logits, masks, known = batch(1)
    reference = SoftclDiceLoss(iter_=iterations, smooth=1e-12, sigmoid=True)
    found = soft_cldice_loss(logits, masks, known, iterations=iterations)
    assert found.item() == pytest.approx(reference(logits, masks).item(), abs=1e-6)


def test_the_fga_net_hybrid_equals_its_terms_from_monai() -> None:
    from monai.losses import DiceLoss, SoftclDiceLoss

    logits, masks, known = batch(1)
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, masks)
    dice = DiceLoss(sigmoid=True, smooth_nr=1, smooth_dr=1, batch=True)
    cldice = SoftclDiceLoss(iter_=10, smooth=1e-12, sigmoid=True)
    # With images as channels MONAI sums over the whole batch, as FGA-Net's code does.
    as_channels = logits.transpose(0, 1), masks.transpose(0, 1)
    reference = (
        0.5 * cross_entropy + 0.75 * dice(logits, masks) + 0.25 * cldice(*as_channels)
    )
    found = build_loss("fga-net")(logits, masks, known)
    assert found.item() == pytest.approx(reference.item(), abs=1e-6)
