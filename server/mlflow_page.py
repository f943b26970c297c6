"""How a person looks at a run in MLflow; light, as it does not import MLflow."""

import shlex
import sys
from pathlib import Path

DATABASE_FILE = "mlflow.db"
# MLflow's front page is made for language models; this one lists the training runs.
RUNS_PAGE = (
    "http://127.0.0.1:5000/#/experiments/1/runs"
    "?workflowType=machine_learning&compareRunsMode=CHART"
)
"""Where a browser finds the runs' curves after `ui_command`, at MLflow's usual port."""


def ui_command(folder: Path) -> str:
    """Return the shell command that shows a run in the browser, offline.

    Args:
        folder: The run folder.

    Returns:
        A command for a POSIX shell, with the `mlflow` of this environment. MLflow
        listens on 127.0.0.1 only, reports to nobody and reads the artifacts from the
        addresses in the database.
    """
    program = Path(sys.executable).with_name("mlflow")
    return (
        f"MLFLOW_DISABLE_TELEMETRY=true {shlex.quote(str(program))} ui "
        f"--backend-store-uri {shlex.quote(database_uri(folder))} --workers 1"
    )


def database_uri(folder: Path) -> str:
    """Return the address of a run folder's database."""
    return f"sqlite:///{folder / DATABASE_FILE}"
