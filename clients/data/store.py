"""Frames that stay on disk until a batch of them is wanted.

A prepared frame is kept as two bytes of grey value and one byte of labels a pixel,
mapped into memory: opening ten thousand costs no more than opening one, and several
processes of one machine share what the operating system has read. What comes out is
a `FrameSet`, equal to the prepared frames but for the rounding of grey values to
1/65535.
"""

import hashlib
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clients.data.cache_entry import OpenEntry
from clients.data.cache_layout import FORMAT, EncodedFrame, digest_of
from clients.data.errors import DataError
from clients.data.frames import FrameSet, frame_numbers

MAX_CLASSES = 7
"""Classes that fit into the byte of a pixel beside `valid`."""

_WHITE = 65535  # grey value 1.0 on disk
_VALID_BIT = 7  # of the labels


class PreparedFrame(NamedTuple):
    """One frame as preprocessing leaves it."""

    image: NDArray[np.float32]  # (size, size), in [0, 1]
    masks: NDArray[np.uint8]  # (classes, size, size) in {0, 1}; 0 if not annotated
    annotated: NDArray[np.bool_]  # (classes,)
    valid: NDArray[np.bool_]  # (size, size), False behind the collimator, in padding
    sequence: int  # number of its sequence, from 0
    patient: int  # token of its patient, 0 to 2^63 - 1


