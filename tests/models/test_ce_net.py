"""CE-Net's two context blocks, by what they see."""

import pytest
import torch
from torch import Tensor, nn

from models.ce_net import (
    POOLS,
    CENet,
    DenseAtrousConvolution,
    ResidualMultiKernelPooling,
)


def field_of_view(parts: tuple[nn.Module, ...]) -> int:
    """How wide an impulse becomes, px, under positive weights."""
    image = torch.zeros(1, 1, 41, 41)
    image[..., 20, 20] = 1
    for part in parts:
        image = part(image)
    seen = image[0, 0].nonzero()
    return int(seen[:, 1].max() - seen[:, 1].min() + 1)


def test_the_branches_see_3_7_9_and_19_pixels() -> None:
    block = DenseAtrousConvolution(1)
    for one in block.parameters():
        nn.init.constant_(one, 1.0 if one.ndim > 1 else 0.0)
    near, middle, far = block.atrous
    with torch.no_grad():
        fields = [
            field_of_view(branch)
            for branch in ((near,), (middle,), (near, middle), (near, middle, far))
        ]
        assert fields == [3, 7, 9, 19]
        # The block adds the four of them to what came in.
        image = torch.zeros(1, 1, 41, 41)
        image[..., 20, 20] = 1
        by_hand = image + sum(
            nn.Sequential(*branch)(image)
            for branch in ((near,), (middle,), (near, middle), (near, middle, far))
        )
        assert torch.equal(block(image), by_hand)


def test_a_branch_can_only_add() -> None:
    torch.manual_seed(0)
    features = torch.randn(1, 4, 12, 12)
    with torch.no_grad():
        added = DenseAtrousConvolution(4)(features) - features
    assert added.min() >= -1e-6
    assert added.max() > 0


def test_pooling_appends_the_largest_value_of_each_kernel_and_keeps_the_rest() -> None:
    block = ResidualMultiKernelPooling(1)
    for one in block.parameters():
        nn.init.constant_(one, 1.0 if one.ndim > 1 else 0.0)
    features = torch.arange(36.0).reshape(1, 1, 6, 6)
    with torch.no_grad():
        context = block(features)
    assert context.shape == (1, len(POOLS) + 1, 6, 6)
    assert torch.equal(context[:, -1:], features)
    assert torch.allclose(context[:, -2], torch.tensor(35.0))  # one 6 x 6 window
    assert context[0, 0, 0, 0].item() == pytest.approx(
        7
    )  # the corner's window of 2 x 2
    assert context[0, 0, -1, -1].item() == pytest.approx(35)


@pytest.mark.parametrize("side", [1, 2, 4])
def test_a_kernel_larger_than_the_features_takes_them_whole(side: int) -> None:
    features: Tensor = torch.rand(1, 8, side, side)
    assert ResidualMultiKernelPooling(8)(features).shape == (1, 12, side, side)


def test_a_size_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 32, at least 64, got 32"):
        CENet(image_size=32)
