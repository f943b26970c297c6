"""The published costs come out of the published rules, the true ones beside them."""

import pytest
import torch
from torch import nn

from models.cost import count_parameters, published_macs, true_macs
from models.fga_net import FGANet
from models.registry import build_model
from models.unet import UNet


@pytest.mark.parametrize(
    ("switches", "expected"),
    [({}, 75.36), ({"modulated": True}, 76.11), ({"bga_out_kernel": 1}, 64.62)],
)
def test_fga_net_costs_what_the_paper_says(
    switches: dict[str, bool | int], expected: float
) -> None:
    with torch.device("meta"):
        network = FGANet(image_size=512, **switches)
    assert published_macs(network, 512) / 1e9 == pytest.approx(expected, abs=0.01)


def test_with_its_deformable_products_fga_net_costs_half_as_much_again() -> None:
    with torch.device("meta"):
        network = FGANet(image_size=512)
    honest = published_macs(network, 512, with_deformable=True)
    assert honest / 1e9 == pytest.approx(106.77, abs=0.01)
    assert true_macs(network, 512) / 1e9 == pytest.approx(106.15, abs=0.01)


def test_the_u_net_of_the_paper_has_its_cost_and_its_parameters() -> None:
    with torch.device("meta"):
        network = UNet(image_size=512)
    assert count_parameters(network) == 7_763_041
    assert published_macs(network, 512) / 1e9 == pytest.approx(54.98, abs=0.01)


def test_a_convolution_is_counted_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, groups=1), nn.BatchNorm2d(8))
    by_hand = 10 * 10 * 8 * 3 * 9
    assert true_macs(network, 10, channels=3) == by_hand
    assert published_macs(network, 10, channels=3) == by_hand + 4 * 10 * 10 * 8


def test_counting_leaves_the_network_alone() -> None:
    network = build_model("fga-net-small", image_size=64, seed=0).train()
    before = {name: one.clone() for name, one in network.state_dict().items()}
    published_macs(network, 64)
    true_macs(network, 64)
    assert network.training
    after = network.state_dict()
    assert all(torch.equal(after[name], one) for name, one in before.items())


def test_attention_is_counted_although_it_is_fused() -> None:
    sam = build_model("sam-tiny", image_size=64, seed=0)
    # Every block alone has 4 x 4 tokens of width 192: qkv, proj and the MLP.
    linear = 16 * 192 * 192 * (3 + 1 + 4 + 4)
    assert true_macs(sam, 64) > 5 * linear


def test_parameters_that_train_are_counted_apart() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    network[0].requires_grad_(False)
    assert count_parameters(network) == 16 + 10
    assert count_parameters(network, trainable=True) == 10
