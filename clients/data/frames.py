"""Frames with their masks, as tensors that are known to be right.

Everything that reads or makes images ends in a `FrameSet`, or in the frames of
`clients.data.store` that give one for every batch; everything that trains or tests
begins with `Frames`. They know numbers of sequences, never names of patients or files.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from clients.data.errors import DataError

TENSORS = {
    "images": torch.float32,
    "masks": torch.uint8,
    "annotated": torch.bool,
    "sequences": torch.int64,
    "patients": torch.int64,
    "valid": torch.bool,
}
"""Every tensor of a `FrameSet` and its type."""


class Frames(Protocol):
    """Labelled frames of one hospital, in memory or on disk.

    Splitting needs `sequences`, `patients`, `annotated` and `view`; training and
    testing read batches through `subset`.
    """

    def __len__(self) -> int:
        """Return the number of frames."""
        ...

    @property
    def sequences(self) -> Tensor:
        """Return the number of every frame's sequence, int64 (frames,)."""
        ...

    @property
    def patients(self) -> Tensor:
        """Return the token of every frame's patient, int64 (frames,)."""
        ...

    @property
    def annotated(self) -> Tensor:
        """Return which classes somebody looked for, bool (frames, classes)."""
        ...

    def subset(self, indices: Tensor) -> "FrameSet":
        """Read some of the frames into memory; see `FrameSet.subset`."""
        ...

    def view(self, indices: Tensor) -> "Frames":
        """Choose some of the frames for later; see `FrameSet.subset`."""
        ...

    def digest(self) -> str:
        """Tell whether two runs saw the same data, as 64 hexadecimal digits."""
        ...


@dataclass(frozen=True)
class FrameSet:
    """Labelled frames of one hospital.

    Attributes:
        images: float32 (frames, 1, size, size), values in [0, 1].
        masks: uint8 (frames, classes, size, size) in {0, 1}; 0 where not annotated.
        annotated: bool (frames, classes); False = nobody has looked for this class.
        sequences: int64 (frames,), number of the frame's sequence, from 0.
        patients: int64 (frames,), >= 0, a token of the frame's patient that stays the
            same when data are added; never shown. Not given = one patient a sequence.
        valid: bool (frames, 1, size, size), False behind the collimator and in padding.
            Not given = valid everywhere.

    Raises:
        DataError: If a shape, a type or a value is not as above.
    """

    images: Tensor
    masks: Tensor
    annotated: Tensor
    sequences: Tensor
    patients: Tensor = None  # type: ignore[assignment]  # filled in below
    valid: Tensor = None  # type: ignore[assignment]  # filled in below

    def __post_init__(self) -> None:
        """Fill in what was not given; refuse tensors that do not fit the above."""
        if self.patients is None:
            object.__setattr__(self, "patients", self.sequences)
        if self.valid is None:
            everywhere = torch.ones_like(self.images, dtype=torch.bool)
            object.__setattr__(self, "valid", everywhere)
        _check_types(self)
        _check_shapes(self)
        _check_values(self)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.images)

    def subset(self, indices: Tensor) -> "FrameSet":
        """Take some of the frames.

        Args:
            indices: int64 (frames,) of frame numbers, or bool (all frames,).

        Returns:
            Copies of these frames, in this order; sequences keep their numbers.

        Raises:
            DataError: If no frame is chosen, or one that does not exist.
        """
        chosen = frame_numbers(indices, len(self))
        return FrameSet.trusted(
            **{name: getattr(self, name)[chosen] for name in TENSORS}
        )

    def view(self, indices: Tensor) -> "FrameSet":
        """Do what `subset` does: in memory there is nothing to put off."""
        return self.subset(indices)

    @classmethod
    def trusted(cls, **tensors: Tensor) -> "FrameSet":
        """Put together what is known to hold the right values.

        Looking at every pixel of a batch costs more than reading it, so frames that
        were looked at once are not looked at again.

        Args:
            **tensors: All six tensors of a set, out of a set that was checked.

        Returns:
            The set, after a look at types and shapes only.

        Raises:
            DataError: If a type or a shape is not right.
        """
        frames = object.__new__(cls)
        for name in TENSORS:
            object.__setattr__(frames, name, tensors[name])
        _check_types(frames)
        _check_shapes(frames)
        return frames

    def digest(self) -> str:
        """Tell whether two runs saw the same data.

        Returns:
            SHA-256, 64 hexadecimal digits, over names, types, shapes and values of all
            tensors. It cannot be turned back into an image.
        """
        found = hashlib.sha256()
        for name in TENSORS:
            tensor: Tensor = getattr(self, name)
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
            found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()


