"""The optimiser loop that every kind of training at a hospital shares.

What a step descends on is passed in as a function of the batch; batches, warm-up,
clipping, deadline and the refusal of a loss that is no number are here. Plain torch;
knows nothing of Flower.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from clients.carried_moments import put_moments, take_moments
from clients.data.batches import Batch, training_batches
from clients.data.frames import Frames
from clients.tasks import Segmentation, Task
from models.network import SegmentationNetwork
from strategies.data_settings import DataSettings
from strategies.moments import Moments
from strategies.train_settings import TrainSettings


class TrainingError(RuntimeError):
    """Training cannot go on; the message is safe to show anyone."""


@dataclass(frozen=True)
class TrainPlan:
    """One phase of training at one site."""

    steps: int
    learning_rate: float  # after warm-up
    settings: TrainSettings
    data: DataSettings
    seed: int  # decides batches and augmentation
    deadline_s: float  # the phase is given up after this many seconds
    task: Task = field(default_factory=Segmentation)
    moments: Moments | None = None  # of earlier phases; None = AdamW starts afresh


@dataclass
class TrainReport:
    """What a phase of training did, step by step."""

    losses: list[float] = field(default_factory=list)  # one a step
    label_losses: list[float] = field(default_factory=list)  # of the student
    # By teacher. EMD is in [-1, 1], mean over the batch; its gap the batch's worst.
    scores: dict[str, list[float]] = field(default_factory=dict)
    gaps: dict[str, list[float]] = field(default_factory=dict)
    weights: dict[str, list[float]] = field(default_factory=dict)  # batch mean
    # Each teacher's own loss against the labels of the same batch, at the final head.
    teacher_losses: dict[str, list[float]] = field(default_factory=dict)
    control_scores: dict[str, list[float]] = field(default_factory=dict)  # EMD
    moments: Moments | None = None  # after the phase, where the plan had some

    def note(self, history: str, values: Mapping[str, Tensor | float]) -> None:
        """Add a number of this step to each of the series of a history.

        Args:
            history: Name of one of the dictionaries above.
            values: Numbers by teacher.
        """
        series: dict[str, list[float]] = getattr(self, history)
        for name, value in values.items():
            series.setdefault(name, []).append(float(value))


LossFunction = Callable[[Batch, TrainReport], Tensor]


def descend(
    model: SegmentationNetwork,
    frames: Frames,
    plan: TrainPlan,
    device: torch.device,
    loss_of: LossFunction,
    *,
    before_step: Callable[[], None] | None = None,
) -> TrainReport:
    """Take the plan's optimiser steps.

    Every phase starts a fresh AdamW, unless the plan says what it remembers.

    Args:
        model: Changed in place; ends on the device, in training mode.
        frames: What to draw batches from.
        plan: Steps, learning rate and seed.
        device: Where to train.
        loss_of: The scalar to descend on, of a batch; may add to the report.
        before_step: Called when the gradients are there, before they are clipped.

    Returns:
        The loss of every step and what `loss_of` has added.

    Raises:
        TrainingError: If the loss is not finite or the deadline passes.
    """
    model.to(device).train()
    optimiser = torch.optim.AdamW(
        parameter_groups(model, plan.settings.transformer_rate),
        lr=plan.learning_rate,
        weight_decay=plan.settings.weight_decay,
        fused=True,  # a third of the time for a network of many small tensors
    )
    if plan.moments is not None:
        put_moments(optimiser, model, plan.moments)
    report = TrainReport()
    given_up_at = time.monotonic() + plan.deadline_s
    batches = training_batches(
        frames,
        batch_size=plan.settings.batch_size,
        network_size=model.image_size,
        settings=plan.data,
        seed=plan.seed,
        device=device,
    )
    for step in range(plan.steps):
        if time.monotonic() > given_up_at:
            raise TrainingError(
                f"training reached {step} of {plan.steps} steps in "
                f"{plan.deadline_s:.0f} s. Raise phase-timeout-s or lower train.steps"
            )
        ramp = min((step + 1) / (plan.settings.warmup_steps + 1), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = plan.learning_rate * ramp * group["scale"]
        loss = loss_of(next(batches), report)
        if not bool(torch.isfinite(loss)):
            raise TrainingError(
                f"the loss became {loss.item()} in step {step + 1}. "
                "Lower train.learning-rate"
            )
        take_step(optimiser, loss, before_step=before_step)
        report.losses.append(float(loss.detach()))
    if plan.moments is not None:
        report.moments = take_moments(optimiser, model, before=plan.moments)
    return report


def parameter_groups(model: nn.Module, transformer_rate: float) -> list[dict[str, Any]]:
    """Divide what trains by its share of the learning rate.

    Args:
        model: A segmentation network, or one with such a network inside.
        transformer_rate: Share of transformers, see
            `SegmentationNetwork.transformer_parts`; all else has 1.

    Returns:
        Groups for an optimiser with `params` and `scale`; none is empty.
    """
    parts = [
        part
        for network in model.modules()
        if isinstance(network, SegmentationNetwork)
        for part in network.transformer_parts()
    ]
    slow = {id(one) for part in parts for one in part.parameters()}
    groups: dict[float, list[nn.Parameter]] = {}
    for one in model.parameters():
        if one.requires_grad:
            scale = transformer_rate if id(one) in slow else 1.0
            groups.setdefault(scale, []).append(one)
    return [{"params": ones, "scale": scale} for scale, ones in groups.items()]


def take_step(
    optimiser: torch.optim.Optimizer,
    loss: Tensor,
    *,
    clip_norm: float = 1.0,
    before_step: Callable[[], None] | None = None,
) -> None:
    """Descend once.

    Args:
        optimiser: Of the parameters that train.
        loss: Scalar.
        clip_norm: Largest L2 norm of the gradient over all parameters.
        before_step: Called when the gradients are there, before they are clipped.
    """
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    if before_step is not None:
        before_step()
    parameters = [one for group in optimiser.param_groups for one in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, max_norm=clip_norm)
    optimiser.step()
