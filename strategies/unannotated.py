"""What a model predicts of classes that a hospital does not annotate.

Where a class is unknown, nobody can say whether a predicted pixel is wrong: nobody
looked. Such pixels therefore never enter Dice or any other score. Yet a network that
sees guidewires in every frame of a hospital without guidewires is worth knowing, and
per-site Dice hides it; these counts show it. They add up exactly over hospitals.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from models.classes import CLASS_NAMES

_NAMES = ("frames", "predicted_frames", "predicted_pixels", "visible_pixels")
_PREFIX = "unannotated"


@dataclass(frozen=True)
class UnannotatedCounts:
    """Counts by class, in the order of `CLASS_NAMES`; add with `+`.

    Raises:
        ValueError: If a number is not a whole one >= 0, or no set of frames has them.
    """

    frames: tuple[int, ...]  # where the class is not annotated
    predicted_frames: tuple[int, ...]  # those of them with a predicted pixel
    predicted_pixels: tuple[int, ...]  # in those frames, where valid
    visible_pixels: tuple[int, ...]  # all valid pixels of `frames`

    def __post_init__(self) -> None:
        """Refuse numbers that no set of frames can have."""
        wrong = [
            label
            for index, label in enumerate(CLASS_NAMES)
            if not _is_possible([getattr(self, name)[index] for name in _NAMES])
        ]
        if wrong:
            raise ValueError(
                "Predictions of classes that are not annotated must be whole numbers "
                f"of frames and pixels that fit together. Wrong: {', '.join(wrong)}."
            )

    def __add__(self, other: Self) -> Self:
        """Return the counts of the union of two disjoint sets of frames."""
        mine, theirs = self.to_dict(), other.to_dict()
        return self.from_dict({key: mine[key] + theirs[key] for key in mine})

    @classmethod
    def zero(cls) -> Self:
        """Return the counts of frames in which every class is annotated."""
        return cls.from_dict(dict.fromkeys(_keys(), 0))

    def scores(self, split: str) -> dict[str, float | None]:
        """Compute what a person reads.

        Args:
            split: "val" or "test", the first part of the names.

        Returns:
            For each class that some frame does not annotate,
            "val/unannotated/catheter/frames", their number, ".../predicted_frames",
            the share of them with a predicted pixel, and ".../predicted_pixels", the
            share of their valid pixels that are predicted. Both shares lie in [0, 1]
            and are no errors: nobody looked.
        """
        named: dict[str, float | None] = {}
        for index, label in enumerate(CLASS_NAMES):
            frames, predicted, pixels, visible = (
                getattr(self, name)[index] for name in _NAMES
            )
            if frames:
                prefix = f"{split}/{_PREFIX}/{label}"
                named[f"{prefix}/frames"] = frames
                named[f"{prefix}/predicted_frames"] = predicted / frames
                named[f"{prefix}/predicted_pixels"] = (
                    pixels / visible if visible else None
                )
        return named

    def to_dict(self) -> dict[str, int]:
        """Return flat entries such as "unannotated.frames.catheter"."""
        values = [value for name in _NAMES for value in getattr(self, name)]
        return dict(zip(_keys(), values, strict=True))

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
        different = sorted(set(_keys()) ^ values.keys())
        if different:
            raise ValueError(
                "Predictions of classes that are not annotated: missing or unknown "
                f"entries {', '.join(different)}."
            )
        # What is not a whole number is refused by __post_init__.
        numbers = iter(values[key] for key in _keys())
        columns = [tuple(next(numbers) for _ in CLASS_NAMES) for _ in _NAMES]
        return cls(*columns)  # type: ignore[arg-type]


def is_unannotated_key(key: str) -> bool:
    """Tell whether an entry of a message belongs to these counts."""
    return key.startswith(f"{_PREFIX}.")


def _keys() -> list[str]:
    return [f"{_PREFIX}.{name}.{label}" for name in _NAMES for label in CLASS_NAMES]


def _is_possible(numbers: list[int]) -> bool:
    if not all(type(number) is int and number >= 0 for number in numbers):
        return False
    frames, predicted_frames, predicted_pixels, visible_pixels = numbers
    return (
        predicted_frames <= frames
        and predicted_frames <= predicted_pixels <= visible_pixels
        and (predicted_frames > 0) == (predicted_pixels > 0)
        and (frames > 0 or visible_pixels == 0)
    )
