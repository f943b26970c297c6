"""Few-shot finetuning on a domain that no hospital had: foundation against chance.

Runs every combination of shots, start and seed of `experiments/fewshot.py`, spread
over processes, and writes the report of `experiments/fewshot_report.py`. The number of
processes changes the time and nothing else. Nothing here trains or draws.
"""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from experiments.fewshot import (
    STARTS,
    FinetuneResult,
    FinetuneSettings,
    overlay_indices,
    unseen_frames,
)
from experiments.fewshot_figures import draw_fewshot
from experiments.fewshot_report import write_report
from experiments.fewshot_training import (
    FinetuneError,
    FinetuneOutcome,
    FinetuneTask,
    finetune_once,
)
from experiments.overlays import draw_overlays
from server.checkpoints import load_foundation

Outcomes = dict[FinetuneTask, FinetuneOutcome]


def run_finetune(
    checkpoint: Path,
    settings: FinetuneSettings,
    output: Path,
    *,
    workers: int,
    device: str,
    on_result: Callable[[FinetuneResult], None],
) -> list[FinetuneResult]:
    """Run the whole study and write its tables and figures.

    Args:
        checkpoint: `foundation.safetensors` with its card beside it.
        settings: What to compare.
        output: Folder for `fewshot.csv`, `fewshot.json`, `figures/fewshot.png` and
            `figures/fewshot_overlay.png`; made if missing, such files are replaced.
        workers: Processes, >= 1; a GPU is used by one process.
        device: "auto", "cpu" or "cuda".
        on_result: Called in this process whenever a run ends, in any order.

    Returns:
        The results by shots, start and seed, the same for any number of workers.

    Raises:
        FinetuneError: If the foundation knows the domain, training diverges or an
            argument is out of range.
        FileNotFoundError: If there is no foundation.
        ValueError: If the foundation's files are damaged or fit no model.
    """
    if workers < 1:
        raise FinetuneError(f"workers must be >= 1, got {workers}.")
    place = choose_device(device)
    _, card = load_foundation(checkpoint)
    check_unseen(card, settings.domain)
    tasks = [
        FinetuneTask(checkpoint, settings, shots, start, seed, place)
        for shots in settings.shots
        for start in STARTS
        for seed in settings.seeds
    ]
    outcomes: Outcomes = {}
    for task, outcome in _run_all(tasks, 1 if place == "cuda" else workers):
        outcomes[task] = outcome
        on_result(outcome.result)
    results = [outcomes[task].result for task in tasks]
    write_report(results, settings, card, output)
    _draw(outcomes, settings, card["image-size"], output / "figures")
    return results


def check_unseen(card: dict[str, Any], domain: str) -> None:
    """Refuse a foundation that was trained on the domain.

    Args:
        card: Of the foundation.
        domain: What to finetune on.

    Raises:
        FinetuneError: If a site had the domain, or the card does not say which
            domains there were.
    """
    if "domains" not in card or "sites" not in card:
        raise FinetuneError(
            "The foundation's card must list its domains and sites, or nobody can "
            "tell whether a domain is unseen. Use a foundation made by this platform."
        )
    seen = set(card["domains"])
    for site in card["sites"]:
        seen.update(site.get("domain", "").split("+"))
    if domain in seen:
        raise FinetuneError(
            f"The domain '{domain}' is not unseen: the foundation was trained on "
            f"{', '.join(sorted(seen - {''}))}. Finetune on another domain."
        )


def choose_device(device: str) -> str:
    """Return "cpu" or "cuda" for "auto", "cpu" or "cuda".

    Raises:
        FinetuneError: If it is another word, or CUDA is asked for and absent.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise FinetuneError(f"device must be auto, cpu or cuda, got '{device}'.")
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise FinetuneError(
            "device = 'cuda' was asked for, but this process sees no GPU. "
            "Use device = 'auto'."
        )
    return "cuda" if has_gpu and device != "cpu" else "cpu"


def _run_all(
    tasks: Sequence[FinetuneTask], workers: int
) -> Iterator[tuple[FinetuneTask, FinetuneOutcome]]:
    """Yield outcomes as they come."""
    if workers == 1:
        with _repeatable_arithmetic():
            for task in tasks:
                yield task, finetune_once(task)
        return
    pool = ProcessPoolExecutor(
        max_workers=min(workers, len(tasks)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(1,),
    )
    try:
        running = {pool.submit(finetune_once, task): task for task in tasks}
        for future in as_completed(running):
            yield running[future], future.result()
    finally:
        # After a failure, runs that have not begun are not waited for.
        pool.shutdown(wait=True, cancel_futures=True)


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


def _draw(
    outcomes: Outcomes, settings: FinetuneSettings, image_size: int, folder: Path
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    results = [outcome.result for outcome in outcomes.values()]
    draw_fewshot(results, folder / "fewshot.png", domain=settings.domain)
    test = unseen_frames(settings, image_size).test
    shown = test.subset(overlay_indices(test, settings.overlay_frames))
    shots, seed = settings.shots[-1], settings.seeds[0]
    draw_overlays(
        shown.images,
        shown.masks,
        {
            f"from {task.start} weights": outcome.predicted
            for task, outcome in sorted(
                outcomes.items(), key=lambda item: STARTS.index(item[0].start)
            )
            if (task.shots, task.seed) == (shots, seed)
        },
        folder / "fewshot_overlay.png",
        title=f"Unseen domain “{settings.domain}”, {shots} labelled frames, seed "
        f"{seed}; of each test patient the middle frame with a device",
    )
