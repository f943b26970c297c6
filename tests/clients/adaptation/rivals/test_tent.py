import copy
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from clients.adaptation.rivals.tent import adapt_tent, mean_entropy
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from models.network import SegmentationNetwork, SegmentationOutput
from models.prompt_layers import PromptedEncoderNetwork
from models.sam import Sam
from strategies.adaptation_settings import AdaptationSettings

CPU = torch.device("cpu")
Frames = Callable[..., FrameSet]
Settings = Callable[..., AdaptationSettings]


class OneNorm(SegmentationNetwork):
    """Both logits are the normalised grey value; `plain` has no normalisation."""

    def __init__(self, plain: bool = False) -> None:
        super().__init__()
        self.image_size, self.num_classes = 32, 2
        self.norm = nn.Conv2d(1, 1, 1) if plain else nn.BatchNorm2d(1)
        self.scale = nn.Parameter(torch.tensor(3.0))
        with torch.no_grad():
            self.norm.weight.fill_(1.5)
            self.norm.bias.fill_(0.25)

    def forward_with_features(self, images: Tensor) -> SegmentationOutput:
        features = self.norm(images)
        return SegmentationOutput(
            (self.scale * features).expand(-1, 2, -1, -1), features
        )


def expected_logits(images: Tensor, weight: float, bias: float) -> Tensor:
    spread = images.var(unbiased=False) + 1e-5
    normal = (images - images.mean()) / spread.sqrt()
    return 3.0 * (weight * normal + bias)


def entropy_slope(logits: Tensor) -> Tensor:
    """dH/dz of H(sigmoid(z)) = -z p (1 - p)."""
    p = logits.sigmoid()
    return -logits * p * (1 - p)


def test_one_step_is_the_one_of_adam_by_hand(
    line_frames: Frames, adapt_settings: Settings
) -> None:
    frames = line_frames(2)
    adapted = adapt_tent(OneNorm(), frames, adapt_settings(), seed=0, device=CPU)
    logits = expected_logits(frames.images, 1.5, 0.25)
    # Outputs are those from before the step, with the statistics of the batch.
    expected = logits.expand(-1, 2, -1, -1)
    torch.testing.assert_close(adapted.logits, expected, atol=1e-4, rtol=1e-4)
    normal = (logits / 3.0 - 0.25) / 1.5
    slope = entropy_slope(logits.double()) * 3.0
    gradients = [(slope * normal).mean(), slope.mean()]
    # The first step of Adam is the sign of the gradient: m / sqrt(v) = g / |g|.
    wanted = [
        start - 1e-3 * float(g / (g.abs() + 1e-8))
        for start, g in zip((1.5, 0.25), gradients, strict=True)
    ]
    norm = adapted.network.norm
    assert [norm.weight.item(), norm.bias.item()] == pytest.approx(wanted, abs=1e-6)


def test_the_second_batch_sees_what_the_first_has_changed(
    line_frames: Frames, adapt_settings: Settings
) -> None:
    frames, settings = line_frames(2), adapt_settings(batch_size=1)
    rate = 0.5
    lasting, forgetful = (
        adapt_tent(
            OneNorm(),
            frames,
            settings,
            seed=0,
            device=CPU,
            learning_rate=rate,
            episodic=episodic,
        )
        for episodic in (False, True)
    )
    untouched = torch.stack(
        [expected_logits(one, 1.5, 0.25).expand(2, -1, -1) for one in frames.images]
    )
    torch.testing.assert_close(forgetful.logits, untouched, atol=1e-4, rtol=1e-4)
    assert forgetful.network.norm.weight.item() == 1.5
    same = [
        torch.allclose(found, wanted, atol=1e-3)
        for found, wanted in zip(lasting.logits, untouched, strict=True)
    ]
    assert sorted(same) == [False, True]  # the order is drawn


def test_the_coarse_network_adapts_its_one_batch_normalisation_alone(
    tiny_sam: Sam, line_frames: Frames, adapt_settings: Settings
) -> None:
    network = PromptedEncoderNetwork(copy.deepcopy(tiny_sam))
    before = {name: one.clone() for name, one in network.state_dict().items()}
    adapted = adapt_tent(network, line_frames(4), adapt_settings(), seed=0, device=CPU)
    trained = [one for one in adapted.network.parameters() if one.requires_grad]
    assert sum(one.numel() for one in trained) == 2 * 128 // 4
    changed = {
        name
        for name, one in adapted.network.state_dict().items()
        if not torch.equal(one, before[name])
    }
    assert changed == {"decoder.6.norm.0.weight", "decoder.6.norm.0.bias"}
    after = network.state_dict()
    assert all(torch.equal(after[name], one) for name, one in before.items())


