"""A worker process of a study: does one job after another as it is told.

By hand, for one job of a study that `endofed study` has planned:

    python -m experiments.study.worker STUDY_FOLDER/jobs/JOB_ID
"""

import logging
import os
import signal
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

from experiments.study.jobs import (
    read_job,
    training_folder,
    write_error,
    write_result,
)

log = logging.getLogger(__name__)


def serve(study: Path, log_file: Path, connection: Connection) -> None:
    """Do the jobs that come through a connection until it is closed.

    Args:
        study: Folder of the study.
        log_file: Takes what this process writes, so that the screen stays readable.
        connection: Brings ids of jobs; takes "" or why one failed.
    """
    # The process that started this one decides what Ctrl-C means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stream = log_file.open("ab", buffering=0)
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
    while True:
        try:
            name = connection.recv()
        except (EOFError, OSError):
            return
        connection.send(do_job(study, study / "jobs" / name))


def do_job(study: Path, folder: Path) -> str:
    """Train, measure and write down one job.

    Args:
        study: Folder of the study.
        folder: Of the job.

    Returns:
        "" or why it failed, safe to show anyone.
    """
    began = time.monotonic()
    try:
        # Here, because they take seconds to load: the pool begins to show meanwhile.
        from experiments.study.code_digest import code_digest
        from experiments.study.testing import measure
        from experiments.study.training import train
        from server.checkpoints import installed_versions

        job = read_job(study, folder)
        trained = train(job, training_folder(study, job))
        content = {
            **measure(trained, job),
            "curve": trained.curve,
            "cost": trained.cost,
            "versions": {**installed_versions(), "code": code_digest()},
        }
        write_result(study, job, content, duration_s=time.monotonic() - began)
    except Exception as error:
        log.exception("Job %s failed.", folder.name)
        reason = safe_reason(error)
        write_error(folder, reason)
        return reason
    return ""


def safe_reason(error: Exception) -> str:
    """Say why a job failed without what an exception of others may quote."""
    from clients.data.errors import DataError
    from clients.optimisation import TrainingError
    from server.rounds import SAFE_ERRORS

    if isinstance(error, (*SAFE_ERRORS, DataError, TrainingError)):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}, line {place.lineno}"
    return f"An unexpected {type(error).__name__} in {where}."


def main() -> None:
    """Do the job whose folder is named on the command line."""
    logging.basicConfig(level=logging.INFO)
    folder = Path(sys.argv[1]).resolve()
    sys.exit(do_job(folder.parent.parent, folder) or 0)


if __name__ == "__main__":
    main()
