"""How well an adapted network segments, in the numbers that arXiv 2410.07460 reports.

IoU, F1, accuracy and sensitivity of every frame, then averaged over frames: the
"micro-imagewise" of segmentation-models-pytorch, which pools the pixels of a frame's
classes before it divides. clDice is averaged the same way. Where a ratio divides by
zero the house's rule holds: both masks empty is 1, one of them empty is 0 (the library
gives a sensitivity of 1 to false alarms on a frame without any device).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from clients.data.errors import DataError
from clients.data.frames import FrameSet
from models.classes import CLASS_NAMES
from models.overlap import Mask, count_skeletons, harmonic_mean, ratio
from models.region_metrics import PixelCounts, count_pixels

SCORE_TITLES = {
    "iou": "IoU",
    "f1": "F1",
    "accuracy": "Accuracy",
    "sensitivity": "Sensitivity",
    "cldice": "clDice",
}
"""Every score and what a table calls it."""


@dataclass(frozen=True)
class MeanScores:
    """Scores from 0 to 1, each the mean over the frames that count."""

    frames: int
    iou: float
    f1: float
    accuracy: float  # 0.99 for an empty prediction of a wire: only to compare
    sensitivity: float
    cldice: float


@dataclass(frozen=True)
class AdaptationScores:
    """The scores of one set of masks.

    Attributes:
        left_out: Frames that nobody annotated for an adapted class, or without a
            valid pixel.
        overall: Over all classes adapted; None when every frame is left out.
        by_class: By name; without the classes that no frame annotates.
    """

    left_out: int
    overall: MeanScores | None
    by_class: dict[str, MeanScores]

    def value(self, name: str) -> float | None:
        """Return a score over all classes, of `SCORE_TITLES`; None if unknown."""
        return None if self.overall is None else float(getattr(self.overall, name))

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "AdaptationScores":
        """Read what `to_dict` returned.

        Raises:
            DataError: If it is anything else.
        """
        try:
            overall = content["overall"]
            return cls(
                left_out=int(content["left_out"]),
                overall=None if overall is None else MeanScores(**overall),
                by_class={
                    name: MeanScores(**one) for name, one in content["by_class"].items()
                },
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataError(
                "Scores of an adaptation were wanted, with left_out, overall and "
                "by_class; got something else. Measure again."
            ) from error


def score_masks(
    predicted: Tensor, frames: FrameSet, classes: Sequence[str]
) -> AdaptationScores:
    """Compare masks with the annotations, on valid pixels only.

    Args:
        predicted: (frames, classes of `CLASS_NAMES`, size, size); nonzero = device.
        frames: With the truth, as far as somebody annotated it.
        classes: Names of the classes adapted; others do not count.

    Returns:
        Means over frames.

    Raises:
        DataError: If shapes differ, or a class is unknown.
    """
    _check(predicted, frames, classes)
    by_frame = [
        _meet_frame(predicted[index], frames, index, classes)
        for index in range(len(frames))
    ]
    counted = [list(met.values()) for met in by_frame if met]
    by_class = {
        name: [[met[name]] for met in by_frame if name in met]
        for name in CLASS_NAMES
        if name in classes
    }
    return AdaptationScores(
        left_out=len(by_frame) - len(counted),
        overall=_mean_scores(counted) if counted else None,
        by_class={name: _mean_scores(met) for name, met in by_class.items() if met},
    )


class _Meeting(NamedTuple):
    """How the prediction of one class in one frame meets its label."""

    pixels: PixelCounts
    skeletons: tuple[int, int, int, int]  # of `count_skeletons`


def _meet_frame(
    predicted: Tensor, frames: FrameSet, index: int, classes: Sequence[str]
) -> dict[str, _Meeting]:
    """Return the classes of a frame that are adapted and annotated, by name."""
    valid = frames.valid[index, 0].cpu().numpy()
    if not valid.any():
        return {}
    return {
        name: _meet(
            _mask(predicted[place]) & valid,
            _mask(frames.masks[index, place]) & valid,
            hidden=valid.size - int(valid.sum()),
        )
        for place, name in enumerate(CLASS_NAMES)
        if name in classes and bool(frames.annotated[index, place])
    }


def _meet(guess: Mask, label: Mask, hidden: int) -> _Meeting:
    """Count masks that are empty where not valid; that many pixels do not count."""
    counts = count_pixels(guess, label)
    seen = PixelCounts(counts.tp, counts.fp, counts.fn, counts.tn - hidden)
    return _Meeting(seen, count_skeletons(guess, label))


def _mean_scores(frames: Sequence[Sequence[_Meeting]]) -> MeanScores:
    """Average over frames, each with one or more classes that are pooled."""
    pixels = [sum((one.pixels for one in met), PixelCounts()) for met in frames]

    def mean(score: Callable[[PixelCounts], float]) -> float:
        return float(np.mean([score(counts) for counts in pixels]))

    return MeanScores(
        frames=len(frames),
        iou=mean(PixelCounts.iou),
        f1=mean(PixelCounts.dice),
        accuracy=mean(PixelCounts.accuracy),
        sensitivity=mean(PixelCounts.recall),
        cldice=float(np.mean([_cldice(met) for met in frames])),
    )


def _cldice(met: Sequence[_Meeting]) -> float:
    """Return the clDice of the skeletons of all classes of a frame together."""
    lines, hits, label_lines, label_hits = (
        sum(part) for part in zip(*(one.skeletons for one in met), strict=True)
    )
    empty = lines + label_lines == 0  # the skeleton of a mask is empty if the mask is
    return harmonic_mean(
        ratio(hits, lines, empty), ratio(label_hits, label_lines, empty)
    )


def _check(predicted: Tensor, frames: FrameSet, classes: Sequence[str]) -> None:
    if predicted.shape != frames.masks.shape:
        raise DataError(
            f"Masks of {tuple(frames.masks.shape)} were wanted, as the annotations, "
            f"got {tuple(predicted.shape)}."
        )
    if not classes or not set(classes) <= set(CLASS_NAMES):
        raise DataError(
            f"Classes must be some of {', '.join(CLASS_NAMES)}, got "
            f"{', '.join(classes) or 'none'}."
        )


def _mask(mask: Tensor) -> Mask:
    found: Mask = (mask > 0).cpu().to(torch.bool).numpy()
    return found