def test_without_batch_normalisation_the_affines_of_layers_adapt(
    tiny_sam: Sam, line_frames: Frames, adapt_settings: Settings
) -> None:
    frames, settings = line_frames(3), adapt_settings()
    adapted = adapt_tent(tiny_sam, frames, settings, seed=0, device=CPU)
    before = tiny_sam.state_dict()
    changed = {
        name
        for name, one in adapted.network.state_dict().items()
        if not torch.equal(one, before[name])
    }
    assert "image_encoder.blocks.0.norm1.weight" in changed
    assert not [name for name in changed if name.endswith(("qkv.weight", "lin1.bias"))]
    again = adapt_tent(tiny_sam, frames, settings, seed=0, device=CPU)
    assert torch.equal(adapted.logits, again.logits)
    with torch.no_grad():
        first = tiny_sam(frames.images)
    # One batch of two was not yet adapted: frames are in their own order.
    same = [
        torch.allclose(a, b, atol=1e-5)
        for a, b in zip(adapted.logits, first, strict=True)
    ]
    assert sum(same) == 2


def test_pixels_and_classes_that_do_not_count_have_no_say() -> None:
    logits = torch.tensor([0.0, 2.0]).view(1, 1, 1, 2).repeat(1, 2, 1, 1)
    logits[:, 1] = 7.0
    flags = torch.tensor([[True, False]])
    p = 1 / (1 + math.exp(-2.0))
    certain = -p * math.log(p) - (1 - p) * math.log(1 - p)
    both = mean_entropy(logits, flags, torch.ones(1, 1, 1, 2, dtype=torch.bool))
    assert both.item() == pytest.approx((math.log(2) + certain) / 2)
    valid = torch.tensor([False, True]).view(1, 1, 1, 2)
    assert mean_entropy(logits, flags, valid).item() == pytest.approx(certain)


def test_labels_are_not_looked_at(
    line_frames: Frames, adapt_settings: Settings
) -> None:
    frames = line_frames(2)
    blind = replace(
        frames,
        masks=torch.zeros_like(frames.masks),
        annotated=torch.zeros_like(frames.annotated),
    )
    seen, unseen = (
        adapt_tent(OneNorm(), given, adapt_settings(), seed=0, device=CPU)
        for given in (frames, blind)
    )
    assert torch.equal(seen.network.norm.weight, unseen.network.norm.weight)


def test_networks_without_a_fitting_normalisation_are_refused(
    tiny_sam: Sam, line_frames: Frames, adapt_settings: Settings
) -> None:
    frames, settings = line_frames(2), adapt_settings()
    with pytest.raises(DataError, match="needs a network with batch normalisation"):
        adapt_tent(tiny_sam, frames, settings, seed=0, device=CPU, norms="batch")
    with pytest.raises(DataError, match="needs a network with auto normalisation"):
        adapt_tent(OneNorm(plain=True), frames, settings, seed=0, device=CPU)
    with pytest.raises(DataError, match="one of auto, batch, layer, got 'group'"):
        adapt_tent(tiny_sam, frames, settings, seed=0, device=CPU, norms="group")
    with pytest.raises(DataError, match="at least one step a batch, got 0"):
        adapt_tent(OneNorm(), frames, settings, seed=0, device=CPU, steps=0)


def test_of_several_steps_a_batch_the_last_forward_is_the_output(
    line_frames: Frames, adapt_settings: Settings
) -> None:
    frames, settings = line_frames(2), adapt_settings()
    once, twice = (
        adapt_tent(OneNorm(), frames, settings, seed=0, device=CPU, steps=steps)
        for steps in (1, 2)
    )
    norm = once.network.norm
    expected = expected_logits(frames.images, norm.weight.item(), norm.bias.item())
    torch.testing.assert_close(
        twice.logits, expected.expand(-1, 2, -1, -1), atol=1e-4, rtol=1e-4
    )
