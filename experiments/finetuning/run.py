"""A few-shot study: every method, number of shots, start and seed.

What a run is stands in `experiments/finetuning/training.py`, what is written in
`experiments/finetuning/files.py`. The number of processes changes the time and nothing
else. After every run all that is known is on disk, and a second call goes on from
there. Nothing here trains or draws.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from clients.data.identity import SiteKey
from experiments.finetuning.checks import (
    check_shots,
    check_unseen,
    choose_device,
    source_facts,
)
from experiments.finetuning.data import StudyData, folder_data, simulated_data
from experiments.finetuning.fewshot import (
    STARTS,
    FinetuneError,
    FinetuneResult,
    FinetuneSettings,
    FinetuneTask,
    shots_order,
)
from experiments.finetuning.files import (
    CURVES_FILE,
    MODELS,
    RUNS_FILE,
    SUMMARY_FILE,
    TABLE_FILE,
    identity_of,
    read_results,
    results_of,
    write_results,
)
from experiments.finetuning.keeping import (
    SAVE,
    StudyState,
    draw_study,
    keep_model,
    keep_overlay,
)
from experiments.finetuning.labels import folder_labels, simulated_labels
from experiments.finetuning.methods import check_methods, starts_of
from experiments.finetuning.split import DataChoice
from experiments.finetuning.tracking import track_study
from experiments.finetuning.training import Study
from experiments.finetuning.workers import run_all
from experiments.model_source import RANDOM, ModelSource, open_model
from models.training_modes import TRAINING_MODES

TABLES = (TABLE_FILE, RUNS_FILE, SUMMARY_FILE, CURVES_FILE)
"""What MLflow gets copies of: no picture of a frame."""


@dataclass(frozen=True)
class FinetuneRequest:
    """What to finetune, on what, and what to keep beside the numbers.

    Attributes:
        model: Source of the model, see `open_model`.
        name: Network of an official file or of "random".
        image_size: Side for those two, px; 0 = their default.
        data: A folder; None = the simulated domain of the settings.
        image_labels: CSV with labels of frames, to classify those of a folder.
        save: Which networks to keep: "best" on validation, "all" or "none".
        overlays: Whether to draw test frames; they show what patients' frames show.
        mlflow: Whether to write the runs to MLflow, too.
    """

    model: str
    name: str = ""
    image_size: int = 0
    data: DataChoice | None = None
    image_labels: Path | None = None
    save: str = "none"
    overlays: bool = True
    mlflow: bool = False


def run_finetune(
    checkpoint: Path | FinetuneRequest,
    settings: FinetuneSettings,
    output: Path,
    *,
    workers: int,
    device: str,
    on_result: Callable[[FinetuneResult], None],
    on_note: Callable[[str], None] = lambda _: None,
) -> list[FinetuneResult]:
    """Run the whole study and write its tables and figures.

    Args:
        checkpoint: A foundation with its card beside it, or a whole request.
        settings: What to compare.
        output: Folder for `results.json`, tables, `figures` and `models`; made if
            missing. What an earlier call of the same study left there is kept.
        workers: Processes, >= 1; a GPU is used by one process.
        device: "auto", "cpu" or "cuda".
        on_result: Called in this process for each run that is new, in any order.
        on_note: Called with sentences worth printing.

    Returns:
        The results by method, shots, start and seed, the same for any number of
        workers.

    Raises:
        FinetuneError: If the foundation knows the domain, training diverges, the
            folder holds another study or an argument is out of range.
        CheckpointError: If there is no such model, or it is damaged.
        SettingsError: If there are fewer frames than shots.
        DataError: If the folder cannot be used.
    """
    request = (
        checkpoint
        if isinstance(checkpoint, FinetuneRequest)
        else FinetuneRequest(str(checkpoint))
    )
    _check(request, workers)
    study, transfer = _prepare(request, settings, output, choose_device(device))
    if transfer:
        on_note(transfer)
    identity = identity_of(settings, source_facts(study.source), study.data.digest())
    earlier = read_results(output, identity)
    state = StudyState(
        {one.task: one for one in results_of(earlier)}, earlier.get("best-model", "")
    )
    tasks = tasks_of(study.source, settings)
    missing = [task for task in tasks if task not in state.results]
    if len(missing) < len(tasks):
        on_note(f"{len(tasks) - len(missing)} of {len(tasks)} runs were done before.")
    processes = 1 if study.device == "cuda" else workers
    for task, outcome in run_all(missing, study, processes):
        keep_model(state, outcome.result, request.save, study.models)
        state.results[task] = outcome.result
        if request.overlays:
            keep_overlay(outcome, settings, output)
        write_results(
            output,
            _ordered(state),
            identity=identity,
            data=study.data.description,
            best_model=state.best_model,
            transfer=transfer,
        )
        on_result(outcome.result)
    draw_study(study, _ordered(state), output, overlays=request.overlays)
    if request.mlflow:
        files = [output / name for name in TABLES]
        new = [state.results[task] for task in missing]
        track_study(request.model, output, settings, new, files)
    return [state.results[task] for task in tasks]


def tasks_of(source: ModelSource, settings: FinetuneSettings) -> list[FinetuneTask]:
    """Return every run of a study, by method, shots, start and seed."""
    return [
        FinetuneTask(shots, method, start, seed)
        for method in settings.methods
        for shots in settings.shots
        for start in sorted(starts_of(source, settings), key=STARTS.index)
        for seed in settings.seeds
    ]


def _check(request: FinetuneRequest, workers: int) -> None:
    if workers < 1:
        raise FinetuneError(f"workers must be >= 1, got {workers}.")
    if request.save not in SAVE:
        raise FinetuneError(
            f"save must be one of {', '.join(SAVE)}, got '{request.save}'."
        )


def _prepare(
    request: FinetuneRequest, settings: FinetuneSettings, output: Path, device: str
) -> tuple[Study, str]:
    """Open the model and the frames; say what another network takes over."""
    source = open_model(request.model, name=request.name, image_size=request.image_size)
    if request.data is None and source.kind not in ("official", RANDOM):
        check_unseen(source.card, settings.domain)
    transfer = check_methods(source, settings)
    source, data = _frames(request, source, settings)
    check_shots(data, settings)
    models = None if request.save == "none" else output / MODELS
    study = Study(source, settings, data, device, models)
    return study, "" if transfer is None else transfer.sentence()


def _frames(
    request: FinetuneRequest, source: ModelSource, settings: FinetuneSettings
) -> tuple[ModelSource, StudyData]:
    """Return the frames, and the model with how they are prepared."""
    size = source.recipe.image_size
    if settings.task == "classify":  # an image is looked at as a whole
        source = replace(source, data=replace(source.data, frame_size=size))
    if request.data is None:
        data = simulated_data(settings, source.data.frame_size)
        if settings.task == "classify":
            data = simulated_labels(data, settings, source.data.frame_size)
        return source, data
    choice = request.data
    data, frames = folder_data(choice, source.data, seed=settings.data_seed)
    if settings.task == "classify":
        if request.image_labels is None:
            raise FinetuneError(
                "To classify the frames of a folder, name a CSV file with their labels "
                "(--image-labels)."
            )
        key = SiteKey.load_or_create(choice.key)
        data = folder_labels(
            data, frames, request.image_labels, spec=choice.spec, key=key
        )
    return source, data


def _ordered(state: StudyState) -> list[FinetuneResult]:
    """Return all runs so far in an order that does not depend on who was first."""
    return sorted(
        state.results.values(),
        key=lambda one: (
            TRAINING_MODES.index(one.method),
            shots_order(one.shots),
            STARTS.index(one.start),
            one.seed,
        ),
    )
