"""One run of a few-shot study: train on the shots, choose on validation, test once.

All starts and methods get the same frames, batches, augmentation, steps and learning
rate. Every random number comes from (seed, shots), so a run is the same in whatever
process it happens. What is trained on stands in `experiments/finetuning/objectives.py`.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clients.optimisation import take_step
from experiments.finetuning.data import StudyData
from experiments.finetuning.fewshot import (
    SCORES,
    FinetuneError,
    FinetuneResult,
    FinetuneSettings,
    FinetuneTask,
    overlay_indices,
)
from experiments.finetuning.finetuned import save_finetuned
from experiments.finetuning.methods import StartingPoint, recipe_for, starting_point
from experiments.finetuning.objectives import Objective, objective_of
from experiments.model_source import ModelSource


@dataclass(frozen=True)
class Study:
    """What all runs share; small enough to be sent to another process."""

    source: ModelSource
    settings: FinetuneSettings
    data: StudyData
    device: str  # "cpu" or "cuda"
    models: Path | None = None  # folder for the trained networks; None = not kept


@dataclass(frozen=True)
class FinetuneOutcome:
    """A result and, for the picture, what the chosen weights saw in a few frames."""

    result: FinetuneResult
    predicted: Tensor | None  # bool (overlay frames, classes, size, size)


@dataclass(frozen=True)
class _Choice:
    """The weights with the best validation score so far."""

    step: int
    score: float
    state: dict[str, Tensor]


@dataclass(frozen=True)
class _Trained:
    """How a run went."""

    best: _Choice
    steps: int
    at_start: float
    curve: tuple[dict[str, float], ...]


def finetune_once(task: FinetuneTask, study: Study) -> FinetuneOutcome:
    """Train one model on its shots, choose a step, measure it on the test frames.

    Args:
        task: Which run.
        study: What it shares with the others.

    Returns:
        The result, and the predictions for the picture.

    Raises:
        FinetuneError: If the loss is not finite, or the method does not fit.
        SettingsError: If there are fewer frames than shots.
    """
    point = starting_point(study.source, study.settings, task)
    point.network.to(study.device)
    objective = objective_of(task, study, point.network)
    trained = _train_and_choose(objective, point, task, study)
    objective.model.load_state_dict(trained.best.state, strict=False)
    chosen = None
    if study.settings.task == "segment":
        chosen = overlay_indices(study.data.split.test, study.settings.overlay_frames)
    scores, num_frames, predicted = objective.test(chosen)
    result = FinetuneResult(
        shots=task.shots,
        start=task.start,
        seed=task.seed,
        chosen_step=trained.best.step,
        validation_at_start=trained.at_start,
        validation=trained.best.score,
        scores=scores,
        test_frames=num_frames,
        method=task.method,
        steps=trained.steps,
        curve=trained.curve,
    )
    if study.models is not None:
        _save(objective.model, result, study, study.models / task.name)
    return FinetuneOutcome(result, predicted)


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


def parameter_groups(
    model: nn.Module, learnt: frozenset[str], scale: float
) -> list[dict[str, Any]]:
    """Divide what trains by how fast it may change.

    Args:
        model: A network, or a head around one.
        learnt: Names, in the network, of encoder parameters that were learnt before.
        scale: On their learning rate.

    Returns:
        Groups for an optimiser, each with its "scale"; empty ones are left out.
    """
    slow, fast = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_learnt = name.removeprefix("network.") in learnt or name in learnt
            (slow if is_learnt else fast).append(parameter)
    groups = [{"params": fast, "scale": 1.0}, {"params": slow, "scale": scale}]
    return [group for group in groups if group["params"]]


def _train_and_choose(
    objective: Objective, point: StartingPoint, task: FinetuneTask, study: Study
) -> _Trained:
    """Train until the steps are done or validation gets no better."""
    settings = study.settings
    best, curve, losses = _Choice(-1, -math.inf, {}), [], []
    without_gain = step = 0
    groups = parameter_groups(objective.model, point.learnt, settings.encoder_scale)
    for step, loss in _train(objective, groups, task, settings):
        losses += [] if loss is None else [loss]
        if step % settings.validate_every and step != settings.steps:
            continue
        score = objective.validate()
        mean_loss = sum(losses) / len(losses) if losses else math.nan
        curve.append({"step": step, "train-loss": mean_loss, "validation": score})
        losses = []
        if score > best.score:  # of equal steps the first
            best, without_gain = _Choice(step, score, _state(objective.model)), 0
        elif best.score > 0:  # who has found nothing yet has not begun
            without_gain += 1
        if without_gain >= settings.patience:
            break
    return _Trained(best, step, curve[0]["validation"], tuple(curve))


def _train(
    objective: Objective,
    groups: list[dict[str, Any]],
    task: FinetuneTask,
    settings: FinetuneSettings,
) -> Iterator[tuple[int, float | None]]:
    """Train, yielding the number of finished steps from 0 to the last, and the loss."""
    optimiser = torch.optim.AdamW(
        groups, weight_decay=settings.weight_decay, fused=True
    )
    yield 0, None
    for step in range(settings.steps):
        objective.model.train()
        loss = objective.loss()
        if not bool(torch.isfinite(loss)):
            raise FinetuneError(
                f"The loss became {loss.item()} in step {step + 1} of a run with "
                f"{task.shots or 'all'} shots from {task.start} weights. "
                "Lower the learning rate."
            )
        for group in optimiser.param_groups:
            group["lr"] = group["scale"] * learning_rate_at(step, settings)
        take_step(optimiser, loss, clip_norm=settings.clip_norm)
        yield step + 1, float(loss.detach())


def _state(model: nn.Module) -> dict[str, Tensor]:
    """Copy what training changes: trained parameters and running statistics."""
    state = {n: one for n, one in model.named_parameters() if one.requires_grad}
    known = model.state_dict().keys()
    state |= {name: one for name, one in model.named_buffers() if name in known}
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _save(model: nn.Module, result: FinetuneResult, study: Study, folder: Path) -> None:
    network = copy.deepcopy(model).cpu()
    source = replace(study.source, recipe=recipe_for(study.source, study.settings))
    task: dict[str, Any] = {
        "kind": study.settings.task,
        "method": result.method,
        "start": result.start,
        "shots": result.shots or "all",
        "seed": result.seed,
        "data-seed": study.settings.data_seed,
        "steps": result.chosen_step,
        "data": study.data.description,
    }
    if study.settings.task == "classify":
        task["labels"] = list(study.data.label_names)
    if study.data.description.get("simulated"):
        task["domain"] = study.settings.domain
    metrics = {f"test/{name}": value for name, value in result.scores.items()}
    decisive = SCORES[study.settings.task][0]
    save_finetuned(
        folder,
        network,
        source=source,
        task=task,
        metrics={**metrics, f"val/{decisive}": result.validation},
        training=result.method,
    )
