"""Is loading frames ever what training waits for?

    python -m experiments.benchmarks.loader
    python -m experiments.benchmarks.loader --frames 500 --output /tmp/loader.json

Writes a folder of PNG frames and masks (simulated, in a temporary folder that is
removed), loads it as a hospital does, and measures in one run, side by side: the time
to the first batch with nothing prepared and with everything prepared; the frames per
second of the loader and of a training step of every network; the memory that an epoch
takes. What the operating system keeps of the files in memory is said with every number.
"""

import argparse
import json
import logging
import multiprocessing
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from clients.data.store import StoredFrames
from experiments.benchmarks import RESULTS
from experiments.benchmarks.loader_archive import drop_from_memory, write_archive
from experiments.benchmarks.loader_measures import (
    Setup,
    loader_rate,
    memory_of_an_epoch,
    memory_of_tensors,
    seconds_to_first_batch,
    training_rate,
)
from experiments.resources import count_cores
from models.registry import BUILDERS
from server.checkpoints import installed_versions

OUTPUT = RESULTS / "loader.json"
LARGE = ("sam-vit-b", "sam-vit-l", "sam-vit-h")
"""Left out unless asked for: they take frames more slowly than any that is measured."""

PATHS = ("output", "folder")
AUGMENTATIONS = ("none", "light")
PREPARED_FROM = {
    "cold": "nothing prepared, files not in memory",
    "prepared": "all prepared, cache and files not in memory",
    "warm": "all prepared, cache and files in memory",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table and write the numbers.

    Args:
        arguments: Of the command line; None = those of this process.
    """
    options = _parse(arguments)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        result = _measure(options, Path(place))
    result["command"] = shlex.join(
        ["python", "-m", "experiments.benchmarks.loader", *(arguments or sys.argv[1:])]
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    console = Console()
    for table in _tables(result):
        console.print(table)
    console.print(f"Written to {options.output}", highlight=False, soft_wrap=True)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--frames", type=int, default=10_000, help="files to load")
    parser.add_argument("--size", type=int, default=128, help="px, of a loaded frame")
    parser.add_argument("--source-size", type=int, default=512, help="px, of a file")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each rate")
    parser.add_argument(
        "--models",
        nargs="+",
        choices=list(BUILDERS),
        default=[name for name in BUILDERS if name not in LARGE],
    )
    parser.add_argument("--folder", type=Path, help="for temporary files, on a disk")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    return parser.parse_args(arguments)


def _measure(options: argparse.Namespace, place: Path) -> dict[str, Any]:
    archive_bytes = write_archive(
        place / "archive", num_frames=options.frames, size=options.source_size, seed=0
    )
    setup = Setup(
        archive=place / "archive",
        cache=place / "cache",
        size=options.size,
        batch_size=options.batch_size,
        device=torch.device(options.device),
        threads=options.threads,
    )
    forgotten = drop_from_memory(place)
    first_batch = {"cold": seconds_to_first_batch(setup)}
    forgotten = min(forgotten, drop_from_memory(place))
    first_batch["prepared"] = seconds_to_first_batch(setup)
    first_batch["warm"] = seconds_to_first_batch(setup)
    frames = setup.load()
    loader = _loader_rates(setup, frames, options.seconds)
    training = {
        name: training_rate(setup, frames, name, seconds=options.seconds)
        for name in options.models
    }
    return {
        **_facts(options, setup.device),
        "share-of-files-forgotten": forgotten,
        "archive-mib": archive_bytes / 2**20,
        "cache-mib": _size(setup.cache) / 2**20,
        "seconds-to-first-batch": first_batch,
        "loader-frames-per-second": loader,
        "training-frames-per-second": training,
        "loader-over-training": {
            name: loader["stored, light"] / rate for name, rate in training.items()
        },
        "memory-mib": _memory(setup, frames),
    }


def _facts(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Return what was asked for, and of which machine; paths are nobody's business."""
    asked = {key: vars(options)[key] for key in vars(options) if key not in PATHS}
    is_gpu = device.type == "cuda"
    return {
        "settings": {key.replace("_", "-"): value for key, value in asked.items()},
        "cpu-cores": count_cores(),
        "device": torch.cuda.get_device_name(device) if is_gpu else "cpu",
        "versions": installed_versions(),
    }


def _loader_rates(
    setup: Setup, frames: StoredFrames, seconds: float
) -> dict[str, float]:
    """Return frames/s from the cache and, beside it, from memory; files in memory."""
    # As much as fits comfortably: a larger set in memory is not faster.
    in_memory = frames.subset(torch.arange(min(len(frames), 1000)))
    sources = {"stored": frames, "in memory": in_memory}
    return {
        f"{name}, {augmentation}": loader_rate(
            setup, source, augmentation, seconds=seconds
        )
        for name, source in sources.items()
        for augmentation in AUGMENTATIONS
    }


def _memory(setup: Setup, frames: StoredFrames) -> dict[str, float]:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        stored = pool.submit(memory_of_an_epoch, setup).result()
    in_memory = memory_of_tensors(
        len(frames), size=frames.size, num_classes=frames.num_classes
    )
    return {**stored, "in-memory-calculated": in_memory}


def _tables(result: Mapping[str, Any]) -> list[Table]:
    settings, forgotten = result["settings"], result["share-of-files-forgotten"]
    cold = result["seconds-to-first-batch"]["cold"]
    first = Table(
        title=f"First batch of {settings['frames']:,} frames",
        caption=f"Cold = {settings['frames'] / cold:,.1f} frames prepared a second. "
        f"At least {forgotten:.0%} of the files had really left memory.",
        box=box.SIMPLE_HEAD,
    )
    first.add_column("State")
    first.add_column("s", justify="right")
    for state, seconds in result["seconds-to-first-batch"].items():
        first.add_row(PREPARED_FROM[state], f"{seconds:,.2f}")
    rates = Table(
        title=f"Frames of {settings['size']} px, {settings['threads']} thread(s)",
        caption="Loader: cache in memory. Training: forward, loss, backward, AdamW.",
        box=box.SIMPLE_HEAD,
    )
    rates.add_column("What")
    rates.add_column("frames/s", justify="right")
    rates.add_column("loader is … times as fast", justify="right")
    for name, rate in result["loader-frames-per-second"].items():
        rates.add_row(f"loader, {name}", f"{rate:,.0f}", "")
    rates.add_section()
    for name, rate in result["training-frames-per-second"].items():
        ratio = result["loader-over-training"][name]
        rates.add_row(f"training {name}", f"{rate:,.1f}", f"{ratio:,.0f}")
    return [first, rates, _memory_table(result["memory-mib"])]


def _memory_table(memory: Mapping[str, float]) -> Table:
    table = Table(
        title="Memory of an epoch over all frames",
        caption="Mapped pages are given back whenever others need the memory.",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("Process")
    table.add_column("MiB", justify="right")
    for key, name in {
        "before": "with everything imported",
        "peak": "at most",
        "added-own": "added by the epoch, its own",
        "added-mapped": "added by the epoch, mapped files",
        "in-memory-calculated": "all frames as tensors would add (calculated)",
    }.items():
        table.add_row(name, f"{memory[key]:,.0f}")
    return table


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)  # a site's warnings: not wanted here
    main()
