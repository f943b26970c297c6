import copy
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from clients.adaptation.rivals.balanced_norm import (
    BalancedNorm2d,
    balance,
    make_plain,
    share_cells,
)
from clients.adaptation.rivals.tribe import (
    adapt_tribe,
    build_trio,
    regions_of,
    tribe_loss,
)
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from models.network import SegmentationNetwork, SegmentationOutput
from models.prompt_layers import PromptedEncoderNetwork
from models.sam import Sam
from strategies.adaptation_settings import AdaptationSettings

CPU = torch.device("cpu")
Frames = Callable[..., FrameSet]
Settings = Callable[..., AdaptationSettings]


class SureNetwork(SegmentationNetwork):
    """Bright is a device, and it is sure of it."""

    def __init__(self) -> None:
        super().__init__()
        self.image_size, self.num_classes = 32, 2
        self.norm = nn.BatchNorm2d(1)
        self.norm.running_mean.fill_(0.5)
        self.norm.running_var.fill_(0.04)

    def forward_with_features(self, images: Tensor) -> SegmentationOutput:
        features = self.norm(images)
        return SegmentationOutput((6 * features).expand(-1, 2, -1, -1), features)


def layer(mean: float, variance: float, channels: int = 1) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    norm.running_mean.fill_(mean)
    norm.running_var.fill_(variance)
    return norm


def test_without_regions_it_is_the_trained_layer() -> None:
    norm = nn.BatchNorm2d(3)
    images = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    norm(images * 2 + 1)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
        norm.bias.copy_(torch.tensor([0.1, 0.2, 0.3]))
    norm.eval()
    balanced = BalancedNorm2d(norm, num_classes=2)
    torch.testing.assert_close(balanced(images), norm(images))
    assert balanced.momentum == 0.01
    assert BalancedNorm2d(norm, num_classes=100).momentum == pytest.approx(0.05)


def test_each_class_follows_its_own_regions_by_hand() -> None:
    balanced = BalancedNorm2d(layer(1.0, 4.0), num_classes=2)
    features = torch.tensor([[[[2.0, 4.0], [9.0, 0.0]]], [[[5.0, 7.0], [3.0, 3.0]]]])
    device = torch.zeros(2, 2, 2, dtype=torch.bool)
    device[0, 1, 0] = True  # 9 in the first frame, nothing in the second
    background = ~device
    background[0, 1, 1] = False  # not valid
    balanced.regions = torch.stack([background, device], dim=1)
    balanced(features)
    # Background: frame means of x - 1 are (1 + 3) / 2 and (4 + 6 + 2 + 2) / 4.
    step = 0.01 * (2.0 + 3.5)
    square = (1 + 9) / 2 + (16 + 36 + 4 + 4) / 4
    wanted = 4 + 0.01 * (square - 2 * 4) - step**2
    assert balanced.means[0].item() == pytest.approx(1 + step)
    assert balanced.variances[0].item() == pytest.approx(wanted)
    # Device: one frame, one pixel.
    assert balanced.means[1].item() == pytest.approx(1 + 0.01 * 8)
    assert balanced.variances[1].item() == pytest.approx(
        4 + 0.01 * (64 - 4) - 0.08**2, rel=1e-5
    )
    assert balanced.regions is None  # a batch is followed once


