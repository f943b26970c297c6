"""What a few-shot study keeps beside its numbers: networks and pictures."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.finetuning.fewshot import (
    STARTS,
    FinetuneResult,
    FinetuneSettings,
    FinetuneTask,
    overlay_indices,
    shots_text,
)
from experiments.finetuning.figures import draw_curves, draw_fewshot
from experiments.finetuning.training import FinetuneOutcome, Study
from experiments.overlays import draw_overlays

SAVE = ("best", "all", "none")
FIGURES = "figures"
OVERLAYS = ".overlays"  # predictions for the picture, until the study is complete


@dataclass
class StudyState:
    """What a study has found so far."""

    results: dict[FinetuneTask, FinetuneResult]
    best_model: str = ""  # name of the task whose network was kept as the best


def keep_model(
    state: StudyState, result: FinetuneResult, save: str, models: Path | None
) -> None:
    """Forget the network that is not the best on validation, unless all are kept.

    Args:
        state: Before this run is in it; learns which network is the best.
        result: Of the run that just ended.
        save: One of SAVE.
        models: Where the run has left its network; None = nothing was kept.
    """
    if models is None:
        return
    best = next(
        (one for one in state.results.values() if one.task.name == state.best_model),
        None,
    )
    loser = state.best_model
    # Of equally good ones the first by name, whoever was first in time.
    if best is None or (-result.validation, result.task.name) < (
        -best.validation,
        best.task.name,
    ):
        state.best_model = result.task.name
    else:
        loser = result.task.name
    if save == "best" and loser:
        shutil.rmtree(models / loser, ignore_errors=True)


def keep_overlay(
    outcome: FinetuneOutcome, settings: FinetuneSettings, output: Path
) -> None:
    """Keep the predictions of a run if the picture will show them.

    Args:
        outcome: Of the run.
        settings: Of the study.
        output: Its folder.
    """
    if outcome.predicted is None or not _is_shown(outcome.result.task, settings):
        return
    folder = output / OVERLAYS
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / ".part.npy"
    np.save(temporary, outcome.predicted.numpy())
    temporary.replace(folder / f"{outcome.result.task.name}.npy")


def draw_study(
    study: Study,
    results: Sequence[FinetuneResult],
    output: Path,
    *,
    overlays: bool,
) -> None:
    """Draw all figures of a study.

    Args:
        study: What was compared.
        results: All runs.
        output: Folder of the study.
        overlays: Whether to draw test frames, too.
    """
    folder = output / FIGURES
    folder.mkdir(parents=True, exist_ok=True)
    draw_fewshot(results, folder / "fewshot.png", domain=_domain(study))
    draw_curves(results, folder / "learning_curves.png")
    if not overlays or study.settings.task != "segment":
        return
    settings, test = study.settings, study.data.split.test
    predictions = _predictions(results, settings, output)
    if not predictions:
        return
    shown = test.subset(overlay_indices(test, settings.overlay_frames))
    temporary = folder / ".fewshot_overlay.png"
    draw_overlays(
        shown.images,
        shown.masks,
        predictions,
        temporary,
        annotated=shown.annotated,
        title=f"{_domain(study).capitalize()}, {shots_text(settings.shots[-1])} "
        f"labelled frames, seed {settings.seeds[0]}; of each test patient the middle "
        "frame with a device",
    )
    temporary.replace(folder / "fewshot_overlay.png")


def _predictions(
    results: Sequence[FinetuneResult], settings: FinetuneSettings, output: Path
) -> dict[str, Tensor]:
    found = {}
    shown = [one.task for one in results if _is_shown(one.task, settings)]
    for task in sorted(
        shown,
        key=lambda one: (settings.methods.index(one.method), STARTS.index(one.start)),
    ):
        path = output / OVERLAYS / f"{task.name}.npy"
        if path.exists():
            label = f"from {task.start} weights"
            name = f"{task.method},\n{label}" if len(settings.methods) > 1 else label
            found[name] = torch.from_numpy(np.load(path, allow_pickle=False))
    return found


def _is_shown(task: FinetuneTask, settings: FinetuneSettings) -> bool:
    wanted = (settings.shots[-1], settings.seeds[0])
    return (task.shots, task.seed) == wanted and task.method in settings.methods


def _domain(study: Study) -> str:
    if study.data.description.get("simulated"):
        return f"the unseen domain “{study.settings.domain}”"
    return "the frames of a folder"
