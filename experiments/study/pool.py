"""Worker processes side by side, each with one thread for arithmetic.

A worker does many jobs, so that programs are loaded and hospitals' frames simulated
once. One that dies (out of memory, say) costs its job and is replaced. Whoever leaves
the pool early, by Ctrl-C or an error, ends all workers; what they had finished stays.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType

from experiments.study.worker import serve

Serve = Callable[[Path, Path, Connection], None]
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
DIED = "The worker process died; it may have run out of memory."
PATIENCE_S = 5.0
"""How long a worker may take to end when it is asked to."""


@dataclass
class Worker:
    """A process and what it does."""

    process: SpawnProcess
    connection: Connection
    job: str = ""  # "" = nothing
    training: str = ""  # of the job
    began: float = 0.0  # monotonic seconds


@dataclass(frozen=True)
class Ended:
    """A job that is over."""

    job: str
    reason: str  # "" = it succeeded
    seconds: float


class Pool:
    """A number of workers; a context manager."""

    def __init__(self, study: Path, workers: int, *, target: Serve = serve) -> None:
        """Plan for workers; they start when there is something to do.

        Args:
            study: Folder of the study.
            workers: How many, >= 1.
            target: What a worker runs.
        """
        self._target = target
        self._study = study
        self._size = workers
        self._workers: list[Worker] = []
        self._context = multiprocessing.get_context("spawn")

    def __enter__(self) -> "Pool":
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all workers: the idle ones at once, the others in mid-job."""
        for worker in self._workers:
            worker.connection.close()
            worker.process.terminate()
        until = time.monotonic() + PATIENCE_S
        for worker in self._workers:
            worker.process.join(max(until - time.monotonic(), 0.0))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    @property
    def processes(self) -> list[SpawnProcess]:
        """Return the processes of all workers."""
        return [one.process for one in self._workers]

    @property
    def running(self) -> dict[str, float]:
        """Return the jobs that are being done and since when, monotonic seconds."""
        return {one.job: one.began for one in self._workers if one.job}

    @property
    def trainings(self) -> set[str]:
        """Return the trainings that running jobs use."""
        return {one.training for one in self._workers if one.job}

    @property
    def has_room(self) -> bool:
        """Tell whether one more job can begin now."""
        return len(self.running) < self._size

    def begin(self, job: str, training: str) -> None:
        """Let a free worker do a job.

        Args:
            job: Its id; its folder has a job.json.
            training: Id of the training that it uses.
        """
        worker = self._hand_to_a_free_one(job)
        if worker is None:
            worker = self._start()
            worker.connection.send(job)
        worker.job, worker.training, worker.began = job, training, time.monotonic()

    def wait(self, timeout_s: float) -> list[Ended]:
        """Wait until a job is over, or some time has passed.

        Args:
            timeout_s: At most so long.

        Returns:
            The jobs that are over, if any.
        """
        busy: Mapping[Connection, Worker] = {
            one.connection: one for one in self._workers if one.job
        }
        ended = []
        # A worker that dies closes its end, which wakes this up, too.
        for connection in wait(list(busy), timeout_s):
            worker = busy[connection]  # type: ignore[index]
            try:
                reason = worker.connection.recv()
            except (EOFError, OSError):
                reason = DIED
                self._workers.remove(worker)
                worker.process.join()
            seconds = time.monotonic() - worker.began
            ended.append(Ended(worker.job, reason, seconds))
            worker.job = worker.training = ""
        return ended

    def _hand_to_a_free_one(self, job: str) -> Worker | None:
        """Send a job to a worker that has none; those that died meanwhile are left."""
        for worker in [one for one in self._workers if not one.job]:
            try:
                if worker.process.is_alive():
                    worker.connection.send(job)
                    return worker
            except OSError:  # it died just now
                pass
            self._workers.remove(worker)
            worker.process.join()
        return None

    def _start(self) -> Worker:
        ours, theirs = self._context.Pipe()
        number = len(self._workers) + 1
        process = self._context.Process(
            target=self._target,
            args=(self._study, self._study / f"worker-{number}.log", theirs),
            daemon=True,  # ends with this process, whatever happens to it
        )
        with _one_thread():
            process.start()
        theirs.close()  # or its death would not be noticed
        worker = Worker(process, ours)
        self._workers.append(worker)
        return worker


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes that are started now compute with one thread."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
