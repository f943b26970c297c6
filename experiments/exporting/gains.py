"""What a smaller graph costs in Dice and gains in time and size."""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.batches import evaluation_batches
from clients.data.frames import Frames
from clients.evaluation import evaluate
from experiments.exporting.onnx_export import INPUT, OUTPUT, OnnxNetwork
from experiments.model_source import ModelSource
from models.classes import CLASS_NAMES
from strategies.data_settings import DataSettings

REPEATS = 15  # timed passes of each, one after the other
BATCH_SIZE = 4


@dataclass(frozen=True)
class Measured:
    """One precision of one network."""

    precision: str
    megabytes: float
    milliseconds: float  # median of a pass of one frame on the CPU
    dice: dict[str, float]  # by class, pooled over the validation frames
    cldice: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return the entry of `export.json`."""
        return {
            "precision": self.precision,
            "megabytes": self.megabytes,
            "milliseconds": self.milliseconds,
            "dice": self.dice,
            "cldice": self.cldice,
        }


def measure(
    source: ModelSource, files: dict[str, Path], frames: Frames, *, threads: int
) -> list[Measured]:
    """Measure several precisions of a network on the same frames.

    Args:
        source: The model.
        files: Graph by precision.
        frames: Of the validation.
        threads: Of one pass.

    Returns:
        One entry a precision. Passes are timed in turn, so that a slow moment of the
        machine meets all of them.
    """
    networks = {
        name: OnnxNetwork(path, source.network, threads=threads)
        for name, path in files.items()
    }
    first = next(one_by_one(frames, source.data))
    size = source.network.image_size
    image = first[:, :, :size, :size].copy()
    times = _interleaved(
        {name: network.session.run for name, network in networks.items()}, image
    )
    found = []
    for name, network in networks.items():
        evaluation = evaluate(
            network,
            frames,
            settings=source.data,
            batch_size=BATCH_SIZE,
            device=torch.device("cpu"),
            measures="overlap",
        )
        scores = {label: evaluation.scores(label) for label in CLASS_NAMES}
        found.append(
            Measured(
                precision=name,
                megabytes=files[name].stat().st_size / 1e6,
                milliseconds=times[name],
                dice={label: one["pooled.dice"] for label, one in scores.items()},
                cldice={label: one["pooled.cldice"] for label, one in scores.items()},
            )
        )
    return found


def _interleaved(
    passes: dict[str, Any], image: NDArray[np.float32]
) -> dict[str, float]:
    """Return the median milliseconds of each, timed in turn."""
    times: dict[str, list[float]] = {name: [] for name in passes}
    for repeat in range(REPEATS + 2):
        for name, run in passes.items():
            start = time.perf_counter()
            run([OUTPUT], {INPUT: image})
            if repeat >= 2:  # the first passes allocate
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def one_by_one(frames: Frames, settings: DataSettings) -> Iterator[NDArray[np.float32]]:
    """Yield normalised frames, each (1, 1, size, size).

    Args:
        frames: Of any size.
        settings: Normalisation.
    """
    for batch in evaluation_batches(
        frames, batch_size=1, settings=settings, device=torch.device("cpu")
    ):
        yield batch.images.numpy()


def summary(found: Sequence[Measured]) -> list[str]:
    """Say what a precision costs and gains against the first, in sentences.

    Args:
        found: Of `measure`, float32 first.

    Returns:
        One sentence for every other precision.
    """
    base, *others = found
    sentences = []
    for one in others:
        loss = ", ".join(
            f"{label} {one.dice[label] - base.dice[label]:+.4f} Dice and "
            f"{one.cldice[label] - base.cldice[label]:+.4f} clDice"
            for label in CLASS_NAMES
            if base.dice[label] == base.dice[label]  # NaN: nobody annotated it
        )
        ratio = base.milliseconds / one.milliseconds
        speed = (
            f"{ratio:.2f} times as fast"
            if ratio >= 1
            else f"slower: {1 / ratio:.2f} times the time"
        )
        sentences.append(
            f"{one.precision} against float32: {loss or 'no annotated class'}; {speed}"
            f", {one.megabytes / base.megabytes:.2f} of the size."
        )
    return sentences
