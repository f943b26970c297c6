"""The runs of a few-shot study, spread over processes.

A process gets what all runs share once, when it begins, and then the name of one run
after the other.
"""

import contextlib
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

import torch

from experiments.finetuning.fewshot import FinetuneTask
from experiments.finetuning.training import FinetuneOutcome, Study, finetune_once

_shared: list[Study] = []  # of a worker process, filled once by `_begin`


def run_all(
    tasks: Sequence[FinetuneTask], study: Study, workers: int
) -> Iterator[tuple[FinetuneTask, FinetuneOutcome]]:
    """Do runs, yielding their outcomes as they come.

    Args:
        tasks: Which runs; none is fine.
        study: What they share.
        workers: Processes; 1 = this one.

    Yields:
        Every run with its outcome, in any order.
    """
    if workers == 1 or len(tasks) < 2:
        with _repeatable_arithmetic():
            for task in tasks:
                yield task, finetune_once(task, study)
        return
    pool = ProcessPoolExecutor(
        max_workers=min(workers, len(tasks)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(study,),
    )
    try:
        running = {pool.submit(_finetune_shared, task): task for task in tasks}
        for future in as_completed(running):
            yield running[future], future.result()
    finally:
        # After a failure, runs that have not begun are not waited for.
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(study: Study) -> None:
    torch.set_num_threads(1)
    _shared[:] = [study]


def _finetune_shared(task: FinetuneTask) -> FinetuneOutcome:
    (study,) = _shared
    return finetune_once(task, study)


@contextlib.contextmanager
def _repeatable_arithmetic() -> Iterator[None]:
    """Compute in this process as a worker would: one thread, no free choices."""
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
