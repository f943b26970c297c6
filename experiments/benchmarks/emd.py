"""What an Earth Mover's Distance costs: every way side by side, in one run.

    endofed benchmark emd --nodes 16,49,64 --batches 4,16 --threads 1

Timed is what training pays: from features and weights to the value and back to their
gradients, float32. Ways are measured in turn, so that a machine that gets slower slows
all of them; ratios are to a loop over `ot.emd2` in the same run. Errors are measured
apart, in float64.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from experiments.benchmarks.emd_measures import (
    REFERENCE,
    WAYS,
    Inputs,
    Quality,
    Way,
    as_leaves,
    make_inputs,
    measure_quality,
    reason_to_skip,
)
from experiments.benchmarks.peak_memory import peak_mib

FEATURE_DIM = 64


@dataclass(frozen=True)
class Row:
    """One way at one size."""

    name: str
    n: int
    batch: int
    milliseconds: float  # per item, forward and backward, median
    least_milliseconds: float  # per item, minimum
    ratio: float | None  # to the reference, median turn by turn; None = without it
    peak_mib: float | None  # None = this machine does not tell
    quality: Quality | None  # None for what is no distance


@dataclass(frozen=True)
class Skipped:
    """One way that was left out, and why."""

    name: str
    n: int
    batch: int
    reason: str


def measure_ways(
    names: Sequence[str],
    *,
    nodes: Sequence[int],
    batches: Sequence[int],
    repeats: int,
    device: torch.device,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[list[Row], list[Skipped]]:
    """Time ways and measure their errors and their memory.

    Args:
        names: Some of `WAYS`.
        nodes: Nodes of each set.
        batches: Pairs of sets at once.
        repeats: Measured passes of each way.
        device: Where features and, for those that can, solvers are.
        seed: Of the features.
        progress: Told what is measured now.

    Returns:
        A row for every way and size that was measured, and what was not.
    """
    rows: list[Row] = []
    skipped: list[Skipped] = []
    for n in nodes:
        for batch in batches:
            chosen = []
            for name in names:
                reason = reason_to_skip(name, n, batch, device)
                if reason is None:
                    chosen.append(name)
                    continue
                skipped.append(Skipped(name, n, batch, reason))
                progress(f"{name} at {n} nodes, batch {batch}: {reason}")
            progress(f"{n} nodes, batch {batch}: {', '.join(chosen)}")
            inputs = make_inputs(n, batch, FEATURE_DIM, seed)
            rows += _measure_size(chosen, inputs, repeats, device)
    return rows, skipped


def to_json(rows: Sequence[Row], skipped: Sequence[Skipped]) -> dict[str, Any]:
    """Return all numbers for a file."""
    return {
        "reference": REFERENCE,
        "feature_dim": FEATURE_DIM,
        "rows": [asdict(one) for one in rows],
        "skipped": [asdict(one) for one in skipped],
    }


def time_in_turn(
    runs: dict[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, list[float]]:
    """Run all in turn in every repetition; return the seconds of each.

    The first pass of all is not counted: it loads code and fills caches.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            taken = _seconds(run, device)
            if repeat:
                seconds[name].append(taken)
    return seconds


def _measure_size(
    names: Sequence[str], inputs: Inputs, repeats: int, device: torch.device
) -> list[Row]:
    batch, n, _ = inputs.students.shape
    runs = {name: _pass(WAYS[name], inputs, device) for name in names}
    seconds = time_in_turn(runs, repeats, device)
    rows = []
    for name in names:
        per_item = [1000 * one / batch for one in seconds[name]]
        quality = None
        if name != "cost only":
            quality = measure_quality(WAYS[name], inputs, device)
        memory = _memory(runs[name], device)
        median, ratio = statistics.median(per_item), None
        if REFERENCE in seconds:
            turns = zip(seconds[name], seconds[REFERENCE], strict=True)
            ratio = statistics.median(own / other for own, other in turns)
        rows.append(Row(name, n, batch, median, min(per_item), ratio, memory, quality))
    return rows


def _pass(way: Way, inputs: Inputs, device: torch.device) -> Callable[[], object]:
    leaves = as_leaves(inputs, device, torch.float32)

    def run() -> object:
        for leaf in leaves:
            leaf.grad = None
        return way(leaves).value.sum().backward()

    return run


def _memory(run: Callable[[], object], device: torch.device) -> float | None:
    try:
        return peak_mib(run, device)
    except RuntimeError:  # a machine that does not tell
        return None


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
