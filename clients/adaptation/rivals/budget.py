"""What the rivals share: data, budget and optimiser steps of the fine stage.

Methods are compared at one number of frames seen and one schedule of the learning
rate, so that a table shows what a method does and not how long it was allowed to.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from clients.data.augmentation import views
from clients.data.errors import DataError
from clients.data.frames import TENSORS, FrameSet
from clients.optimisation import TrainingError
from models.adapters import merge_adapters
from models.classes import CLASS_NAMES
from models.network import SegmentationNetwork
from models.sam import Sam
from models.training_modes import choose_trainable
from strategies.adaptation_settings import AdaptationSettings
from strategies.randomness import derive_seed, generator_from

LossOfViews = Callable[[FrameSet, FrameSet], Tensor]
"""Weak and strong view of a batch, on the device -> the scalar to descend on."""
OnEpoch = Callable[[int, SegmentationNetwork], None]
"""Called after every epoch with how many are done and the network as it is then."""


def adapted_flags(settings: AdaptationSettings, count: int) -> Tensor:
    """Tell which classes are adapted, whether anybody has labelled them or not.

    Args:
        settings: Their names.
        count: Number of frames.

    Returns:
        bool (count, classes).
    """
    flags = [name in settings.class_names for name in CLASS_NAMES]
    return torch.tensor(flags).expand(count, -1).clone()


def adapted_only(frames: FrameSet, settings: AdaptationSettings) -> FrameSet:
    """Keep the labels of the adapted classes; the others become unknown.

    Args:
        frames: With labels or pseudo-labels.
        settings: Names of the classes.

    Returns:
        The same images with fewer annotated classes.

    Raises:
        DataError: If nobody has annotated an adapted class.
    """
    annotated = frames.annotated & adapted_flags(settings, len(frames))
    if not bool(annotated.any()):
        raise DataError(
            f"Frames with labels of {', '.join(settings.class_names)} are wanted, got "
            f"{len(frames)} without. Choose other adapt.classes or other frames."
        )
    masks = frames.masks * annotated[:, :, None, None]
    return replace(frames, annotated=annotated, masks=masks)


def generator_of(seed: int, phase: str) -> torch.Generator:
    """Make a generator for one purpose, so that those of two purposes differ."""
    return generator_from(derive_seed(seed, round_number=0, phase=phase, site=""))


@contextmanager
def seeded(seed: int, phase: str) -> Iterator[None]:
    """Let modules that draw their own values draw them from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, round_number=0, phase=phase, site=""))
        yield


def on_device(frames: FrameSet, device: torch.device) -> FrameSet:
    """Send a batch to a device."""
    tensors = {name: getattr(frames, name).to(device) for name in TENSORS}
    return FrameSet.trusted(**tensors)


def shuffled(count: int, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """Draw the batches of one epoch: every frame once, the last batch may be small."""
    return list(torch.randperm(count, generator=generator).split(batch_size))


def endless(
    frames: FrameSet, batch_size: int, generator: torch.Generator
) -> Iterator[FrameSet]:
    """Yield batches for ever, every frame once before any comes again."""
    while True:
        for chosen in shuffled(len(frames), batch_size, generator):
            yield frames.subset(chosen)


def trainable_copy(
    sam: Sam, settings: AdaptationSettings, *, mode: str, seed: int
) -> Sam:
    """Copy a SAM and choose what of the copy trains.

    Args:
        sam: Stays as it is; adapters that it carries are merged into the copy.
        settings: Rank of new adapters.
        mode: See `models.training_modes`.
        seed: Of the values that new adapters start with.

    Returns:
        The copy, on the CPU.

    Raises:
        DataError: If nothing of it would train.
    """
    chosen = copy.deepcopy(sam).cpu()
    merge_adapters(chosen)
    with seeded(seed, "adapters"):
        choose_trainable(chosen, mode, rank=settings.lora_rank)
    if not any(one.requires_grad for one in chosen.parameters()):
        raise DataError(
            f"A SAM of which something trains with '{mode}' was wanted, got a frozen "
            "one. Pass the network as it was loaded, or choose adapt.training 'lora'."
        )
    return chosen


class RampedSteps:
    """Optimiser steps with a linear ramp of the learning rate, then a constant one."""

    def __init__(
        self, optimiser: torch.optim.Optimizer, rate: float, ramp_steps: int
    ) -> None:
        """Begin at the foot of the ramp.

        Args:
            optimiser: Of all that trains.
            rate: Learning rate after the ramp.
            ramp_steps: Length of the ramp; 0 = none.
        """
        self.optimiser, self.rate, self.ramp_steps = optimiser, rate, ramp_steps
        self.taken = 0

    def descend(self, loss: Tensor) -> None:
        """Take one step.

        Args:
            loss: Scalar.

        Raises:
            TrainingError: If the loss is not finite.
        """
        if not bool(torch.isfinite(loss)):
            raise TrainingError(
                f"the loss became {loss.item()} in step {self.taken + 1}. "
                "Lower adapt.learning-rate"
            )
        self.taken += 1
        share = min(self.taken / max(self.ramp_steps, 1), 1.0)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * share
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()


def trained_parameters(*networks: nn.Module) -> list[nn.Parameter]:
    """Return what trains of several networks, once where they share it."""
    return [one for one in nn.ModuleList(networks).parameters() if one.requires_grad]


def descend_on_views(
    network: SegmentationNetwork,
    frames: FrameSet,
    settings: AdaptationSettings,
    *,
    seed: int,
    device: torch.device,
    loss_of: LossOfViews,
    on_epoch: OnEpoch | None = None,
) -> None:
    """Train as long and with the same Adam, ramp and views as the fine stage.

    Args:
        network: Changed in place; ends on the device, in evaluation mode.
        frames: What to draw batches from.
        settings: Epochs, batch size, learning rate, weight decay and ramp.
        seed: Decides order and views.
        device: Where to train.
        loss_of: What to descend on.
        on_epoch: May look at the network after every epoch.

    Raises:
        TrainingError: If the loss is not finite.
    """
    generator = generator_of(seed, "batches")
    network.to(device)
    optimiser = torch.optim.Adam(
        trained_parameters(network),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    steps = RampedSteps(optimiser, settings.learning_rate, settings.ramp_steps)
    for epoch in range(settings.epochs):
        network.train()
        for chosen in shuffled(len(frames), settings.batch_size, generator):
            weak, strong = views(frames.subset(chosen), generator=generator)
            steps.descend(loss_of(on_device(weak, device), on_device(strong, device)))
        network.eval()
        if on_epoch is not None:
            on_epoch(epoch + 1, network)
