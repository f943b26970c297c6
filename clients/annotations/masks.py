"""Finished masks: images and arrays of numbers.

Three ways to store them, by what the site declares and what the file is:

- A file for each class: whatever is not 0 is the class.
- One image (PNG, TIFF) or array of bool (NPY) for all: if the site declares one class,
  whatever is not 0 is that class. With several, bit k of an image marks the k-th one:
  1 = first, 2 = second, 3 = both.
- One array of numbers (NPY) for all, as CathAction has them: always 0 = background,
  1 = catheter, 2 = guidewire, 3 = both, whatever is declared; classes that the site
  does not declare are left out.

TIFF and NPY files may hold a mask for each frame of a sequence.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients.annotations.annotation import LabelMap
from clients.annotations.mask_pixels import StoredMask, read_mask
from clients.data.errors import DataError
from models.classes import CLASS_NAMES


@dataclass(frozen=True)
class MaskFiles:
    """An `Annotation` of finished masks: read when asked for.

    Attributes:
        paths: Class name -> its file, or "" -> one file for all classes.
        labels: What the site declares; a file for each class must be there for all
            declared ones, empty where the class is not in the frame. Files of other
            classes are left unread.
        index: Frame within a file with several, from 0; None if there is only one.
    """

    paths: Mapping[str, Path] = field(repr=False)
    labels: LabelMap = field(repr=False)
    index: int | None = None

    def layers(
        self, height: int, width: int, spacing_mm: float | None
    ) -> dict[str, NDArray[np.uint8]]:
        """Read the masks of a frame.

        Args:
            height: Of the frame, px.
            width: Of the frame, px.
            spacing_mm: Not needed here.

        Returns:
            Class name -> (height, width) in {0, 1}, for every class that the site
            declares; all zeros where the class is not in the frame.

        Raises:
            DataError: If a file is missing, damaged or no mask, holds unknown classes
                or has another size than the frame.
        """
        if "" in self.paths:
            stored = self._read(self.paths[""], height, width)
            found = _split(stored, self.labels.classes)
        else:
            self._check_complete()
            found = {
                name: self._read(self.paths[name], height, width).pixels != 0
                for name in self.labels.classes
            }
        return {name: layer.astype(np.uint8) for name, layer in found.items()}

    def _check_complete(self) -> None:
        num_missing = sum(name not in self.paths for name in self.labels.classes)
        if num_missing:
            raise DataError(
                f"{num_missing} of {len(self.labels.classes)} declared classes have no "
                "mask file; store an empty mask where a class is not in the frame, or "
                "declare only what was annotated in `classes`"
            )

    def _read(self, path: Path, height: int, width: int) -> StoredMask:
        stored = read_mask(path, self.index)
        shape = stored.pixels.shape
        if shape != (height, width):
            raise DataError(
                f"the mask has {shape[1]}x{shape[0]} px, its frame {width}x{height} "
                "px; export the mask in the frame's own size"
            )
        return stored


def _split(
    stored: StoredMask, classes: tuple[str, ...]
) -> dict[str, NDArray[np.bool_]]:
    """Return a layer for each declared class from one file for all."""
    pixels, is_array = stored
    is_flag = pixels.dtype == np.bool_
    if len(classes) == 1 and (is_flag or not is_array):
        return {classes[0]: pixels != 0}
    if is_flag:
        raise DataError(
            f"the mask is an array of true and false, but {len(classes)} classes are "
            "declared; store numbers, or a file for each class"
        )
    bits = CLASS_NAMES if is_array else classes
    known = (pixels >= 0) & (pixels < 2 ** len(bits))
    if not known.all():
        num_unknown = len(np.unique(pixels[~known]))
        meaning = ", ".join(f"{2**k} = {name}" for k, name in enumerate(bits))
        raise DataError(
            f"unknown class: the mask holds {num_unknown} unexpected value(s); it "
            f"needs 0 = background, {meaning}, sums where they overlap; if it shows "
            "one class only, declare just that one in `classes` and store an image or "
            "an array of bool"
        )
    codes = pixels.astype(np.uint8)
    return {name: (codes >> bits.index(name)) & 1 == 1 for name in classes}
