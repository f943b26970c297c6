"""One run of a few-shot study: train on the shots, choose on validation, test once.

Random weights and the foundation get the same frames, batches, augmentation, steps
and learning rate. Every random number comes from (seed, shots), so a run is the same
in whatever process it happens. Which frames there are stands in
`experiments/fewshot.py`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from clients.data.augmentation import augment
from clients.data.frames import FrameSet
from experiments.fewshot import (
    FinetuneResult,
    FinetuneSettings,
    choose_shots,
    overlay_indices,
    run_generator,
    unseen_frames,
)
from models.assembly import restore_model
from models.losses import SegmentationLoss
from models.metrics import count_segmentation
from models.network import SegmentationNetwork
from models.registry import build_model
from server.checkpoints import load_foundation, recipe_of

PREDICTION_BATCH = 8  # frames per pass without gradients


class FinetuneError(RuntimeError):
    """The study cannot be done; the message says what to change."""


@dataclass(frozen=True)
class FinetuneTask:
    """One run of the study, small enough to be sent to another process."""

    checkpoint: Path  # foundation.safetensors, its card beside it
    settings: FinetuneSettings
    shots: int
    start: str  # one of STARTS
    seed: int
    device: str  # "cpu" or "cuda"


@dataclass(frozen=True)
class FinetuneOutcome:
    """A result and, for the picture, what the chosen weights saw in a few frames."""

    result: FinetuneResult
    predicted: Tensor  # bool (overlay frames, classes, size, size)


@dataclass(frozen=True)
class _Choice:
    """The weights with the best validation Dice so far."""

    step: int
    dice: float
    state: dict[str, Tensor]


def finetune_once(task: FinetuneTask) -> FinetuneOutcome:
    """Train one model on its shots, choose a step, measure it on the test frames.

    Args:
        task: What to start from and how many frames to show.

    Returns:
        The result, and the predictions for the picture.

    Raises:
        FinetuneError: If the loss is not finite.
        FileNotFoundError: If there is no foundation.
        ValueError: If the foundation's files are damaged or fit no model.
    """
    model = _starting_model(task)
    split = unseen_frames(task.settings, model.image_size)
    shown = choose_shots(split.train, shots=task.shots, seed=task.seed)
    choice, dice_at_start = _train_and_choose(model, shown, split.validation, task)
    model.load_trainable_state(choice.state)
    predicted = predict_masks(model, split.test.images)
    counts = count_segmentation(predicted, split.test.masks, split.test.annotated)
    scores = counts.scores()
    result = FinetuneResult(
        shots=task.shots,
        start=task.start,
        seed=task.seed,
        chosen_step=choice.step,
        validation_dice_at_start=dice_at_start,
        validation_dice=choice.dice,
        test_dice=scores["dice"],
        test_cldice=scores["cldice"],
        test_dice_per_image=scores["dice-per-image"],
        test_frames=counts.frames,
        missed=sum(counts.missed),
        false_alarms=sum(counts.false_alarms),
    )
    chosen = overlay_indices(split.test, task.settings.overlay_frames)
    return FinetuneOutcome(result, predicted[chosen])


@torch.no_grad()
def predict_masks(model: SegmentationNetwork, images: Tensor) -> Tensor:
    """Segment frames in evaluation mode.

    Args:
        model: On any device; stays in evaluation mode.
        images: (frames, 1, size, size), values 0 to 1.

    Returns:
        bool (frames, classes, size, size) on the CPU, True above probability 0.5.
    """
    model.eval()
    device = next(model.parameters()).device
    parts = [
        (model(part.to(device)) > 0).cpu()  # a logit of 0 is a probability of 0.5
        for part in images.split(PREDICTION_BATCH)
    ]
    return torch.cat(parts)


def learning_rate_at(step: int, settings: FinetuneSettings) -> float:
    """Return the learning rate of a step: linear warm-up, then a cosine.

    Args:
        step: From 0 to `settings.steps` - 1.
        settings: Peak, warm-up and number of steps.

    Returns:
        A number above 0, at most the peak.
    """
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / (settings.warmup_steps + 1)
    falling = max(settings.steps - settings.warmup_steps, 1)
    progress = (step - settings.warmup_steps) / falling
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def _starting_model(task: FinetuneTask) -> SegmentationNetwork:
    state, card = load_foundation(task.checkpoint)
    recipe = recipe_of(card)
    if task.start == "foundation":
        model = restore_model(state, recipe)
    else:
        model = build_model(recipe.name, image_size=recipe.image_size, seed=task.seed)
    return model.to(task.device)


def _train_and_choose(
    model: SegmentationNetwork,
    shown: FrameSet,
    validation: FrameSet,
    task: FinetuneTask,
) -> tuple[_Choice, float]:
    """Return the best weights and the validation Dice before the first step."""
    settings = task.settings
    best, dice_at_start = _Choice(-1, -math.inf, {}), math.nan
    for step in _train(model, shown, task):
        if step % settings.validate_every and step != settings.steps:
            continue
        predicted = predict_masks(model, validation.images)
        counts = count_segmentation(predicted, validation.masks, validation.annotated)
        dice = counts.scores()["dice"]
        if step == 0:
            dice_at_start = dice
        if dice > best.dice:  # of equal steps the first
            state = model.trainable_state()
            kept = {name: tensor.clone() for name, tensor in state.items()}
            best = _Choice(step, dice, kept)
    return best, dice_at_start


def _train(
    model: SegmentationNetwork, shown: FrameSet, task: FinetuneTask
) -> Iterator[int]:
    """Train, yielding the number of finished steps from 0 to the last."""
    settings = task.settings
    parameters = [one for one in model.parameters() if one.requires_grad]
    optimiser = torch.optim.AdamW(
        parameters, weight_decay=settings.weight_decay, fused=True
    )
    criterion = SegmentationLoss(cldice_weight=settings.cldice_weight)
    generator = run_generator(task.seed, shots=task.shots, purpose="batches")
    yield 0
    for step in range(settings.steps):
        model.train()
        drawn = torch.randint(len(shown), (settings.batch_size,), generator=generator)
        batch = shown.subset(drawn)
        batch = augment(batch, "light", generator=generator)
        logits = model(batch.images.to(task.device))
        loss = criterion(logits, batch.masks.to(task.device), batch.annotated)
        if not bool(torch.isfinite(loss)):
            raise FinetuneError(
                f"The loss became {loss.item()} in step {step + 1} of a run with "
                f"{task.shots} shots from {task.start} weights. "
                "Lower the learning rate."
            )
        for group in optimiser.param_groups:
            group["lr"] = learning_rate_at(step, settings)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, max_norm=1.0)
        optimiser.step()
        yield step + 1
