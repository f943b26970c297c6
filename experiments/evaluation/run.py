"""One evaluation, from models and frames to a folder of tables and pictures."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from experiments.evaluation.comparison import Comparison, compare
from experiments.evaluation.contenders import describe
from experiments.evaluation.files import (
    GALLERY,
    write_summary,
    write_tables,
    write_whole,
)
from experiments.evaluation.frames import EvaluationFrames
from experiments.evaluation.gallery import choose_cases, write_gallery
from experiments.evaluation.intervals import LEVEL
from experiments.evaluation.measuring import Measured, measure_model
from experiments.evaluation.seen import overlap_note, seed_of_parts
from experiments.evaluation.summary import SummaryRow, scopes_of, summarise
from experiments.evaluation.tables import CONVENTIONS, interval_note
from experiments.model_source import ModelSource
from server.checkpoints import installed_versions

FORMAT = 1


@dataclass(frozen=True)
class EvaluationSettings:
    """What decides the numbers beside models and frames."""

    split: str
    seed: int  # of the split, of simulated frames and of the resamples
    resamples: int
    batch_size: int
    device: str
    threads: int


@dataclass(frozen=True)
class Evaluation:
    """What was found; everything of it may be shown."""

    settings: EvaluationSettings
    models: Mapping[str, ModelSource]
    frames: EvaluationFrames
    measured: Mapping[str, Measured]
    rows: tuple[SummaryRow, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]


def evaluate_models(
    models: Mapping[str, ModelSource],
    frames: EvaluationFrames,
    settings: EvaluationSettings,
    *,
    progress: Callable[[int], None] = lambda frames: None,
) -> Evaluation:
    """Measure models on the same frames.

    Args:
        models: By label.
        frames: Prepared as all of them want.
        settings: Of the evaluation.
        progress: Called with a number of frames that a model is done with.

    Returns:
        All numbers; none depends on the order of the models but the signs of
        differences.
    """
    measured = {
        label: measure_model(
            source,
            frames,
            batch_size=settings.batch_size,
            device=torch.device(settings.device),
            progress=progress,
        )
        for label, source in models.items()
    }
    scopes = scopes_of(frames, resamples=settings.resamples, seed=settings.seed)
    rows = [
        row
        for label, found in measured.items()
        for row in summarise(label, found, frames, scopes)
    ]
    comparisons = compare(measured, frames, scopes[0]) if len(measured) > 1 else []
    notes = _notes(models, measured, frames, settings, scopes[0].num_units)
    return Evaluation(
        settings, models, frames, measured, tuple(rows), tuple(comparisons), notes
    )


def write_evaluation(
    evaluation: Evaluation, folder: Path, *, command: str, gallery: bool
) -> None:
    """Write tables, summary and pictures, all or nothing.

    Args:
        evaluation: What was found.
        folder: New, or empty.
        command: That was given, without paths.
        gallery: Whether to draw the worst frames.

    Raises:
        DataError: If the folder cannot be written.
    """

    def write(place: Path) -> None:
        found = evaluation
        write_tables(place, found.measured, found.frames, found.rows, found.comparisons)
        write_summary(place, _content(found, command), found.rows, found.comparisons)
        if gallery:
            write_gallery(
                choose_cases(found.measured, found.frames),
                found.models,
                found.frames,
                place / GALLERY,
                device=torch.device(found.settings.device),
            )

    write_whole(folder, write)


def _content(evaluation: Evaluation, command: str) -> dict[str, Any]:
    frames = evaluation.frames
    return {
        "format": FORMAT,
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": {
            **{k.replace("_", "-"): v for k, v in asdict(evaluation.settings).items()},
            "interval": LEVEL,
            "data": asdict(next(iter(evaluation.models.values())).data),
        },
        "models": [
            {
                **describe(label, source),
                "prediction-ms-per-frame": evaluation.measured[label].prediction_ms,
                "measuring-ms-per-frame": evaluation.measured[label].measuring_ms,
                "frames-without-a-number": evaluation.measured[label].broken_frames,
            }
            for label, source in evaluation.models.items()
        ],
        "data": [
            {
                "site": site.name,
                "frames": len(site.frames),
                "sequences": len(site.frames.sequences.unique()),
                "patients": len(site.frames.patients.unique()),
                "digest": site.frames.digest(),
            }
            for site in frames.sites
        ],
        "classes": list(frames.classes),
        "conventions": CONVENTIONS,
        "notes": list(evaluation.notes),
        "versions": installed_versions(),
    }


def _notes(
    models: Mapping[str, ModelSource],
    measured: Mapping[str, Measured],
    frames: EvaluationFrames,
    settings: EvaluationSettings,
    num_patients: int,
) -> tuple[str, ...]:
    known = all(site.patients_known for site in frames.sites)
    notes = [interval_note(num_patients, settings.resamples, known=known)]
    if settings.split == "all":
        notes.append(
            "All frames were measured: scores on frames that a model was trained on "
            "say nothing of its worth."
        )
    for label, source in models.items():
        seed = seed_of_parts(source.card)
        is_other = seed is not None and seed != settings.seed
        if settings.split in ("validation", "test") and is_other:
            notes.append(
                f"Model {label} was made with seed {seed}: with --seed {settings.seed} "
                "patients may be among those it was trained on."
            )
        overlap = overlap_note(label, source, frames.fact("sequence"))
        notes += [overlap] if overlap else []
        broken = measured[label].broken_frames
        if broken:
            notes.append(
                f"Model {label} gave no number in {broken} frame(s); there it counts "
                "as predicting nothing."
            )
    return (*notes, *frames.notes)