def test_many_samples_replace_what_was_known() -> None:
    balanced = BalancedNorm2d(layer(5.0, 9.0), num_classes=2)
    features = torch.randn(200, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    regions = torch.zeros(200, 2, 1, 1, dtype=torch.bool)
    regions[:, 1] = True
    balanced.regions = regions
    balanced(features)
    assert balanced.means[1].item() == pytest.approx(features.mean().item(), abs=1e-4)
    wanted = features.var(unbiased=False).item()
    assert balanced.variances[1].item() == pytest.approx(wanted, abs=1e-3)
    assert (balanced.means[0].item(), balanced.variances[0].item()) == (5.0, 9.0)


def test_classes_weigh_the_same_in_the_mixture_and_a_plain_layer_keeps_it() -> None:
    network = nn.Sequential(layer(0.0, 1.0))
    (balanced,) = balance(network, num_classes=2)
    balanced.means[1], balanced.variances[1] = 2.0, 3.0
    mean, variance = balanced.mixture()
    assert (mean.item(), variance.item()) == (1.0, 2.0 + 1.0)
    images = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    expected = (images - 1) / math.sqrt(3 + 1e-5)
    torch.testing.assert_close(network(images), expected)
    make_plain(network)
    assert type(network[0]) is nn.BatchNorm2d
    torch.testing.assert_close(network(images), expected)


def test_a_cell_that_a_device_touches_is_the_devices() -> None:
    device = torch.zeros(1, 4, 4, dtype=torch.bool)
    device[0, 0, 3] = True
    background = ~device
    background[0, 2:, :2] = False  # a corner that is not valid
    cells = share_cells(torch.stack([background, device], dim=1), torch.Size([2, 2]))
    assert cells[0, 0].tolist() == [[1, 0], [0, 1]]
    assert cells[0, 1].tolist() == [[0, 1], [0, 0]]


def test_regions_are_of_the_adapted_classes_and_valid_pixels() -> None:
    labels = torch.tensor([[[[True, False, True, True]], [[True, True, False, True]]]])
    counts = torch.tensor(
        [[[[True, True, True, False]], [[False, False, False, False]]]]
    )
    regions = regions_of(labels, counts)
    assert regions[0, 0].tolist() == [[False, True, False, False]]
    assert regions[0, 1].tolist() == [[True, False, True, False]]


def test_only_what_the_teacher_is_sure_of_is_learnt_and_held() -> None:
    teacher = torch.tensor([6.0, -7.0, 4.0, 9.0]).view(1, 1, 1, 4).requires_grad_()
    student = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 4).requires_grad_()
    anchor = torch.tensor([5.0, -5.0, 0.0, 0.0]).view(1, 1, 1, 4)
    counts = torch.tensor([True, True, True, False]).view(1, 1, 1, 4)
    loss = tribe_loss(student, teacher, anchor, teacher > 0, counts)
    assert loss is not None
    # Logit 4 has an entropy of 0.090 and 6 one of 0.017; the limit is 0.035.
    learning = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(2))) / 2
    holding = (1.0**2 + 2.0**2) / 2
    assert loss.item() == pytest.approx(learning + 0.5 * holding, rel=1e-5)
    loss.backward()
    assert (student.grad != 0).flatten().tolist() == [True, True, False, False]
    assert (teacher.grad != 0).flatten().tolist() == [True, True, False, False]
    unsure = torch.zeros(1, 1, 1, 4)
    assert tribe_loss(unsure, unsure, unsure, unsure > 0, counts) is None


def test_teacher_and_student_share_their_affines_and_the_anchor_has_its_own() -> None:
    trio = build_trio(SureNetwork(), CPU)
    norms = [member.norms[0] for member in trio]
    assert norms[0].weight is norms[1].weight and norms[0].bias is norms[1].bias
    assert norms[2].weight is not norms[0].weight
    assert not norms[2].weight.requires_grad
    assert norms[0].means is not norms[1].means


def test_the_outputs_are_the_teachers_from_before_the_step(
    line_frames: Frames, adapt_settings: Settings
) -> None:
    network, frames = SureNetwork().eval(), line_frames(2)
    with torch.no_grad():
        expected = network(frames.images)
    adapted = adapt_tribe(network, frames, adapt_settings(), seed=0, device=CPU)
    torch.testing.assert_close(adapted.logits, expected)
    assert type(adapted.network.norm) is nn.BatchNorm2d
    assert adapted.network.norm.weight.item() != 1.0
    assert network.norm.weight.item() == 1.0 and network.norm.running_mean == 0.5
    with torch.no_grad():
        after = adapted.network(frames.images)
    assert not torch.allclose(after, expected)


def test_a_network_that_is_sure_of_nothing_keeps_its_affines(
    line_frames: Frames, adapt_settings: Settings
) -> None:
    network = SureNetwork()
    with torch.no_grad():
        network.norm.weight.fill_(0.001)
    settings = adapt_settings()
    adapted = adapt_tribe(network, line_frames(4), settings, seed=0, device=CPU)
    assert torch.equal(adapted.network.norm.weight, network.norm.weight)
    # Its statistics follow all the same.
    assert adapted.network.norm.running_mean != network.norm.running_mean


def test_the_coarse_network_comes_back_in_its_own_shape(
    tiny_sam: Sam, line_frames: Frames, adapt_settings: Settings
) -> None:
    network = PromptedEncoderNetwork(copy.deepcopy(tiny_sam))
    with torch.no_grad():
        network.decoder[-1].weight.mul_(100)  # sure of something
    frames, settings = line_frames(4), adapt_settings()
    one, again = (
        adapt_tribe(network, given, settings, seed=0, device=CPU)
        for given in (
            frames,
            replace(frames, masks=1 - frames.masks),  # never looked at
        )
    )
    assert torch.equal(one.logits, again.logits)
    before, after = network.state_dict(), one.network.state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    own = {"weight", "bias", "running_mean", "running_var"}
    assert changed == {f"decoder.6.norm.0.{name}" for name in own}
    copy.deepcopy(network).load_state_dict(after)


def test_networks_without_batch_normalisation_are_told_what_to_choose(
    tiny_sam: Sam, line_frames: Frames, adapt_settings: Settings
) -> None:
    with pytest.raises(DataError, match=r"TRIBE needs .* 'prompt-layers', or TENT"):
        adapt_tribe(tiny_sam, line_frames(2), adapt_settings(), seed=0, device=CPU)
