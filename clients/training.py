"""What a hospital does with a model: train it on its frames, measure it.

Three kinds of steps share one loop: local steps on labels, overseas steps of a
visitor's model (FedEFM, arXiv 2501.16992, eq. 1), and distillation from the teachers
that came back (eqs. 2 to 12). Plain torch; knows nothing of Flower.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from clients.data.batches import Batch, evaluation_batches, predict, training_batches
from clients.data.frames import Frames
from models.losses import SegmentationLoss
from models.metrics import SegmentationCounts, count_segmentation
from models.network import SegmentationNetwork, SegmentationOutput
from strategies.data_settings import DataSettings
from strategies.distillation import (
    distillation_loss,
    edge_weight,
    multishot_loss,
    score_teachers,
)
from strategies.randomness import generator_from
from strategies.settings import FedEFMSettings, TrainSettings


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


@dataclass
class TrainReport:
    """What a phase of training did."""

    losses: list[float] = field(default_factory=list)  # one a step
    label_losses: list[float] = field(default_factory=list)
    scores: dict[str, list[float]] = field(default_factory=dict)  # EMD, by teacher
    weights: dict[str, list[float]] = field(default_factory=dict)  # by teacher


LossFunction = Callable[[Batch, TrainReport], Tensor]


def train_on_labels(
    model: SegmentationNetwork, frames: Frames, plan: TrainPlan, device: torch.device
) -> TrainReport:
    """Train a model on a site's labels: local and overseas steps, eq. (1).

    Args:
        model: Changed in place; ends on the device.
        frames: The site's training frames.
        plan: Steps, learning rate and seed.
        device: Where to train.

    Returns:
        The loss of every step.

    Raises:
        TrainingError: If the loss is not finite or the deadline passes.
    """
    criterion = SegmentationLoss(cldice_weight=plan.settings.cldice_weight)

    def loss_of(batch: Batch, report: TrainReport) -> Tensor:
        loss: Tensor = criterion(model(batch.images), batch.masks, batch.annotated)
        report.label_losses.append(float(loss.detach()))
        return loss

    return _descend(model, frames, plan, device, loss_of)


def train_with_teachers(
    model: SegmentationNetwork,
    teachers: Mapping[str, SegmentationNetwork],
    frames: Frames,
    plan: TrainPlan,
    device: torch.device,
    *,
    settings: FedEFMSettings,
    beta: float,
) -> TrainReport:
    """Train a model on labels and on what its teachers see in the same batch.

    Args:
        model: The student, changed in place; ends on the device.
        teachers: Frozen models by the name of their host; they end on the device.
        frames: The student's own training frames.
        plan: Steps, learning rate and seed.
        device: Where to train.
        settings: Weights, temperature and how terms combine, eqs. (2) and (11).
        beta: Share of the distillation in this round, 0 to 1.

    Returns:
        Loss, EMD score and weight of every step.

    Raises:
        TrainingError: If the loss is not finite or the deadline passes.
    """
    criterion = SegmentationLoss(cldice_weight=plan.settings.cldice_weight)
    weight_generator = generator_from(plan.seed ^ 1)
    for teacher in teachers.values():
        teacher.to(device).eval()

    def loss_of(batch: Batch, report: TrainReport) -> Tensor:
        student = model.forward_with_features(batch.images)
        label_loss = criterion(student.logits, batch.masks, batch.annotated)
        seen = _ask(teachers, batch.images)
        features = {name: output.features for name, output in seen.items()}
        scores = score_teachers(student.features, features, settings)
        weights = {
            name: edge_weight(score, settings, generator=weight_generator)
            for name, score in scores.items()
        }
        losses = [
            distillation_loss(
                student.logits, output.logits, temperature=settings.temperature
            )
            for output in seen.values()
        ]
        report.label_losses.append(float(label_loss.detach()))
        _note(report.scores, scores)
        _note(report.weights, weights)
        return multishot_loss(
            label_loss, losses, list(weights.values()), beta=beta, settings=settings
        )

    return _descend(model, frames, plan, device, loss_of)


@torch.no_grad()
def evaluate(
    model: SegmentationNetwork,
    frames: Frames,
    *,
    settings: DataSettings,
    batch_size: int,
    device: torch.device,
) -> tuple[float, SegmentationCounts]:
    """Measure a model on frames, without augmentation.

    Args:
        model: Ends on the device, in evaluation mode.
        frames: What to measure on; larger than the network = a sliding window.
        settings: How frames are normalised.
        batch_size: Frames per pass.
        device: Where to compute.

    Returns:
        The mean loss per frame and the counts that the server may add up.
    """
    model.to(device).eval()
    criterion = SegmentationLoss()
    total, counts = 0.0, SegmentationCounts.zero()
    for batch in evaluation_batches(
        frames, batch_size=batch_size, settings=settings, device=device
    ):
        logits = predict(model, batch.images, model.image_size)
        loss = criterion(logits, batch.masks, batch.annotated)
        total += float(loss) * len(batch)
        # A logit above 0 is a probability above 0.5.
        counts += count_segmentation(
            (logits > 0).cpu(), batch.masks.cpu(), batch.annotated.cpu()
        )
    return total / len(frames), counts


@torch.no_grad()
def _ask(
    teachers: Mapping[str, SegmentationNetwork], images: Tensor
) -> dict[str, SegmentationOutput]:
    """Let every teacher look at the student's frames."""
    return {
        name: teacher.forward_with_features(images)
        for name, teacher in sorted(teachers.items())
    }


def _descend(
    model: SegmentationNetwork,
    frames: Frames,
    plan: TrainPlan,
    device: torch.device,
    loss_of: LossFunction,
) -> TrainReport:
    """Take the plan's optimiser steps; every phase starts a fresh AdamW."""
    model.to(device).train()
    parameters = [one for one in model.parameters() if one.requires_grad]
    optimiser = torch.optim.AdamW(
        parameters,
        lr=plan.learning_rate,
        weight_decay=plan.settings.weight_decay,
        fused=True,  # a third of the time for a network of many small tensors
    )
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
            group["lr"] = plan.learning_rate * ramp
        loss = loss_of(next(batches), report)
        if not bool(torch.isfinite(loss)):
            raise TrainingError(
                f"the loss became {loss.item()} in step {step + 1}. "
                "Lower train.learning-rate"
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, max_norm=1.0)
        optimiser.step()
        report.losses.append(float(loss.detach()))
    return report


def _note(history: dict[str, list[float]], values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        history.setdefault(name, []).append(float(value.detach()))
