"""Finished jobs in MLflow: one experiment a study, one run a job.

The database (SQLite) lies in the study's folder. The result files stay the record: when
MLflow fails, one warning is logged and the study goes on without it.
"""

import logging
import math
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.tracking import open_database

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

JOB_TAG = "endofed.job"
PARAMETERS = ("scenario", "row", "group", "seed", "trial", "purpose", "model_of")

_logger = logging.getLogger(__name__)


class StudyTracker:
    """Writes each finished job once; never raises because of MLflow."""

    def __init__(self, folder: Path, study: str, *, enabled: bool = True) -> None:
        """Remember where; the database is opened with the first job (about 3 s).

        Args:
            folder: Of the study.
            study: Its name, that of the experiment.
            enabled: False = write nothing.
        """
        self._folder = folder
        self._study = study
        self._failed = not enabled
        self._client: MlflowClient | None = None
        self._experiment = ""
        self._known: set[str] = set()  # ids of jobs that have a run

    def log(self, job_id: str, result: Mapping[str, Any]) -> None:
        """Take a finished job.

        Args:
            job_id: Name of its folder; a job that has a run already gets no second.
            result: The content of its result.json.
        """
        if self._failed:
            return
        try:
            self._log(job_id, result)
        except Exception as error:  # noqa: BLE001 - tracking never costs a result
            self._failed = True
            # Only the type: messages of the database carry paths.
            _logger.warning(
                "MLflow tracking failed (%s). The study goes on, and its result files "
                "keep all numbers.",
                type(error).__name__,
            )

    def _log(self, job_id: str, result: Mapping[str, Any]) -> None:
        if self._client is None:
            self._open()
        if job_id in self._known or self._client is None:
            return
        from mlflow.entities import Metric, Param  # loaded by open_database

        now_ms = int(time.time() * 1000)
        job = result["job"]
        run = self._client.create_run(
            self._experiment, run_name=job_id, tags={JOB_TAG: job_id}
        ).info.run_id
        facts = {name: job[name] for name in PARAMETERS} | job["settings"]
        metrics = [
            Metric(name, value, now_ms, step)
            for name, value, step in numbers_of(result)
        ]
        for start in range(0, max(len(metrics), 1), 1000):  # as many as it takes
            self._client.log_batch(
                run,
                metrics=metrics[start : start + 1000],
                params=[Param(key, str(value)) for key, value in facts.items()]
                if start == 0
                else [],
            )
        self._client.set_terminated(run, "FINISHED")
        self._known.add(job_id)

    def _open(self) -> None:
        self._client, _ = open_database(self._folder)
        found = self._client.get_experiment_by_name(self._study)
        if found is None:
            place = (self._folder / "mlartifacts").as_uri()
            self._experiment = self._client.create_experiment(
                self._study, artifact_location=place
            )
            return
        self._experiment = found.experiment_id
        token = None
        while True:
            page = self._client.search_runs([found.experiment_id], page_token=token)
            self._known |= {run.data.tags.get(JOB_TAG, "") for run in page}
            token = page.token
            if not token:
                return


def numbers_of(result: Mapping[str, Any]) -> Iterator[tuple[str, float, int]]:
    """Yield every number of a result with its name and step.

    Args:
        result: The content of result.json.

    Yields:
        Such as ("test/dice", 0.81, 0); the curve by round, the rest at step 0. Numbers
        that are missing or not finite are left out; lists have numbered names.
    """
    for part in ("validation", "test", "cross", "unseen", "few_shot", "cost"):
        for name, value in _flat(part, result.get(part)):
            yield name, value, 0
    for point in result.get("curve", ()):
        for name, value in _flat("curve", point):
            if name != "curve/round":
                yield name, value, int(point["round"])


def _flat(name: str, value: object) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name}/{key}", inner)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _flat(f"{name}/{number}", inner)
    elif (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
    ):
        yield re.sub(r"[^\w.\- :/]", "_", name), float(value)
