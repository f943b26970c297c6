from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from clients.adaptation.rivals.budget import RampedSteps, adapted_only
from clients.adaptation.rivals.supervised import train_supervised
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from clients.optimisation import TrainingError
from models.sam import Sam
from strategies.adaptation_settings import AdaptationSettings

CPU = torch.device("cpu")
Frames = Callable[..., FrameSet]
Settings = Callable[..., AdaptationSettings]


def test_it_learns_the_lines_and_leaves_the_argument_alone(
    tiny_sam: Sam, line_frames: Frames, adapt_settings: Settings
) -> None:
    before = {name: one.clone() for name, one in tiny_sam.state_dict().items()}
    frames = line_frames(2)
    settings = adapt_settings(epochs=30, learning_rate=3e-3, training="full")
    trained = train_supervised(tiny_sam, frames, settings, seed=0, device=CPU)
    with torch.no_grad():
        mask, label = trained(frames.images) > 0, frames.masks > 0
    dice = 2 * (mask & label).sum() / (mask.sum() + label.sum())
    assert dice > 0.8
    after = tiny_sam.state_dict()
    assert all(torch.equal(after[name], one) for name, one in before.items())


def test_lora_trains_nothing_but_adapters_and_one_seed_gives_the_same_bits(
    tiny_sam: Sam, line_frames: Frames, adapt_settings: Settings
) -> None:
    frames, settings = line_frames(3), adapt_settings(epochs=1)
    one, again = (
        train_supervised(tiny_sam, frames, settings, seed=5, device=CPU)
        for _ in range(2)
    )
    names = {name for name, part in one.named_parameters() if part.requires_grad}
    assert names and all("lora_" in name for name in names)
    state = again.state_dict()
    assert all(
        torch.equal(state[name], part) for name, part in one.state_dict().items()
    )
    moved = [part for name, part in one.named_parameters() if "lora_B" in name]
    assert all(bool((part != 0).any()) for part in moved)


def test_a_class_that_is_not_adapted_teaches_nothing(
    tiny_sam: Sam, line_frames: Frames, adapt_settings: Settings
) -> None:
    settings = adapt_settings(classes="guidewire", epochs=1)
    frames = line_frames(2)
    changed = frames.masks.clone()
    changed[:, 0] = 1 - changed[:, 0]  # the catheter
    one, other = (
        train_supervised(tiny_sam, given, settings, seed=1, device=CPU).state_dict()
        for given in (frames, replace(frames, masks=changed))
    )
    assert all(torch.equal(other[name], part) for name, part in one.items())
    kept = adapted_only(frames, settings)
    assert kept.annotated.tolist() == [[False, True]] * 2
    assert not bool(kept.masks[:, 0].any())


def test_every_epoch_is_shown_to_who_asked(
    tiny_sam: Sam, line_frames: Frames, adapt_settings: Settings
) -> None:
    seen: list[tuple[int, bool]] = []
    train_supervised(
        tiny_sam,
        line_frames(2),
        adapt_settings(epochs=3),
        seed=0,
        device=CPU,
        on_epoch=lambda done, network: seen.append((done, network.training)),
    )
    assert seen == [(1, False), (2, False), (3, False)]


def test_frames_without_labels_of_the_class_are_refused(
    tiny_sam: Sam, line_frames: Frames, adapt_settings: Settings
) -> None:
    frames = line_frames(2)
    unknown = replace(
        frames,
        annotated=torch.tensor([[True, False]] * 2),
        masks=frames.masks * torch.tensor([1, 0]).view(1, 2, 1, 1).to(torch.uint8),
    )
    settings = adapt_settings(classes="guidewire")
    with pytest.raises(DataError, match="labels of guidewire are wanted, got 2"):
        train_supervised(tiny_sam, unknown, settings, seed=0, device=CPU)


def test_the_learning_rate_rises_in_a_line_and_a_loss_that_is_no_number_stops() -> None:
    weight = torch.nn.Parameter(torch.tensor(1.0))
    steps = RampedSteps(torch.optim.SGD([weight], lr=9.0), 0.4, 4)
    rates = []
    for _ in range(6):
        steps.descend(weight * 1.0)
        rates.append(steps.optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])
    assert weight.item() == pytest.approx(1 - sum(rates))
    with pytest.raises(TrainingError, match=r"nan in step 7\. Lower"):
        steps.descend(weight * float("nan"))
