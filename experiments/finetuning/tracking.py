"""The runs of a few-shot study in MLflow, below the federation that made the model.

The database lies in the federation's run folder; without one, in the folder of the
study. `results.json` stays the record: when MLflow fails, one warning is logged.
"""

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.finetuning.fewshot import FinetuneResult, FinetuneSettings, shots_text
from server.mlflow_page import DATABASE_FILE
from server.tracking import PARENT_TAG, open_database

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

ROLE_TAG = "fl.role"
CHECKPOINTS_FOLDER = "checkpoints"

_logger = logging.getLogger(__name__)


def run_folder_of(model: str) -> Path | None:
    """Return the folder of the federation that made a checkpoint.

    Args:
        model: What the user named.

    Returns:
        None where it is no file of a run folder with a database.
    """
    path = Path(model)
    if path.suffix != ".safetensors" or path.parent.name != CHECKPOINTS_FOLDER:
        return None
    folder = path.resolve().parent.parent
    return folder if (folder / DATABASE_FILE).is_file() else None


def track_study(
    model: str,
    output: Path,
    settings: FinetuneSettings,
    results: Sequence[FinetuneResult],
    files: Sequence[Path],
) -> bool:
    """Write runs of a study to MLflow.

    Args:
        model: What the user named.
        output: Folder of the study.
        settings: Of the study; become parameters.
        results: Runs that are not there yet.
        files: Tables and curves, no pictures of frames.

    Returns:
        Whether it worked; if not, a warning was logged and nothing else happens.
    """
    if not results:
        return True
    try:
        _track(run_folder_of(model), output.resolve(), settings, results, files)
    except Exception as error:  # noqa: BLE001 - tracking never costs a result
        # Only the type: messages of the database carry paths.
        _logger.warning(
            "MLflow tracking failed (%s). The output folder keeps all numbers.",
            type(error).__name__,
        )
        return False
    return True


def _track(
    federation: Path | None,
    output: Path,
    settings: FinetuneSettings,
    results: Sequence[FinetuneResult],
    files: Sequence[Path],
) -> None:
    client, experiment = open_database(federation or output)
    tags = {ROLE_TAG: "finetune"}
    parent = None if federation is None else _server_run(client, experiment)
    if parent is not None:
        tags[PARENT_TAG] = parent
    study = client.create_run(experiment, run_name="finetune", tags=tags).info.run_id
    for name in ("domain", "task", "network", "steps", "learning_rate", "loss"):
        client.log_param(study, name.replace("_", "-"), getattr(settings, name))
    for result in results:
        _log_run(client, experiment, study, result)
    for path in files:
        client.log_artifact(study, str(path), "finetune")
    client.set_terminated(study, "FINISHED")


def _server_run(client: "MlflowClient", experiment: str) -> str | None:
    """Return the latest run of the federation itself."""
    found = client.search_runs(
        [experiment],
        filter_string=f"tags.`{ROLE_TAG}` = 'server'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return found[0].info.run_id if found else None


def _log_run(
    client: "MlflowClient", experiment: str, study: str, result: FinetuneResult
) -> None:
    from mlflow.entities import Metric, Param  # loaded by open_database

    now_ms = int(time.time() * 1000)
    run = client.create_run(
        experiment,
        run_name=result.task.name,
        tags={ROLE_TAG: "finetune-run", PARENT_TAG: study},
    ).info.run_id
    numbers = [(f"test/{name}", value, 0) for name, value in result.scores.items()]
    numbers.append(("val/chosen", result.validation, result.chosen_step))
    for point in result.curve:
        for key in ("train-loss", "validation"):
            numbers.append((key, point[key], int(point["step"])))
    facts = {
        "method": result.method,
        "start": result.start,
        "shots": shots_text(result.shots),
        "seed": result.seed,
        "chosen-step": result.chosen_step,
    }
    client.log_batch(
        run,
        metrics=[
            Metric(name, float(value), now_ms, step)
            for name, value, step in numbers
            if math.isfinite(value)
        ],
        params=[Param(name, str(value)) for name, value in facts.items()],
    )
    client.set_terminated(run, "FINISHED")
