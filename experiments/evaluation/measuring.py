"""All metrics of one model in every frame and class, and the time that took.

Only valid pixels count, as in `clients.evaluation`. What is added later (pixel counts,
histograms of scores) is kept by frame or sequence, so that patients can be resampled
without measuring again.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clients.data.batches import Batch, evaluation_batches, predict
from experiments.evaluation.frames import EvaluationFrames
from experiments.model_source import ModelSource
from models.classes import CLASS_NAMES
from models.image_metrics import METRICS, measure_image
from models.network import SegmentationNetwork
from models.roc import NUM_BINS, ScoreHistogram, roc_auc

AUC = "auc"
COLUMNS = (*METRICS, AUC)
"""What is measured in every frame."""
COUNTS = ("tp", "fp", "fn", "tn")


@dataclass(frozen=True)
class Measured:
    """What one model scored; classes are those of the `EvaluationFrames`."""

    values: NDArray[np.float64]  # (frames, classes, COLUMNS), NaN = does not count
    counts: NDArray[np.int64]  # (frames, classes, COUNTS), px
    has_device: NDArray[np.bool_]  # (frames, classes)
    is_predicted: NDArray[np.bool_]  # (frames, classes)
    histograms: NDArray[np.int64]  # (sequences, classes, 2: with and without, bins)
    broken_frames: int  # with an output that is no number; it counts as no prediction
    prediction_ms: float  # per frame
    measuring_ms: float  # per frame

    @classmethod
    def empty(cls, frames: EvaluationFrames) -> "Measured":
        """Return room for the frames."""
        shape = (len(frames), len(frames.classes))
        sequences = int(frames.sequence_numbers.max()) + 1
        return cls(
            values=np.full((*shape, len(COLUMNS)), np.nan),
            counts=np.zeros((*shape, len(COUNTS)), np.int64),
            has_device=np.zeros(shape, bool),
            is_predicted=np.zeros(shape, bool),
            histograms=np.zeros((sequences, shape[1], 2, NUM_BINS), np.int64),
            broken_frames=0,
            prediction_ms=0.0,
            measuring_ms=0.0,
        )


@torch.no_grad()
def measure_model(
    source: ModelSource,
    frames: EvaluationFrames,
    *,
    batch_size: int,
    device: torch.device,
    progress: Callable[[int], None] = lambda frames: None,
) -> Measured:
    """Measure a model in all frames.

    Args:
        source: The model; its network ends on the device, in evaluation mode.
        frames: What to measure on, prepared as the model wants.
        batch_size: Frames per pass.
        device: Where to compute.
        progress: Called with a number of frames that are done.

    Returns:
        What it scored.
    """
    source.network.to(device).eval()
    found = Measured.empty(frames)
    sequences, spacings = frames.sequence_numbers, frames.fact("spacing_mm")
    place, broken, predicting = 0, 0, 0.0
    begin = time.perf_counter()
    for site in frames.sites:
        for batch in evaluation_batches(
            site.frames, batch_size=batch_size, settings=source.data, device=device
        ):
            start = time.perf_counter()
            logits = predict_logits(source.network, batch)
            predicting += time.perf_counter() - start
            for index in range(len(batch)):
                frame = _Frame.of(batch, index, logits[index])
                broken += int(frame.logits.isnan().any())
                _measure_frame(
                    found,
                    (place, sequences[place]),
                    frame,
                    spacing_mm=float(spacings[place]),
                    classes=frames.classes,
                )
                place += 1
            progress(len(batch))
    total = time.perf_counter() - begin
    return replace(
        found,
        broken_frames=broken,
        prediction_ms=1000 * predicting / len(frames),
        measuring_ms=1000 * (total - predicting) / len(frames),
    )


def predict_logits(network: SegmentationNetwork, batch: Batch) -> Tensor:
    """Predict whole frames.

    Args:
        network: On the device of the batch.
        batch: Frames.

    Returns:
        (batch, classes, size, size) float32 on the CPU. Above 0 is a device, where
        NaN is not.
    """
    return predict(network, batch.images, network.image_size).float().cpu()


@dataclass(frozen=True)
class _Frame:
    """One frame of a batch on the CPU."""

    logits: Tensor  # (classes, size, size)
    labels: NDArray[np.bool_]  # (classes, size, size)
    annotated: NDArray[np.bool_]  # (classes,)
    valid: NDArray[np.bool_]  # (size, size)

    @classmethod
    def of(cls, batch: Batch, index: int, logits: Tensor) -> "_Frame":
        return cls(
            logits,
            batch.masks[index].bool().cpu().numpy(),
            batch.annotated[index].cpu().numpy(),
            batch.valid[index, 0].cpu().numpy(),
        )


def _measure_frame(
    found: Measured,
    place: tuple[int, int],
    frame: _Frame,
    *,
    spacing_mm: float,
    classes: tuple[str, ...],
) -> None:
    """Fill in all classes of one frame, whose place is its number and sequence."""
    row, sequence = place
    for column, name in enumerate(classes):
        number = CLASS_NAMES.index(name)
        if not frame.annotated[number]:
            continue
        label = frame.labels[number] & frame.valid
        metrics = measure_image(
            (frame.logits[number] > 0).numpy(),
            label,
            valid=frame.valid,
            spacing_mm=None if math.isnan(spacing_mm) else spacing_mm,
        )
        # No number is no prediction, as in the mask.
        scores = frame.logits[number].sigmoid().nan_to_num(nan=0.0).numpy()
        inside, flags = scores[frame.valid], label[frame.valid]
        auc = roc_auc(inside, flags)
        found.values[row, column] = [*(metrics.values[m] for m in METRICS), auc]
        found.counts[row, column] = [getattr(metrics.counts, c) for c in COUNTS]
        found.has_device[row, column] = metrics.has_device
        found.is_predicted[row, column] = metrics.is_predicted
        bins = ScoreHistogram.of(inside, flags)
        found.histograms[sequence, column, 0] += np.array(bins.positives)
        found.histograms[sequence, column, 1] += np.array(bins.negatives)
