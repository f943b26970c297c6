"""Overlap and centre-line metrics, as counts that hospitals may send and add.

Dice, IoU, precision and recall from pixel counts; clDice (Shit et al., CVPR 2021)
from counts on the morphological skeleton of scikit-image. Every score is a function of
whole numbers, which add exactly and in any order: the value a server computes from the
sum of its hospitals' counts is the value on the union of their frames.

Empty masks follow `models/overlap.py`: both empty is 1, one empty is 0. A class that
nobody annotated is NaN, never 0. Distances, tips and millimetres are not known here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from torch import Tensor

from models.classes import CLASS_NAMES
from models.overlap import Mask, count_skeletons, dice, harmonic_mean, ratio

_PER_CLASS = (
    "annotated",
    "tp",
    "fp",
    "fn",
    "predicted_skeleton",
    "predicted_skeleton_hits",
    "label_skeleton",
    "label_skeleton_hits",
    "missed",
    "false_alarms",
)
_PER_SET = ("frames", "device_frames", "dice_billionths", "device_dice_billionths")
_BILLION = 1_000_000_000


@dataclass(frozen=True)
class SegmentationCounts:
    """What a hospital may send: numbers from which no image can be rebuilt.

    First per class, in the order of `CLASS_NAMES`, over the frames where it is
    annotated; then per set of frames. Add with `+`.
    """

    annotated: tuple[int, ...]  # frames whose label of the class is known
    tp: tuple[int, ...]  # pixels predicted and labelled
    fp: tuple[int, ...]  # pixels predicted, not labelled
    fn: tuple[int, ...]  # pixels labelled, not predicted
    predicted_skeleton: tuple[int, ...]  # pixels of the prediction's skeleton
    predicted_skeleton_hits: tuple[int, ...]  # those inside the label
    label_skeleton: tuple[int, ...]  # pixels of the label's skeleton
    label_skeleton_hits: tuple[int, ...]  # those inside the prediction
    missed: tuple[int, ...]  # frames with a label and an empty prediction
    false_alarms: tuple[int, ...]  # frames with an empty label and a prediction
    frames: int  # with at least one annotated class
    device_frames: int  # those with at least one labelled pixel
    # Sums over those frames of a frame's mean Dice, in billionths: whole numbers add
    # exactly, so how frames are spread over hospitals cannot change the last digit.
    dice_billionths: int
    device_dice_billionths: int

    def __post_init__(self) -> None:
        """Refuse numbers that no set of masks can have."""
        wrong = [name for name in _PER_CLASS if not self._is_valid(name)]
        wrong += [name for name in _PER_SET if not _is_count(getattr(self, name))]
        if wrong:
            raise ValueError(
                f"Counts must be whole numbers >= 0, for each of {CLASS_NAMES} where "
                f"classes differ. Wrong: {', '.join(wrong)}."
            )
        self._check_parts()

    def __add__(self, other: Self) -> Self:
        """Return the counts of the union of two disjoint sets of frames."""
        mine, theirs = self.to_dict(), other.to_dict()
        return self.from_dict({key: mine[key] + theirs[key] for key in mine})

    @classmethod
    def zero(cls) -> Self:
        """Return the counts of no frames at all."""
        return cls.from_dict(dict.fromkeys(_message_keys(), 0))

    def to_dict(self) -> dict[str, int]:
        """Return flat entries for a message, such as "tp.catheter" and "frames"."""
        values = [value for name in _PER_CLASS for value in getattr(self, name)]
        values += [getattr(self, name) for name in _PER_SET]
        return dict(zip(_message_keys(), values, strict=True))

    @classmethod
    def from_dict(cls, values: Mapping[str, int | float]) -> Self:
        """Read the entries of `to_dict` back.

        Args:
            values: Exactly the keys of `to_dict`; whole numbers >= 0.

        Returns:
            The counts.

        Raises:
            ValueError: If a key is missing or unknown, or a value is not possible.
        """
        different = sorted(set(_message_keys()) ^ values.keys())
        if different:
            raise ValueError(
                "Counts must have the keys of SegmentationCounts.to_dict; missing or "
                f"unknown: {', '.join(different)}."
            )
        per_class = {
            name: tuple(values[_key(name, label)] for label in CLASS_NAMES)
            for name in _PER_CLASS
        }
        # What is not a whole number is refused by __post_init__.
        per_set = {name: values[_key(name)] for name in _PER_SET}
        return cls(**per_class, **per_set)  # type: ignore[arg-type]

    def scores(self) -> dict[str, float]:
        """Compute the scores of the counted frames.

        Returns:
            Values from 0 to 1, NaN where nothing is annotated. "dice", "cldice",
            "iou", "precision" and "recall" are pooled: counts are summed over frames
            and classes, then divided. With ".catheter" or ".guidewire" behind the
            name they are pooled over the frames of that class. "dice-per-image" is
            the mean over frames of the mean over annotated classes of Dice,
            "dice-per-device-image" the same over frames with a labelled pixel.
        """
        scores = self._pooled(range(len(CLASS_NAMES)))
        for index, label in enumerate(CLASS_NAMES):
            for name, value in self._pooled(range(index, index + 1)).items():
                scores[f"{name}.{label}"] = value
        for name, total, frames in (
            ("dice-per-image", self.dice_billionths, self.frames),
            ("dice-per-device-image", self.device_dice_billionths, self.device_frames),
        ):
            scores[name] = total / _BILLION / frames if frames else float("nan")
        return scores

    def _pooled(self, classes: range) -> dict[str, float]:
        total = {
            name: sum(getattr(self, name)[index] for index in classes)
            for name in _PER_CLASS
        }
        if not total["annotated"]:
            names = ("dice", "cldice", "iou", "precision", "recall")
            return dict.fromkeys(names, float("nan"))
        predicted = total["tp"] + total["fp"]
        labelled = total["tp"] + total["fn"]
        empty = predicted + labelled == 0
        precise = ratio(
            total["predicted_skeleton_hits"], total["predicted_skeleton"], empty
        )
        sensitive = ratio(total["label_skeleton_hits"], total["label_skeleton"], empty)
        return {
            "dice": ratio(2 * total["tp"], predicted + labelled, empty),
            "cldice": harmonic_mean(precise, sensitive),
            "iou": ratio(total["tp"], predicted + total["fn"], empty),
            "precision": ratio(total["tp"], predicted, empty),
            "recall": ratio(total["tp"], labelled, empty),
        }

    def _is_valid(self, name: str) -> bool:
        values = getattr(self, name)
        return len(values) == len(CLASS_NAMES) and all(map(_is_count, values))

    def _check_parts(self) -> None:
        parts = [
            *zip(self.predicted_skeleton_hits, self.predicted_skeleton, strict=True),
            *zip(self.label_skeleton_hits, self.label_skeleton, strict=True),
            (self.dice_billionths, self.frames * _BILLION),
            (self.device_dice_billionths, self.device_frames * _BILLION),
            (self.device_frames, self.frames),
        ]
        if any(part > whole for part, whole in parts):
            raise ValueError(
                "Skeleton hits, device frames and sums of Dice must not exceed the "
                "skeleton pixels and frames they are part of."
            )


def count_segmentation(
    predicted: Tensor, masks: Tensor, annotated: Tensor
) -> SegmentationCounts:
    """Count how predictions meet their labels.

    Args:
        predicted: (batch, classes, height, width); bool or uint8 (non-zero is
            foreground), or float probabilities 0 to 1 (foreground above 0.5).
        masks: (batch, classes, height, width), 0 or 1.
        annotated: (batch, classes), bool; False leaves the entry out.

    Returns:
        Counts of the batch; frames without any annotated class are left out.

    Raises:
        ValueError: If the shapes disagree or floats lie outside 0 to 1.
    """
    _check_shapes(predicted, masks, annotated)
    if predicted.is_floating_point():
        if not bool(((predicted >= 0) & (predicted <= 1)).all()):
            raise ValueError(
                "Predictions must be masks or probabilities from 0 to 1, got floats "
                "outside that range. Apply a sigmoid to logits first."
            )
        predicted = predicted > 0.5
    guesses = predicted.detach().cpu().numpy() > 0
    labels = masks.detach().cpu().numpy() > 0
    known = annotated.detach().cpu().numpy() > 0
    counts = SegmentationCounts.zero()
    for guess, label, is_known in zip(guesses, labels, known, strict=True):
        if is_known.any():
            counts = counts + _count_frame(guess, label, is_known)
    return counts


def _count_frame(guess: Mask, label: Mask, known: Mask) -> SegmentationCounts:
    """Count one frame: masks (classes, height, width) and flags (classes,)."""
    unknown = (0,) * len(_PER_CLASS)
    rows = [
        _count_class(guess[index], label[index]) if known[index] else unknown
        for index in range(len(CLASS_NAMES))
    ]
    per_class = dict(zip(_PER_CLASS, zip(*rows, strict=True), strict=True))
    scores = [dice(guess[index], label[index]) for index in np.flatnonzero(known)]
    billionths = round(sum(scores) / len(scores) * _BILLION)
    has_device = int(label[known].any())
    return SegmentationCounts(
        **per_class,
        frames=1,
        device_frames=has_device,
        dice_billionths=billionths,
        device_dice_billionths=has_device * billionths,
    )


def _count_class(guess: Mask, label: Mask) -> tuple[int, ...]:
    """Return the values of `_PER_CLASS` for one frame and class."""
    return (
        1,
        int((guess & label).sum()),
        int((guess & ~label).sum()),
        int((label & ~guess).sum()),
        *count_skeletons(guess, label),
        int(label.any() and not guess.any()),
        int(guess.any() and not label.any()),
    )


def _key(name: str, label: str = "") -> str:
    """Return the message key of a field: "predicted-skeleton.catheter"."""
    return name.replace("_", "-") + (f".{label}" if label else "")


def _message_keys() -> list[str]:
    per_class = [_key(name, label) for name in _PER_CLASS for label in CLASS_NAMES]
    return per_class + [_key(name) for name in _PER_SET]


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _check_shapes(predicted: Tensor, masks: Tensor, annotated: Tensor) -> None:
    agree = (
        masks.ndim == 4
        and masks.shape[1] == len(CLASS_NAMES)
        and predicted.shape == masks.shape
        and annotated.shape == masks.shape[:2]
    )
    if not agree:
        raise ValueError(
            f"Metrics need predictions and masks (batch, {len(CLASS_NAMES)}, height, "
            "width) of one shape and annotated (batch, classes), got "
            f"{tuple(predicted.shape)}, {tuple(masks.shape)} and "
            f"{tuple(annotated.shape)}."
        )
