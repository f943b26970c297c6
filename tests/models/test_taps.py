"""Features of any part of a network, checked against hooks and hand-made passes."""

import pytest
import torch
from torch.func import functional_call

from models.network import SegmentationNetwork
from models.registry import build_model
from models.taps import TapError, forward_with_tap
from models.training_modes import choose_trainable

SIZE = 64


def frames() -> torch.Tensor:
    return torch.rand(2, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def sam() -> SegmentationNetwork:
    return build_model("sam-tiny", image_size=SIZE, seed=0).eval()


@pytest.fixture(scope="module")
def fga_net() -> SegmentationNetwork:
    return build_model("fga-net-small", image_size=SIZE, seed=0).eval()


def test_no_tap_is_the_pass_itself(sam: SegmentationNetwork) -> None:
    images = frames()
    for expected, found in zip(
        sam.forward_with_features(images)[:2],
        forward_with_tap(sam, images, "")[:2],
        strict=True,
    ):
        assert torch.equal(expected, found)


def test_the_last_part_of_the_encoder_gives_its_deepest_features(
    sam: SegmentationNetwork, fga_net: SegmentationNetwork
) -> None:
    for model, tap in ((sam, "image_encoder.neck"), (fga_net, "down.5")):
        expected = model.forward_with_features(frames())
        found = forward_with_tap(model, frames(), tap)
        assert torch.equal(found.logits, expected.logits)
        assert torch.equal(found.features, expected.features)


def test_a_block_of_sam_is_turned_to_channels_first(sam: SegmentationNetwork) -> None:
    encoder = sam.image_encoder
    colour = frames().expand(-1, 3, -1, -1) * 255.0
    tokens = encoder.patch_embed((colour - sam.pixel_mean) / sam.pixel_std)
    embedded = forward_with_tap(sam, frames(), "image_encoder.patch_embed")
    assert torch.equal(embedded.features, tokens.permute(0, 3, 1, 2))
    tokens = tokens + encoder.pos_embed
    for block in list(encoder.blocks)[:2]:
        tokens = block(tokens)
    found = forward_with_tap(sam, frames(), "image_encoder.blocks.1").features
    assert torch.equal(found, tokens.permute(0, 3, 1, 2))
    assert found.shape[2:] == (SIZE // encoder.patch_embed.proj.kernel_size[0],) * 2


def test_a_stage_of_fga_net_keeps_its_size(fga_net: SegmentationNetwork) -> None:
    features = forward_with_tap(fga_net, frames(), "down.3").features
    assert features.shape[2:] == (SIZE // 8, SIZE // 8)


def test_a_part_is_seen_before_the_next_one_works_in_its_memory() -> None:
    model = build_model("unet", image_size=SIZE, seed=0)
    convolution, norm = model.down[0][0], model.down[0][1]
    expected = norm(convolution(frames().expand(-1, 3, -1, -1)))
    assert float(expected.detach().min()) < 0  # which the ReLU after it takes away
    found = forward_with_tap(model, frames(), "down.0.1").features
    torch.testing.assert_close(found, expected)


def test_the_hook_is_gone_afterwards_also_after_a_failure(
    sam: SegmentationNetwork,
) -> None:
    forward_with_tap(sam, frames(), "image_encoder.neck")
    with pytest.raises(ValueError, match="Images must be"):
        forward_with_tap(sam, frames()[..., :32], "image_encoder.neck")
    assert not any(part._forward_hooks for part in sam.modules())


def test_gradients_flow_through_a_tap(sam: SegmentationNetwork) -> None:
    sam.zero_grad()
    found = forward_with_tap(sam, frames(), "image_encoder.blocks.0")
    found.features.square().mean().backward()
    assert float(sam.image_encoder.patch_embed.proj.weight.grad.abs().sum()) > 0
    assert sam.image_encoder.blocks[1].attn.qkv.weight.grad is None
    sam.zero_grad()


def test_a_tap_sees_the_tensors_of_a_functional_call() -> None:
    model = build_model("fga-net-small", image_size=SIZE, seed=0).eval()
    other = build_model("fga-net-small", image_size=SIZE, seed=1).eval()

    class Tapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = model

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return forward_with_tap(self.network, images, "down.2").features

    state = {f"network.{name}": one for name, one in other.trainable_state().items()}
    found = functional_call(Tapped(), state, (frames(),))
    assert torch.equal(found, forward_with_tap(other, frames(), "down.2").features)


def test_a_tap_in_an_adapted_network_has_the_same_name(
    sam: SegmentationNetwork,
) -> None:
    adapted = build_model("sam-tiny", image_size=SIZE, seed=0)
    adapted = choose_trainable(adapted, "lora").eval()
    tap = "image_encoder.blocks.1"
    expected = forward_with_tap(sam, frames(), tap).features
    # New adapters add zero; the split layer only rounds otherwise.
    torch.testing.assert_close(
        forward_with_tap(adapted, frames(), tap).features,
        expected,
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("tap", "reason"),
    [
        ("image_encoder.block.1", "does not have.*'image_encoder.blocks.1'"),
        ("image_encoder.blocks", "no pass goes through"),
        ("prompt_encoder.mask_downscaling", "no pass goes through"),
        ("mask_decoder.transformer", "yields no tensor"),
        ("mask_decoder.transformer.norm_final_attn", r"yields \(2, .*no map"),
    ],
)
def test_a_tap_that_gives_no_feature_map_is_refused_with_advice(
    tap: str, reason: str, sam: SegmentationNetwork
) -> None:
    with pytest.raises(TapError, match=f"The tap is '{tap}'.*{reason}"):
        forward_with_tap(sam, frames(), tap)


def test_the_advice_names_stages_of_this_network(fga_net: SegmentationNetwork) -> None:
    with pytest.raises(TapError, match=r"a part like 'down\.\d'"):
        forward_with_tap(fga_net, frames(), "downn.3")
