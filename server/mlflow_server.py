"""MLflow outside of the run folder: a deployed centre has one server for all runs.

With the environment variable `MLFLOW_TRACKING_URI`, the mirror of a run goes there: to
a server (http://…), or to a database that a server shows (sqlite:///…; artifacts then
lie beside it). Whether it works decides nothing: see `server/tracking.py`.
"""

import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

ADDRESS = "MLFLOW_TRACKING_URI"
SQLITE = "sqlite:///"
ARTIFACTS_FOLDER = "mlartifacts"
LOCK_S = 10.0
"""How long another writer of a database file is waited for."""
PATIENCE = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # MLflow's own would wait for minutes
}
"""No reports to anybody, no chatter, and no round waits long for a server."""


def open_shared(experiment: str) -> "tuple[MlflowClient, str] | None":
    """Open the MLflow that the environment names.

    Args:
        experiment: Name of the experiment, which is made if it is not there.

    Returns:
        A client and the id of the experiment; None if no other place is named than the
        run folder.
    """
    address = os.environ.get(ADDRESS, "").strip()
    if not address:
        return None
    load_mlflow()
    from mlflow.tracking import MlflowClient

    artifacts = _prepare_database(address) if address.startswith(SQLITE) else None
    client = MlflowClient(tracking_uri=address, registry_uri=address)
    found = client.get_experiment_by_name(experiment)
    if found is not None:
        return client, found.experiment_id
    return client, client.create_experiment(experiment, artifact_location=artifacts)


def load_mlflow() -> None:
    """Import MLflow so that it reports to nobody, keeps silent and soon gives up.

    It costs seconds and 100 MB, and runs without MLflow need neither.
    """
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    import mlflow.tracking  # noqa: F401

    for name in ("mlflow", "alembic"):  # their errors carry paths and values
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _prepare_database(address: str) -> str:
    """Make the tables of a database file, and return where its artifacts lie."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path = Path(address.removeprefix(SQLITE)).absolute()
    with closing(sqlite3.connect(path, timeout=LOCK_S)) as connection:
        connection.execute("BEGIN IMMEDIATE")  # fails at once where MLflow would retry
        connection.rollback()
    artifacts = (path.parent / ARTIFACTS_FOLDER).as_uri()
    SqlAlchemyStore(address, artifacts)  # as in `server.tracking.open_database`
    return artifacts
