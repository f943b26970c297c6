"""Facts of FGA-Net: methods of the paper and numbers that its cost pins down."""

import os
import shutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

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

HAS_COMPILER = any(shutil.which(name) for name in ("c++", "g++", "clang++"))


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


def randomised(network: nn.Module) -> nn.Module:
    """Give statistics and scales values that folding could get wrong."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(0, 0.2, generator=generator)
    return network.eval()


def plain_aggregation(
    module: BilateralAggregation, skip: Tensor, deep: Tensor
) -> Tensor:
    """The formula of the paper, one operation at a time."""

    def grow(features: Tensor) -> Tensor:
        return functional.interpolate(
            features, scale_factor=2, mode="bilinear", align_corners=True
        )

    fine = module.skip_keep(skip) * torch.sigmoid(grow(module.deep_grow(deep)))
    coarse = module.skip_reduce(skip) * torch.sigmoid(module.deep_keep(deep))
    return module.out(fine + grow(coarse))


def plain_attention(module: ShiftDeformableAttention, features: Tensor) -> Tensor:
    """The formula of the released code, with its layer norm."""
    shifted = functional.gelu(module.normalise(shift_eight(module.project(features))))
    deformed = module.deform(shifted, module.offset(shifted))
    normed = functional.layer_norm(deformed, deformed.shape[1:])
    return features * torch.sigmoid(normed)


def test_aggregation_in_place_is_the_plain_formula_gradients_included() -> None:
    module = randomised(BilateralAggregation(4)).double()
    skip = torch.randn(2, 4, 8, 8, dtype=torch.float64, requires_grad=True)
    deep = torch.randn(2, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    inputs = (skip, deep, *module.parameters())
    found, expected = module(skip, deep), plain_aggregation(module, skip, deep)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    slopes = [
        torch.autograd.grad(one.square().sum(), inputs) for one in (found, expected)
    ]
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-10, atol=1e-10)


def test_attention_is_the_plain_formula_gradients_included() -> None:
    module = ShiftDeformableAttention(16).double()
    features = torch.randn(2, 16, 6, 6, dtype=torch.float64, requires_grad=True)
    inputs = (features, *module.parameters())
    found, expected = module(features), plain_attention(module, features)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    slopes = [
        torch.autograd.grad(one.square().sum(), inputs) for one in (found, expected)
    ]
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-9, atol=1e-10)


def test_float32_logits_are_within_1e_5_of_those_in_float64() -> None:
    network = randomised(build_fga_net_small(image_size=64, num_classes=2))
    images = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        single = network(images)
        exact = network.double()(images.double())
    assert (single - exact).abs().max() <= 1e-5 * exact.abs().max()


def check_same(
    module: nn.Module, compiled: Callable[..., Tensor], *inputs: Tensor
) -> None:
    """Compare values and gradients of weights and inputs."""
    wanted = [*module.parameters(), *(one for one in inputs if one.requires_grad)]
    values = module(*inputs), compiled(*inputs)
    torch.testing.assert_close(values[1], values[0])
    slopes = [torch.autograd.grad(one.square().mean(), wanted) for one in values]
    for found, expected in zip(slopes[1], slopes[0], strict=True):
        scale = float(expected.abs().max())
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * scale + 1e-9)


def test_the_network_is_traced_in_one_piece() -> None:
    # Tracing alone, without its lowering: that takes a minute and is tested in parts.
    torch.compiler.reset()
    network = randomised(build_fga_net_small(image_size=64, num_classes=1))
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    check_same(network, compiled, torch.rand(1, 1, 64, 64))


BACKENDS = [
    "aot_eager",
    pytest.param(
        "inductor",
        marks=pytest.mark.skipif(
            not (HAS_COMPILER and os.environ.get("ENDOFED_TEST_COMPILER")),
            reason="slow: set ENDOFED_TEST_COMPILER=1 where there is a C++ compiler",
        ),
    ),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("modulated", [False, True])
def test_attention_compiles_with_the_same_values_and_gradients(
    modulated: bool, backend: str
) -> None:
    torch.compiler.reset()
    module = ShiftDeformableAttention(8, modulated)
    features = torch.randn(2, 8, 6, 6, requires_grad=True)
    compiled = torch.compile(module, fullgraph=True, backend=backend)
    check_same(module, compiled, features)


@pytest.mark.parametrize("backend", BACKENDS)
def test_aggregation_compiles_with_the_same_values_and_gradients(backend: str) -> None:
    torch.compiler.reset()
    module = randomised(BilateralAggregation(4))
    inputs = (torch.randn(1, 4, 8, 8), torch.randn(1, 4, 4, 4))
    compiled = torch.compile(module, fullgraph=True, backend=backend)
    check_same(module, compiled, *(one.requires_grad_() for one in inputs))
