"""A whole study: every variant, seed and row on the same frames, resumable anywhere.

What can be computed is computed and written, whatever becomes of the rest: a row that
fails leaves its reason, the others their numbers. Without labels of the target nothing
is chosen by a score: the network of the last epoch counts.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from clients.adaptation.scores import score_masks
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from clients.optimisation import TrainingError
from experiments.adaptation.curves import LearningCurve
from experiments.adaptation.job import Job
from experiments.adaptation.plan import DEFAULT_ROWS, StudyPlan, Variant
from experiments.adaptation.rows import Rows
from experiments.adaptation.stage_files import StageFiles
from experiments.adaptation.stages import Pipeline
from experiments.adaptation.tables import AdaptationRun
from experiments.adaptation.targets import (
    Target,
    folder_target,
    has_truth,
    simulated_target,
    source_frames,
)
from experiments.finetuning.checks import check_unseen
from experiments.finetuning.split import DataChoice
from experiments.model_source import OFFICIAL_SUFFIXES, RANDOM, ModelSource, open_model
from models.classes import CLASS_NAMES
from models.sam import Sam
from strategies.adaptation_settings import AdaptationSettings
from strategies.data_settings import DataSettings
from strategies.randomness import derive_seed

STAGES_FOLDER = "stages"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyRequest:
    """What a user asks for, beside the plan."""

    plan: StudyPlan
    output: Path = field(repr=False)
    device: torch.device
    source: DataChoice | None = None  # a labelled folder; None = simulated domains
    target: DataChoice | None = None  # a folder; None = the plan's domain
    overlays: bool = True


@dataclass
class Listener:
    """Who hears how far a study is."""

    on_stage: Callable[[str, bool], None] = lambda name, is_done: None
    on_step: Callable[[str], None] = lambda text: None
    on_row: Callable[[str], None] = lambda text: None


@dataclass(frozen=True)
class Opened:
    """Everything a study reads before it computes."""

    model: ModelSource
    start: Sam
    data: DataSettings  # frames as large as the network
    target: Target
    plan: StudyPlan  # variants with the classes and rows that there can be
    _sources: dict[tuple[str, ...], FrameSet] = field(default_factory=dict, repr=False)

    def source(self, domains: tuple[str, ...], choice: DataChoice | None) -> FrameSet:
        """Return labelled frames to learn from, read or simulated once."""
        if domains not in self._sources:
            self._sources[domains] = source_frames(
                self.plan, domains, choice, self.data
            )
        return self._sources[domains]


@dataclass
class Findings:
    """What a study has found so far."""

    runs: dict[str, list[AdaptationRun]] = field(
        default_factory=lambda: {"test": [], "adaptation": []}
    )
    curves: dict[str, list[LearningCurve]] = field(default_factory=dict)
    notes: list[dict[str, Any]] = field(default_factory=list)  # of variant and seed
    problems: dict[str, str] = field(default_factory=dict)  # where -> why

    def has_rows(self) -> bool:
        """Tell whether there is anything to write a table of."""
        return any(self.runs.values())


def open_study(request: StudyRequest) -> Opened:
    """Read the model and the target, and refuse what cannot be done.

    Args:
        request: Of the user.

    Returns:
        What the study begins with.

    Raises:
        DataError, CheckpointError, FinetuneError: If model, frames and rows do not fit
            together.
    """
    plan = request.plan
    model = open_model(plan.model, name=plan.name, image_size=plan.image_size)
    start = model.network
    if not isinstance(start, Sam) or model.labels:
        raise DataError(
            "Adaptation prompts and adapts a SAM that segments; the model to start "
            "from is another network. Start from a sam-... foundation or an official "
            "SAM file."
        )
    if model.data.normalise != "unit":
        raise DataError(
            "Adaptation wants a model of frames from 0 to 1, got data.normalise = "
            f"'{model.data.normalise}'."
        )
    if request.target is None and model.kind not in ("official", RANDOM):
        check_unseen(model.card, plan.target)
    data = replace(model.data, frame_size=start.image_size)
    if request.target is None:
        target = simulated_target(plan, start.image_size)
    else:
        target = folder_target(plan, request.target, data)
    variants = tuple(_fitted(one, request, target) for one in plan.variants)
    return Opened(model, start, data, target, replace(plan, variants=variants))


def run_study(
    request: StudyRequest,
    opened: Opened,
    listener: Listener,
    *,
    after_job: Callable[[Findings], None],
) -> Findings:
    """Compute all rows.

    Args:
        request: Of the user.
        opened: Of `open_study`.
        listener: Hears how far it is.
        after_job: Called after every variant and seed with all that is found so far.

    Returns:
        The findings.
    """
    findings = Findings()
    for variant in opened.plan.variants:
        for seed in opened.plan.seeds:
            line = prepare_job(request, opened, variant, seed, listener)
            rows = Rows(line, line.files)
            _measure_rows(variant, line, rows, findings, listener)
            after_job(findings)
    return findings


def prepare_job(
    request: StudyRequest,
    opened: Opened,
    variant: Variant,
    seed: int,
    listener: Listener,
) -> Pipeline:
    """Return the stages of one variant and seed; nothing is computed yet.

    Raises:
        DataError: If the source cannot be read.
    """
    plan = opened.plan
    files = StageFiles(request.output / STAGES_FOLDER, on_stage=listener.on_stage)
    order = derive_seed(plan.data_seed, round_number=0, phase="fewer frames", site="")
    job = Job(
        start=opened.start,
        source=opened.source(variant.settings.source_names, request.source),
        target=opened.target.first(variant.frames, seed=order),
        settings=variant.settings,
        seed=seed,
        device=request.device,
        labels_from=variant.labels_from,
        predicts_iou=Path(plan.model).suffix in OFFICIAL_SUFFIXES,
    )
    return Pipeline(job, files, on_step=listener.on_step)


def curve_of(line: Pipeline) -> LearningCurve | None:
    """Return the learning curve of a fine stage, None without truth to measure."""
    facts = line.fine_stage.facts
    measures = [one["measures"] for one in facts["report"]["epochs"]]
    points = [facts["start"], *measures]
    if not all(points):
        return None
    return LearningCurve(
        student=tuple(one["student"] for one in points),
        teacher=tuple(one["teacher"] for one in points),
        switch=line.job.settings.warmup_epochs,
    )


def _measure_rows(
    variant: Variant, line: Pipeline, rows: Rows, findings: Findings, listener: Listener
) -> None:
    where, seed = variant.name, line.job.seed
    note: dict[str, Any] = {"variant": where, "seed": seed, "seconds": {}}
    for row in variant.rows:
        listener.on_row(f"{where} {row}, seed {seed}".strip())
        try:
            found = rows.get(row)
        except (DataError, TrainingError) as error:
            findings.problems[f"{where} {row}, seed {seed}".strip()] = str(error)
            continue
        note["seconds"][row] = found.seconds
        for part, scores in found.scores.items():
            findings.runs[part].append(AdaptationRun(where, row, seed, scores))
    _note_stages(line, note, findings)


def _note_stages(line: Pipeline, note: dict[str, Any], findings: Findings) -> None:
    """Write down times, quality and learning curve of the stages that were needed."""
    computed = {
        name: vars(line)[f"{name}_stage"]
        for name in ("synthetic", "coarse", "guides", "fine")
        if f"{name}_stage" in vars(line)
    }
    note["stage-seconds"] = {name: one.seconds for name, one in computed.items()}
    if "guides" in computed:
        job, masks = line.job, computed["guides"].tensors["masks"]
        names = job.settings.class_names
        note["quality"] = computed["guides"].facts["quality"]
        note["agreement"] = score_masks(masks, job.target.adaptation, names).to_dict()
    if "fine" in computed:
        note["fine"] = computed["fine"].facts
        curve = curve_of(line)
        if curve is not None:
            findings.curves.setdefault(note["variant"], []).append(curve)
    findings.notes.append(note)


def _fitted(variant: Variant, request: StudyRequest, target: Target) -> Variant:
    """Keep the classes and rows that the target allows."""
    settings = variant.settings
    names = settings.class_names
    if request.target is not None:
        names = tuple(
            name for name in names if name in request.target.spec.labels.classes
        )
    if not names:
        raise DataError(
            "None of adapt.classes is among --classes: there is nothing to adapt."
        )
    numbers = [CLASS_NAMES.index(name) for name in names]
    is_known = has_truth(target.adaptation, numbers)
    rows = variant.rows
    if "real" in rows and not is_known:
        if rows != DEFAULT_ROWS:
            raise DataError(
                "The row 'real' trains on labels of the target, which has none. Leave "
                "it out of --rows."
            )
        rows = tuple(row for row in rows if row != "real")
    return replace(variant, settings=_with_classes(settings, names), rows=rows)


def _with_classes(
    settings: AdaptationSettings, names: tuple[str, ...]
) -> AdaptationSettings:
    return replace(settings, classes=", ".join(names))