class StoredFrames:
    """Frames of one hospital on disk, or some of them in some order.

    Has what `clients.data.frames.Frames` asks for. Can be pickled: another process
    gets the place and the order, and opens the files itself.
    """

    def __init__(self, entry: OpenEntry, numbers: NDArray[np.int64]) -> None:
        """Look at some frames of an open entry; see `open` and `view`.

        Args:
            entry: Of the cache.
            numbers: int64 (frames,), which of the entry's frames, in order.
        """
        self._entry = entry
        self._numbers = numbers

    @classmethod
    def open(cls, folder: Path) -> "StoredFrames":
        """Open all frames of an entry.

        Args:
            folder: Of the entry, as `clients.data.cache` has written it.

        Returns:
            The frames, none of them read yet.

        Raises:
            MissingEntryError: If there is no entry; a `DataError`.
            DamagedEntryError: If the entry is not whole; a `DataError`.
            DataError: If it may not be read.
        """
        entry = OpenEntry(folder)
        return cls(entry, np.arange(len(entry), dtype=np.int64))

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._numbers)

    @property
    def size(self) -> int:
        """Return the side of a frame, px."""
        return self._entry.size

    @property
    def num_classes(self) -> int:
        """Return the number of classes."""
        return self._entry.num_classes

    @property
    def sequences(self) -> Tensor:
        """Return the number of every frame's sequence, int64 (frames,)."""
        return self._table("sequences")

    @property
    def patients(self) -> Tensor:
        """Return the token of every frame's patient, int64 (frames,)."""
        return self._table("patients")

    @property
    def annotated(self) -> Tensor:
        """Return which classes somebody looked for, bool (frames, classes)."""
        return self._table("annotated")

    def view(self, indices: Tensor) -> "StoredFrames":
        """Choose some of the frames without reading them.

        Args:
            indices: int64 (frames,) of frame numbers, or bool (all frames,).

        Returns:
            These frames in this order, on the same files.

        Raises:
            DataError: If no frame is chosen, or one that does not exist.
        """
        chosen = frame_numbers(indices, len(self)).numpy()
        return StoredFrames(self._entry, self._numbers[chosen])

    def subset(self, indices: Tensor) -> FrameSet:
        """Read some of the frames into memory.

        Args:
            indices: int64 (frames,) of frame numbers, or bool (all frames,).

        Returns:
            Copies of these frames, in this order; sequences keep their numbers.

        Raises:
            DataError: If no frame is chosen, or one that does not exist.
        """
        chosen = self.view(indices)
        grey = self._entry.images[chosen._numbers]
        labels = torch.from_numpy(self._entry.labels[chosen._numbers])[:, None]
        bits = torch.arange(self.num_classes, dtype=torch.uint8)[:, None, None]
        # In place where it can be: fresh memory costs more than the arithmetic.
        masks = (labels >> bits).bitwise_and_(1)
        valid = labels.bitwise_right_shift_(_VALID_BIT).view(torch.bool)
        # No value can be wrong: grey values end at 65535, a bit is 0 or 1, and the
        # small tables were checked when the entry was opened.
        return FrameSet.trusted(
            images=torch.from_numpy(np.divide(grey, _WHITE, dtype=np.float32))[:, None],
            masks=masks,
            annotated=chosen.annotated,
            sequences=chosen.sequences,
            patients=chosen.patients,
            valid=valid,
        )

    def digest(self) -> str:
        """Tell whether two runs saw the same data, without reading any pixel.

        Returns:
            SHA-256, 64 hexadecimal digits, over the digests that the frames got when
            they were stored, in order: the same for the same frames on any machine,
            whatever else is stored with them. Not the digest of a `FrameSet`.
        """
        return digest_of(self._entry.tables["digests"][self._numbers])

    def __getstate__(self) -> dict[str, Any]:
        """Return the place, the order and what is to be found there."""
        return {
            "folder": self._entry.folder,
            "numbers": self._numbers,
            "digest": self._entry.digest,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the files again.

        Raises:
            DataError: If the entry has been removed or replaced meanwhile.
        """
        self._entry = OpenEntry(state["folder"])
        self._numbers = state["numbers"]
        if self._entry.digest != state["digest"]:
            raise DataError(
                "The frames in the frame cache are no longer those that were loaded; "
                "load them again."
            )

    def _table(self, name: str) -> Tensor:
        return torch.from_numpy(self._entry.tables[name][self._numbers])


def encode_frame(frame: PreparedFrame, *, size: int, num_classes: int) -> EncodedFrame:
    """Check a frame and turn it into what lies on disk.

    Args:
        frame: As preprocessing leaves it.
        size: Side that it must have, px.
        num_classes: Number of classes that it must have, 1 to `MAX_CLASSES`.

    Returns:
        Grey values rounded to 1/65535, labels as bits, and a digest.

    Raises:
        DataError: If a shape or a value is not what `PreparedFrame` says.
    """
    _check_shapes(frame, size, num_classes)
    _check_values(frame)
    labels = frame.valid.astype(np.uint8) << np.uint8(_VALID_BIT)
    for number, mask in enumerate(frame.masks):
        labels |= mask.astype(np.uint8) << np.uint8(number)
    image = np.rint(frame.image * np.float32(_WHITE)).astype("<u2")
    sequence, patient = int(frame.sequence), int(frame.patient)
    head = f"endofed frame, format {FORMAT}, {size} px, {num_classes};"
    found = hashlib.sha256(f"{head} {sequence} {patient};".encode())
    for part in (frame.annotated, image, labels):
        found.update(part.tobytes())
    return EncodedFrame(
        image, labels, frame.annotated, sequence, patient, found.digest()
    )


def _check_shapes(frame: PreparedFrame, size: int, num_classes: int) -> None:
    if not 1 <= num_classes <= MAX_CLASSES:
        raise DataError(
            f"A stored frame has 1 to {MAX_CLASSES} classes, got {num_classes}."
        )
    wanted = {
        "image": ("f", (size, size)),
        "masks": ("biu", (num_classes, size, size)),
        "annotated": ("b", (num_classes,)),
        "valid": ("b", (size, size)),
    }
    for name, (kinds, shape) in wanted.items():
        array = getattr(frame, name)
        if array.shape != shape or array.dtype.kind not in kinds:
            raise DataError(
                f"{name} of a prepared frame must be {shape} of kind {kinds}, got "
                f"{array.shape} of {array.dtype}."
            )


def _check_values(frame: PreparedFrame) -> None:
    darkest, brightest = float(frame.image.min()), float(frame.image.max())
    if not (math.isfinite(darkest) and math.isfinite(brightest)):
        raise DataError("A prepared image must be finite, got NaN or infinity.")
    if darkest < 0 or brightest > 1:
        raise DataError("A prepared image must lie in [0, 1], got values outside.")
    if frame.masks.min() < 0 or frame.masks.max() > 1:
        raise DataError("Prepared masks must hold 0 and 1 only, got other values.")
    if frame.masks[~frame.annotated].any():
        raise DataError("Prepared masks must be 0 where a class is not annotated.")
    for name in ("sequence", "patient"):
        if not 0 <= int(getattr(frame, name)) < 2**63:
            raise DataError(
                f"The {name} of a prepared frame must be from 0 to 2^63 - 1."
            )
