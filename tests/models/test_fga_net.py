"""Facts of FGA-Net: methods of the paper and numbers that its cost pins down."""

import pytest
import torch
from torch import nn

from models.fga_net import (
    SHIFTS,
    WIDTHS,
    BilateralAggregation,
    FGANet,
    ShiftDeformableAttention,
    build_fga_net,
    build_fga_net_small,
    shift_eight,
)


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("switches", "expected"),
    [
        ({}, 45_148_863),
        ({"deep_supervision": True}, 45_149_860),
        ({"modulated": True}, 45_371_838),
    ],
)
def test_the_network_has_the_published_number_of_parameters(
    switches: dict[str, bool], expected: int
) -> None:
    with torch.device("meta"):
        assert count_parameters(FGANet(image_size=512, **switches)) == expected


@pytest.mark.parametrize("group", range(8))
def test_a_shift_fetches_from_the_listed_neighbour(group: int) -> None:
    images = torch.zeros(1, 8, 5, 5)
    images[0, :, 2, 2] = 1
    down, right = SHIFTS[group]
    shifted = shift_eight(images)[0, group]
    assert shifted.sum() == 1
    assert shifted[2 - down, 2 - right] == 1  # out[y, x] = in[y + down, x + right]


def test_what_a_shift_moves_out_of_the_frame_is_gone() -> None:
    images = torch.zeros(1, 8, 3, 3)
    images[0, :, 0, 0] = 1
    kept = shift_eight(images).sum(dim=(0, 2, 3))
    expected = [float(down <= 0 and right <= 0) for down, right in SHIFTS]
    assert kept.tolist() == expected


@pytest.mark.parametrize("modulated", [False, True])
def test_attention_never_makes_a_feature_larger(modulated: bool) -> None:
    features = torch.randn(2, 16, 6, 6, generator=torch.Generator().manual_seed(0))
    attended = ShiftDeformableAttention(16, modulated)(features)
    assert attended.shape == features.shape
    assert bool((attended.abs() <= features.abs()).all())
    assert not torch.equal(attended, features)


@pytest.mark.parametrize("kernel", [1, 3])
def test_aggregation_has_the_shape_of_the_skip(kernel: int) -> None:
    joined = BilateralAggregation(4, kernel)(
        torch.rand(2, 4, 8, 8), torch.rand(2, 4, 4, 4)
    )
    assert joined.shape == (2, 4, 8, 8)
    assert bool((joined >= 0).all())


def test_five_auxiliary_maps_come_at_full_size() -> None:
    widths = [width // 4 for width in WIDTHS]
    network = FGANet(image_size=64, widths=widths, deep_supervision=True).eval()
    images = torch.rand(2, 1, 64, 64)
    logits, auxiliaries = network.forward_with_auxiliaries(images)
    assert (
        [one.shape for one in auxiliaries] == 5 * [logits.shape] == 5 * [(2, 1, 64, 64)]
    )
    torch.testing.assert_close(logits, network(images))


def test_features_are_those_of_the_deepest_stage() -> None:
    network = build_fga_net_small(image_size=64, num_classes=2)
    output = network.forward_with_features(torch.rand(1, 1, 64, 64))
    assert output.logits.shape == (1, 2, 64, 64)
    assert output.features.shape == (1, WIDTHS[-1] // 4, 2, 2)


def test_running_statistics_travel_with_the_weights() -> None:
    trained = build_fga_net_small(image_size=64, num_classes=2).train()
    trained(torch.rand(2, 1, 64, 64))
    received = build_fga_net_small(image_size=64, num_classes=2)
    received.load_trainable_state(trained.trainable_state())
    images = torch.rand(1, 1, 64, 64)
    torch.testing.assert_close(received.eval()(images), trained.eval()(images))


def test_sizes_and_widths_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 32, at least 64, got 48"):
        build_fga_net(image_size=48, num_classes=1)
    with pytest.raises(ValueError, match="the last two equal"):
        FGANet(image_size=64, widths=(8, 16, 32, 64, 128, 256))
    with pytest.raises(ValueError, match="divisible by 8, got 12"):
        ShiftDeformableAttention(12)
    network = build_fga_net_small(image_size=64, num_classes=1)
    with pytest.raises(ValueError, match=r"must be \(batch, 1, 64, 64\)"):
        network(torch.rand(1, 3, 64, 64))
