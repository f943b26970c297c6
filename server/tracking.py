"""MLflow as a mirror of the run folder: one parent run, one child run per site.

The database (SQLite) and the artifacts lie inside the run folder, or where
`MLFLOW_TRACKING_URI` says (`server/mlflow_server.py`). Curves have the federated round
as their step. MLflow never holds the only copy of anything: when it
fails, one warning is logged, the journal says so and training goes on.

`MlflowClient` is used in place of MLflow's fluent functions, which would record the
user's name, the script and its git commit. The absolute path of the run folder does
stand in the database, as the address of the artifacts: a moved folder keeps its
curves but loses its artifact links. This module never sees weights or data.
"""

import contextlib
import logging
import math
import re
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from server.journal import Journal, public_settings
from server.mlflow_page import DATABASE_FILE, database_uri
from server.mlflow_server import load_mlflow, open_shared
from server.records import (
    EdgeRecord,
    Metrics,
    ResultRecord,
    RoundRecord,
    SettingValue,
)
from server.score_variance import flatten

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

ARTIFACTS_FOLDER = "mlartifacts"
EXPERIMENT = "endofed"
PARENT_TAG = "mlflow.parentRunId"
HEADLINES = ("dice", "accuracy")  # of masks, of whole frames; a run has one

_logger = logging.getLogger(__name__)


class Tracker(Protocol):
    """Takes the records of a run. No method ever raises because of the tracker."""

    def log_round(self, record: RoundRecord) -> None:
        """Take the numbers of a round."""

    def log_files(self, paths: Sequence[Path], folder: str) -> None:
        """Take copies of files, such as figures, into a named artifact folder."""

    def end(self, result: ResultRecord) -> None:
        """Take the final test scores and close all runs."""


class NoTracker:
    """Takes nothing: `mlflow = false`."""

    def log_round(self, record: RoundRecord) -> None:
        """Do nothing."""

    def log_files(self, paths: Sequence[Path], folder: str) -> None:
        """Do nothing."""

    def end(self, result: ResultRecord) -> None:
        """Do nothing."""


class MlflowTracker:
    """Writes every record once to MLflow: one `log_batch` per round and run.

    After a failure nothing more is logged, except that `end` tries to close the runs.

    Args:
        journal: The run folder; told if tracking fails.
        settings: The flat run config; becomes the parameters, without paths.
        sites: Names of all sites.
    """

    def __init__(
        self,
        journal: Journal,
        settings: Mapping[str, SettingValue],
        sites: Sequence[str],
    ) -> None:
        """Open the database (about 3 s, most of it import) and start all runs."""
        self._journal = journal
        self._runs = _Runs()
        self._failed = False
        public = public_settings(settings)
        self._attempt(lambda: self._runs.start(journal.folder, public, sites))

    @property
    def failed(self) -> bool:
        """Whether MLflow stopped taking numbers."""
        return self._failed

    def log_round(self, record: RoundRecord) -> None:
        """Take the numbers of a round; step = round, missing numbers are left out."""
        if not self._failed:
            self._attempt(lambda: self._runs.log_round(record))

    def log_files(self, paths: Sequence[Path], folder: str) -> None:
        """Copy figures, the checkpoint and its card to the parent run's artifacts."""
        if not self._failed:
            self._attempt(lambda: self._runs.log_files(paths, folder))

    def end(self, result: ResultRecord) -> None:
        """Log the test scores and set every run to FINISHED or FAILED."""
        if not self._failed:
            self._attempt(lambda: self._runs.log_test(result))
        self._attempt(lambda: self._runs.close(result))

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - tracking never stops training
            if self._failed:
                return
            self._failed = True
            # Only the type: messages of the database carry paths.
            _logger.warning(
                "MLflow tracking failed (%s). Training goes on, and the run folder "
                "keeps all numbers, without MLflow.",
                type(error).__name__,
            )
            self._journal.tracking_failed()


