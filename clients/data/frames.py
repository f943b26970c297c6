"""Frames with their masks, as tensors that are known to be right.

Everything that reads or makes images ends in a `FrameSet`; everything that trains or
tests begins with one. It knows numbers of sequences, never names of patients or files.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from clients.data.errors import DataError


@dataclass(frozen=True)
class FrameSet:
    """Labelled frames of one hospital.

    Attributes:
        images: float32 (frames, 1, size, size), values in [0, 1].
        masks: uint8 (frames, classes, size, size) in {0, 1}; 0 where not annotated.
        annotated: bool (frames, classes); False = nobody has looked for this class.
        sequences: int64 (frames,), number of the frame's patient or sequence.

    Raises:
        DataError: If a shape, a type or a value is not as above.
    """

    images: Tensor
    masks: Tensor
    annotated: Tensor
    sequences: Tensor

    def __post_init__(self) -> None:
        """Refuse tensors that do not fit each other or the ranges above."""
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
        chosen = (
            torch.arange(len(self))[indices] if _is_flags(indices, self) else indices
        )
        if chosen.dtype != torch.int64 or chosen.ndim != 1:
            raise DataError(
                "Frames are chosen by a list of int64 numbers or one bool per frame, "
                f"got {chosen.dtype} with {chosen.ndim} axes."
            )
        if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < len(self):
            raise DataError(f"Frame numbers must be from 0 to {len(self) - 1}.")
        return FrameSet(
            images=self.images[chosen],
            masks=self.masks[chosen],
            annotated=self.annotated[chosen],
            sequences=self.sequences[chosen],
        )

    def digest(self) -> str:
        """Tell whether two runs saw the same data.

        Returns:
            SHA-256, 64 hexadecimal digits, over names, types, shapes and values of all
            tensors. It cannot be turned back into an image.
        """
        found = hashlib.sha256()
        for name in ("images", "masks", "annotated", "sequences"):
            tensor: Tensor = getattr(self, name)
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
            found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()


def _is_flags(indices: Tensor, frames: FrameSet) -> bool:
    return indices.dtype == torch.bool and indices.shape == (len(frames),)


def _check_types(frames: FrameSet) -> None:
    wanted = {
        "images": torch.float32,
        "masks": torch.uint8,
        "annotated": torch.bool,
        "sequences": torch.int64,
    }
    for name, dtype in wanted.items():
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
    for name, shape in (("annotated", (count, classes)), ("sequences", (count,))):
        came = tuple(getattr(frames, name).shape)
        if came != shape:
            raise DataError(f"{name} must be {shape}, got {came}.")


def _check_values(frames: FrameSet) -> None:
    if not bool(torch.isfinite(frames.images).all()):
        raise DataError("images must be finite, got NaN or infinity.")
    if float(frames.images.min()) < 0 or float(frames.images.max()) > 1:
        raise DataError("images must lie in [0, 1], got values outside.")
    if int(frames.masks.max()) > 1:
        raise DataError("masks must hold 0 and 1 only, got larger values.")
    if bool(frames.masks.amax(dim=(2, 3))[~frames.annotated].any()):
        raise DataError("masks must be 0 where a class is not annotated.")
    if int(frames.sequences.min()) < 0:
        raise DataError("sequences must be numbered from 0, got negative numbers.")
