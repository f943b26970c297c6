"""The plain U-Net++: its published cost, and its wiring beside MONAI's."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.cost import count_parameters, published_macs, true_macs
from models.registry import build_model
from models.unet_plus_plus import UNetPlusPlus

WIDTHS = (4, 6, 8, 10, 12)  # small, and no two alike


def build(**options: object) -> UNetPlusPlus:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNetPlusPlus(**{"image_size": 64, "num_classes": 2, **options})


def test_the_cost_is_the_one_that_the_fga_net_paper_prints() -> None:
    macs = published_macs(UNetPlusPlus(image_size=512), 512)
    assert macs / 1e9 == pytest.approx(139.61, abs=0.005)  # the paper's digits
    assert macs / 1e9 == pytest.approx(139.614, rel=1e-5)


def test_the_cost_is_that_of_its_convolutions_by_hand() -> None:
    widths, products, others, weights = (32, 64, 128, 256, 512), 0, 0, 0
    for level, width in enumerate(widths):
        pixels = (512 >> level) ** 2
        below = widths[level + 1] if level < 4 else 0
        before = widths[level - 1] if level else 3
        inputs = [before] + [(one + 1) * width + below for one in range(4 - level)]
        for channels in inputs:  # of every node: two convolutions, two normalisations
            products += pixels * width * 9 * (channels + width)
            others += 2 * 4 * pixels * width
            weights += width * 9 * (channels + width) + 2 * 2 * width
        others += 11 * pixels * below * (4 - level)  # bilinear growth into this level
    products += 512 * 512 * 32
    network = UNetPlusPlus(image_size=512)
    assert true_macs(network, 512) == products
    assert published_macs(network, 512) == products + others
    assert count_parameters(network) == weights + 32 + 1


class _Node(nn.Module):
    """One of our nodes, called as MONAI calls its own."""

    def __init__(self, node: nn.Module) -> None:
        super().__init__()
        self.node = node

    def forward(self, below: Tensor, row: Tensor) -> Tensor:
        risen = functional.interpolate(
            below, scale_factor=2, mode="bilinear", align_corners=True
        )
        return self.node(torch.cat([row, risen], dim=1))


def test_nodes_are_joined_as_monai_joins_them() -> None:
    # Here, because MONAI takes seconds to import.
    from monai.networks.nets import BasicUNetPlusPlus

    # Prepare
    network = build(widths=WIDTHS).eval()
    theirs = BasicUNetPlusPlus(spatial_dims=2, in_channels=3, features=(*WIDTHS, 4))
    for level, stage in enumerate(network.down):
        pool = nn.MaxPool2d(2) if level else nn.Identity()
        setattr(theirs, f"conv_{level}_0", nn.Sequential(pool, stage))
    for level, row in enumerate(network.nested):
        for column, node in enumerate(row, start=1):
            setattr(theirs, f"upcat_{level}_{column}", _Node(node))
    theirs.final_conv_0_4 = network.head
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    # Execute
    with torch.no_grad():
        (expected,) = theirs.eval()(images.expand(-1, 3, -1, -1))
        found = network(images)
    # Assert
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_every_node_takes_part() -> None:
    network = build(widths=WIDTHS)
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    network(images).square().mean().backward()
    still = [n for n, one in network.named_parameters() if not one.grad.any()]
    assert still == []


def test_both_kinds_have_a_name_in_the_registry() -> None:
    plain = build_model("unet-plus-plus", image_size=64, seed=0)
    residual = build_model("unet-plus-plus-resnet34", image_size=64, seed=0)
    assert isinstance(plain, UNetPlusPlus)
    assert count_parameters(residual) > 2 * count_parameters(plain)