class _Runs:
    """The parent run and its children; every method may raise."""

    def __init__(self) -> None:
        self._client: MlflowClient
        self._parent = ""
        self._children: dict[str, str] = {}  # site -> run id

    def start(
        self, folder: Path, settings: Mapping[str, SettingValue], sites: Sequence[str]
    ) -> None:
        self._client, experiment = open_shared(EXPERIMENT) or open_database(folder)
        name = f"{settings.get('strategy', 'run')}-seed{settings.get('seed', 0)}"
        self._parent = self._create(experiment, name, {"fl.role": "server"})
        self._log(self._parent, params=settings)
        for site in sorted(sites):
            tags = {"fl.role": "site", "fl.site": site, PARENT_TAG: self._parent}
            self._children[site] = self._create(experiment, site, tags)

    def log_round(self, record: RoundRecord) -> None:
        parent = dict(record.overall)
        for site, metrics in record.sites.items():
            for score in HEADLINES:
                parent[f"site/{site}/val_{score}"] = metrics.get(f"val/{score}")
        self._log(self._parent, metrics=parent, step=record.round)
        for site, run_id in self._children.items():
            numbers = dict(record.sites.get(site, {}))
            for edge in record.edges:
                if edge.student == site and not edge.is_control:  # "emd/diagonal"
                    numbers |= _edge_metrics(edge)
            self._log(run_id, metrics=numbers, step=record.round)

    def log_files(self, paths: Sequence[Path], folder: str) -> None:
        for path in paths:
            self._client.log_artifact(self._parent, str(path), folder)

    def log_test(self, result: ResultRecord) -> None:
        # Fairness has the same names in validation and test: keep the curves apart.
        parent = {
            f"test/{name.removeprefix('test/')}": value
            for name, value in {**result.overall, **result.all_overall}.items()
        }
        parent |= flatten(result.emd)
        for site, metrics in result.test.items():
            for score in HEADLINES:
                parent[f"site/{site}/test_{score}"] = metrics.get(f"test/{score}")
            if site in self._children:
                numbers = {**metrics, **result.all_test.get(site, {})}
                self._log(self._children[site], metrics=numbers, step=result.rounds)
        self._log(self._parent, metrics=parent, step=result.rounds)

    def close(self, result: ResultRecord) -> None:
        ends = {
            run_id: "missing" if site in result.missing else result.status
            for site, run_id in self._children.items()
        }
        if self._parent:
            ends[self._parent] = result.status
        for run_id, status in ends.items():
            self._client.set_tag(run_id, "fl.status", status)
            ended = "FINISHED" if status == "completed" else "FAILED"
            self._client.set_terminated(run_id, ended)

    def _create(self, experiment: str, name: str, tags: dict[str, str]) -> str:
        tags = {**tags, "fl.status": "running"}
        run = self._client.create_run(experiment, run_name=name, tags=tags)
        return str(run.info.run_id)

    def _log(
        self,
        run_id: str,
        *,
        metrics: Metrics | None = None,
        step: int = 0,
        params: Mapping[str, SettingValue] | None = None,
    ) -> None:
        from mlflow.entities import Metric, Param  # loaded by open_database

        now_ms = int(time.time() * 1000)
        numbers = [
            Metric(_key(name), float(value), now_ms, step)
            for name, value in (metrics or {}).items()
            if value is not None and math.isfinite(value)
        ]
        texts = [Param(name, str(value)) for name, value in (params or {}).items()]
        self._client.log_batch(run_id, metrics=numbers, params=texts)


def open_tracker(
    enabled: bool,
    journal: Journal,
    settings: Mapping[str, SettingValue],
    sites: Sequence[str],
) -> Tracker:
    """Return the tracker that a run asked for.

    Args:
        enabled: The setting `mlflow`.
        journal: The run folder.
        settings: The flat run config.
        sites: Names of all sites.

    Returns:
        MLflow, or a tracker that does nothing.
    """
    return MlflowTracker(journal, settings, sites) if enabled else NoTracker()


def open_database(folder: Path) -> "tuple[MlflowClient, str]":
    """Make the database and return its client and the experiment's id."""
    _check_database(folder)
    load_mlflow()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow.tracking import MlflowClient

    uri = database_uri(folder)
    artifacts = (folder / ARTIFACTS_FOLDER).as_uri()
    # Made once by hand: the client would note the working directory as the artifact
    # folder of MLflow's unused default experiment.
    SqlAlchemyStore(uri, artifacts)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return client, found.experiment_id
    return client, client.create_experiment(EXPERIMENT, artifact_location=artifacts)


def _check_database(folder: Path) -> None:
    """Fail at once where MLflow would retry for minutes, or write elsewhere.

    Raises:
        ValueError: If the folder's name means something else in an address.
        sqlite3.Error: If the database cannot be written now.
    """
    if re.search("[?%]", str(folder)):
        raise ValueError("MLflow cannot address a run folder with ? or % in its path.")
    with contextlib.closing(
        sqlite3.connect(folder / DATABASE_FILE, timeout=1.0)
    ) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()


def _edge_metrics(edge: EdgeRecord) -> dict[str, float | None]:
    """Return the numbers of an edge, for the run of its student."""
    prefix = f"edge/{edge.teacher}"
    return {
        f"{prefix}/score": edge.score,
        f"{prefix}/weight": edge.weight,
        f"{prefix}/gap": edge.gap,
        f"{prefix}/teacher_loss": edge.teacher_loss,
        f"{prefix}/bytes": edge.num_bytes,
    }


def _key(name: str) -> str:
    """Return a metric name with only the characters that MLflow takes."""
    return re.sub(r"[^\w.\- :/]", "_", name)
