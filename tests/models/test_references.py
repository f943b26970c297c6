"""The reference networks: the one interface, exchange, and what they cost."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from models.cost import count_parameters, published_macs
from models.network import SegmentationNetwork
from models.references import REFERENCES

ROOT = Path(__file__).resolve().parents[2]
SIZE = 64  # px; the smallest that all of them take
DEEPEST = {
    "unet-plus-plus": (512, 4),
    "unet-plus-plus-resnet34": (512, 2),
    "attention-unet": (1024, 4),
    "attention-unet-small": (256, 4),
    "deeplab-v3-plus": (2048, 4),
    "ce-net": (512, 2),
    "trans-unet": (768, 4),
    "trans-unet-fedefm": (768, 4),
    "swin-unet": (768, 2),
}
TRAINED = [name for name in REFERENCES if name not in ("attention-unet", "trans-unet")]
"""Each kind once: the two left out are larger builds of kinds that are in."""


@pytest.fixture(autouse=True)
def without_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail whatever would download weights."""

    def refuse(*_: object) -> None:
        raise AssertionError("A reference network asked for the internet.")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def build(name: str, seed: int, size: int = SIZE) -> SegmentationNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return REFERENCES[name](image_size=size, num_classes=2)


def draw(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, SIZE, SIZE, generator=generator)


@pytest.mark.parametrize("name", REFERENCES)
def test_logits_have_the_size_of_the_frame_and_features_that_of_the_depth(
    name: str,
) -> None:
    network = build(name, seed=0).eval()
    with torch.no_grad():
        output = network.forward_with_features(draw(2))
        channels, side = DEEPEST[name]
        assert output.logits.shape == (2, 2, SIZE, SIZE)
        assert output.features.shape == (2, channels, side, side)
        assert output.logits.isfinite().all()
        assert torch.equal(network(draw(2)), output.logits)
        # The frames of a batch do not see each other.
        torch.testing.assert_close(
            network(draw(2)[1:]), output.logits[1:], atol=1e-4, rtol=1e-4
        )
    with pytest.raises(ValueError, match=r"must be \(batch, 1, 64, 64\)"):
        network(torch.zeros(1, 3, SIZE, SIZE))


@pytest.mark.parametrize("name", TRAINED)
def test_training_reaches_every_parameter_and_travels_with_its_statistics(
    name: str,
) -> None:
    # Prepare
    trained, other = build(name, seed=0).train(), build(name, seed=1).eval()
    images, targets = draw(2), (draw(2, seed=1) > 0.5).float().expand(-1, 2, -1, -1)
    # Execute
    functional.binary_cross_entropy_with_logits(trained(images), targets).backward()
    gradients = {name: one.grad for name, one in trained.named_parameters()}
    with torch.no_grad():
        for one in trained.parameters():
            one -= 1e-3 * one.grad
    before = other(images)
    other.load_trainable_state(
        {name: one.clone() for name, one in trained.trainable_state().items()}
    )
    # Assert
    for parameter, gradient in gradients.items():
        assert gradient is not None, parameter
        assert gradient.isfinite().all(), parameter
    unmoved = [name for name, one in gradients.items() if not one.any()]
    assert unmoved == []
    expected = trained.eval()(images)
    assert not torch.allclose(before, expected)
    assert torch.equal(other(images), expected)


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("size", [0, 24, 72])
def test_a_size_that_cannot_be_halved_often_enough_is_refused(
    name: str, size: int
) -> None:
    with pytest.raises(
        ValueError, match=rf"multiple of (16|32), at least \d+, got {size}"
    ):
        REFERENCES[name](image_size=size, num_classes=1)


@pytest.mark.parametrize(
    ("name", "parameters", "cost"),
    [
        ("ce-net", 29.00, 33.79),
        ("unet-plus-plus", 9.16, 139.61),
        ("unet-plus-plus-resnet34", 26.08, 73.80),
        ("deeplab-v3-plus", 45.67, 56.40),
        ("attention-unet", 31.74, 227.62),
    ],
)
def test_the_cost_under_the_rules_of_the_paper_is_known(
    name: str, parameters: float, cost: float
) -> None:
    network = REFERENCES[name](image_size=512, num_classes=1)
    assert count_parameters(network) / 1e6 == pytest.approx(parameters, abs=0.01)
    assert published_macs(network, 512) / 1e9 == pytest.approx(cost, abs=0.01)


def test_the_published_cost_of_ce_net_counts_three_convolutions_done_again() -> None:
    network = REFERENCES["ce-net"](image_size=512, num_classes=1)
    one = 16 * 16 * 512 * 512 * 9  # of the context block, on features of 16 x 16
    # Branches of 1, 1, 2 and 3 atrous convolutions make seven; ours share to four.
    as_published = published_macs(network, 512) + 3 * one
    assert as_published / 1e9 == pytest.approx(35.60, abs=0.01)


def test_the_published_cost_of_attention_u_net_counts_a_second_merge() -> None:
    network = REFERENCES["attention-unet"](image_size=512, num_classes=1)
    # MONAI merges with one 3x3 convolution a level; all four cost the same.
    second = 4 * 64 * 64 * 512 * 512 * 9
    as_published = published_macs(network, 512) + second
    assert as_published / 1e9 == pytest.approx(266.53, abs=0.3)  # normalisations


def test_libraries_that_take_seconds_are_imported_only_when_needed() -> None:
    program = (
        "import sys, models.references\n"
        "slow = {'monai', 'timm', 'segmentation_models_pytorch', 'torchvision'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_the_same_seed_gives_the_same_network() -> None:
    first, second, third = (build("swin-unet", seed=one) for one in (0, 0, 1))
    state = first.state_dict()
    assert all(torch.equal(state[k], v) for k, v in second.state_dict().items())
    assert not all(torch.equal(state[k], v) for k, v in third.state_dict().items())


@pytest.mark.parametrize("size", [64, 96, 128])
def test_swin_unet_is_what_monai_computes(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = build("swin-unet", seed=0, size=size).eval()
    # MONAI orders axes with einops, which need not be there; these are its two uses.
    orders = {"h w c": (0, 2, 3, 1), "c h w": (0, 3, 1, 2)}
    monkeypatch.setattr(
        sys.modules["monai.networks.nets.swin_unetr"],
        "rearrange",
        lambda tensor, pattern: tensor.permute(orders[pattern[-5:]]),
    )
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 1, size, size, generator=generator)
    with torch.no_grad():
        expected = network.model(images.expand(-1, 3, -1, -1))
        assert torch.equal(network(images), expected)


def test_attention_unet_is_what_monai_computes() -> None:
    network = build("attention-unet-small", seed=0).eval()
    with torch.no_grad():
        expected = network.model(draw(2).expand(-1, 3, -1, -1))
        assert torch.equal(network(draw(2)), expected)