def frame_numbers(indices: Tensor, count: int) -> Tensor:
    """Read a choice of frames.

    Args:
        indices: int64 (frames,) of frame numbers, or bool (count,).
        count: Number of frames to choose from.

    Returns:
        int64 (frames,), at least one, each from 0 to count - 1.

    Raises:
        DataError: If no frame is chosen, or one that does not exist.
    """
    is_flags = indices.dtype == torch.bool and indices.shape == (count,)
    chosen = torch.arange(count)[indices] if is_flags else indices
    if chosen.dtype != torch.int64 or chosen.ndim != 1:
        raise DataError(
            "Frames are chosen by a list of int64 numbers or one bool per frame, "
            f"got {chosen.dtype} with {chosen.ndim} axes."
        )
    if len(chosen) == 0:
        raise DataError("At least one frame must be chosen, got none.")
    if not 0 <= int(chosen.min()) <= int(chosen.max()) < count:
        raise DataError(f"Frame numbers must be from 0 to {count - 1}.")
    return chosen


def join_frames(parts: Sequence[FrameSet]) -> FrameSet:
    """Put the frames of several sources of one hospital together.

    Args:
        parts: One or more, of one size and with the same classes.

    Returns:
        All frames in order; sequences are renumbered, so that those of different
        parts differ.

    Raises:
        DataError: If there is no part, or sizes or classes differ.
    """
    if not parts:
        raise DataError("At least one set of frames is needed, got none.")
    shapes = {(*part.masks.shape[1:],) for part in parts}
    if len(shapes) > 1:
        raise DataError(
            f"All frames need one size and the same classes, got {sorted(shapes)}."
        )
    joined = {
        name: torch.cat([getattr(part, name) for part in parts]) for name in TENSORS
    }
    first, numbers = 0, []
    for part in parts:
        _, inverse = torch.unique(part.sequences, return_inverse=True)
        numbers.append(inverse + first)
        first += int(inverse.max()) + 1
    return FrameSet(**{**joined, "sequences": torch.cat(numbers)})


def _check_types(frames: FrameSet) -> None:
    for name, dtype in TENSORS.items():
        tensor = getattr(frames, name)
        if not isinstance(tensor, Tensor) or tensor.dtype != dtype:
            came = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise DataError(f"{name} must be a tensor of {dtype}, got {came}.")


def _check_shapes(frames: FrameSet) -> None:
    images, masks = tuple(frames.images.shape), tuple(frames.masks.shape)
    if len(images) != 4 or images[1] != 1 or images[2] != images[3]:
        raise DataError(f"images must be (frames, 1, size, size), got {images}.")
    if images[0] == 0 or images[2] == 0:
        raise DataError(f"At least one frame of one pixel is needed, got {images}.")
    count = images[0]
    classes = masks[1] if len(masks) == 4 else 0
    if classes == 0 or masks != (count, classes, *images[2:]):
        raise DataError(
            f"masks must be ({count}, classes, {images[2]}, {images[3]}), got {masks}."
        )
    wanted = {
        "annotated": (count, classes),
        "sequences": (count,),
        "patients": (count,),
        "valid": images,
    }
    for name, shape in wanted.items():
        came = tuple(getattr(frames, name).shape)
        if came != shape:
            raise DataError(f"{name} must be {shape}, got {came}.")


def _check_values(frames: FrameSet) -> None:
    # One pass instead of three: NaN and infinity come through to the extremes.
    darkest, brightest = (float(one) for one in torch.aminmax(frames.images))
    if not (math.isfinite(darkest) and math.isfinite(brightest)):
        raise DataError("images must be finite, got NaN or infinity.")
    if darkest < 0 or brightest > 1:
        raise DataError("images must lie in [0, 1], got values outside.")
    if int(frames.masks.max()) > 1:
        raise DataError("masks must hold 0 and 1 only, got larger values.")
    if bool(frames.masks.amax(dim=(2, 3))[~frames.annotated].any()):
        raise DataError("masks must be 0 where a class is not annotated.")
    for name in ("sequences", "patients"):
        if int(getattr(frames, name).min()) < 0:
            raise DataError(f"{name} must be numbers from 0, got negative ones.")
