"""How many frames a second does the simulator make?

    python -m experiments.benchmarks.simulator
    python -m experiments.benchmarks.simulator --sizes 256 --seconds 20

Every process makes whole patients of ten frames each, drawing the patient included,
and the named domains take turns. Each process uses one thread, so that two processes
are two cores. Numbers are of `simulate_frames`, the way that training takes. Where
others use the cores as well, the time that the processor really spent tells more than
the clock; it is reported beside the load when the measurement began.
"""

import argparse
import json
import logging
import multiprocessing
import os
import shlex
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from clients.data.simulator import simulate_frames
from clients.fluoroscopy.domains import DOMAINS
from experiments.benchmarks import RESULTS
from experiments.resources import count_cores
from server.checkpoints import installed_versions

OUTPUT = RESULTS / "simulator.json"
FRAMES_PER_PATIENT = 10


class Rate(NamedTuple):
    """How fast frames were made."""

    frames_per_second: float
    processor_ms: float  # for one frame

    def content(self) -> dict[str, float]:
        """Return the rate as it is written."""
        return {name.replace("_", "-"): value for name, value in self._asdict().items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table and write the numbers.

    Args:
        arguments: Of the command line; None = those of this process.
    """
    given = sys.argv[1:] if arguments is None else arguments
    options = _parse(given)
    result: dict[str, Any] = {
        "command": shlex.join(
            ["python", "-m", "experiments.benchmarks.simulator", *given]
        ),
        "frames-per-patient": FRAMES_PER_PATIENT,
        "seconds": options.seconds,
        "cpu-cores": count_cores(),
        "load-average-before": os.getloadavg()[0],
        "versions": installed_versions(),
        "by-size-and-processes": _rates(options),
        "by-domain-256-px-1-process": _by_domain(options.seconds),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    console = Console()
    for table in _tables(result, options.processes):
        console.print(table)
    console.print(f"Written to {options.output}", highlight=False, soft_wrap=True)


def measure(domains: Sequence[str], size: int, seconds: float, seed: int) -> Rate:
    """Make frames for some time in this process, on one thread.

    Args:
        domains: They take turns.
        size: Side of the frames, px.
        seconds: How long to go on; the last patients are finished.
        seed: Of the frames.

    Returns:
        What was reached.
    """
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    for domain in domains:  # whatever is done only once
        _make(domain, size, seed, frames=1)
    made, took, began, spent = 0, 0.0, time.perf_counter(), time.process_time()
    while took < seconds:
        for domain in domains:
            made += _make(domain, size, seed + made, frames=FRAMES_PER_PATIENT)
        took = time.perf_counter() - began
    return Rate(made / took, 1000 * (time.process_time() - spent) / made)


def _make(domain: str, size: int, seed: int, *, frames: int) -> int:
    made = simulate_frames(
        domain, patients=1, frames_per_patient=frames, image_size=size, seed=seed
    )
    return len(made)


def _rates(options: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """Return size -> number of processes -> what all of them reach together."""
    return {
        str(size): {
            str(count): _together(count, size, options.seconds).content()
            for count in options.processes
        }
        for size in options.sizes
    }


def _together(count: int, size: int, seconds: float) -> Rate:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=spawn) as pool:
        # Every process is up and warm before the clock of any starts.
        list(pool.map(measure, *zip(*[(["human"], 64, 0.1, 0)] * count, strict=True)))
        jobs = [
            pool.submit(measure, sorted(DOMAINS), size, seconds, 1000 * number)
            for number in range(count)
        ]
        rates = [job.result() for job in jobs]
    return Rate(
        sum(rate.frames_per_second for rate in rates),
        sum(rate.processor_ms for rate in rates) / count,
    )


def _by_domain(seconds: float) -> dict[str, dict[str, float]]:
    threads = cv2.getNumThreads(), torch.get_num_threads()
    rates = {
        name: measure([name], 256, seconds / 2, 0).content() for name in sorted(DOMAINS)
    }
    cv2.setNumThreads(threads[0])
    torch.set_num_threads(threads[1])
    return rates


def _tables(result: dict[str, Any], processes: Sequence[int]) -> list[Table]:
    rates = Table(
        title="Simulated frames a second",
        caption=f"{FRAMES_PER_PATIENT} frames a patient, drawing it included; "
        f"all domains in turn, one thread a process. Load before: "
        f"{result['load-average-before']:.1f} on {result['cpu-cores']} cores.",
        box=box.SIMPLE_HEAD,
    )
    rates.add_column("px", justify="right")
    for count in processes:
        rates.add_column(f"{count} process(es)", justify="right")
        rates.add_column("processor ms a frame", justify="right")
    for size, row in result["by-size-and-processes"].items():
        rates.add_row(size, *(cell for rate in row.values() for cell in _cells(rate)))
    domains = Table(title="By domain, 256 px, 1 process", box=box.SIMPLE_HEAD)
    domains.add_column("domain")
    domains.add_column("frames/s", justify="right")
    domains.add_column("processor ms a frame", justify="right")
    for name, rate in result["by-domain-256-px-1-process"].items():
        domains.add_row(name, *_cells(rate))
    return [rates, domains]


def _cells(rate: dict[str, float]) -> tuple[str, str]:
    return f"{rate['frames-per-second']:,.1f}", f"{rate['processor-ms']:,.1f}"


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=12.0, help="for each rate")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main()
