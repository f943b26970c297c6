"""Finished masks kept small: as the run lengths of COCO.

A COCO file with a mask for each of ten thousand frames is small on disk and would
be gigabytes as pixels, so masks stay encoded until they are drawn. Run lengths come
from strangers and pycocotools decodes them in C, so they are counted here first.

Format: lengths of runs of 0 and 1 in turn, 0 first, column by column [Lin et al.,
"Microsoft COCO", ECCV 2014; cocodataset.org/#format-data]. Compressed: each length,
from the fourth on less the one two before, as signed groups of 5 bits in the
characters "0" to "o", lowest group first, bit 5 set where another group follows.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from clients.data.errors import DataError

MAX_GROUPS = 7
"""Of 5 bits: enough for any length that fits 32 bits, as pycocotools keeps them."""
DIGITS, SIGN, CONTINUES = 0x1F, 0x10, 0x20
"""Bits of a group; the sign is that of the last group of a number."""
DAMAGED_CODE = "the run lengths of an annotated mask are damaged; export it again"
WRONG_TOTAL = (
    "the run lengths of an annotated mask must be whole numbers that sum to the size "
    "of its image, got others; is the file damaged?"
)


@dataclass(frozen=True)
class RunLengths:
    """A mask, or a part of one.

    Build it with one of the functions below, which check what they are given.
    """

    top: int  # px, of its first row within the frame
    left: int
    height: int  # px, of what is encoded
    width: int
    code: bytes = field(repr=False)  # compressed run lengths
    by_rows: bool = False  # they go row by row, not column by column

    def draw_on(self, canvas: NDArray[np.uint8]) -> None:
        """Set the pixels of the mask to 1.

        Args:
            canvas: (height, width) of the whole frame, changed in place.

        Raises:
            DataError: If the mask reaches beyond the canvas.
        """
        bottom, right = self.top + self.height, self.left + self.width
        if min(self.top, self.left) < 0 or (
            bottom > canvas.shape[0] or right > canvas.shape[1]
        ):
            raise DataError("an annotated mask reaches beyond its frame")
        size = [self.height, self.width][:: -1 if self.by_rows else 1]
        with warnings.catch_warnings():
            # pycocotools 2.0.11 has not yet caught up with NumPy 2.
            warnings.simplefilter("ignore", DeprecationWarning)
            mask = coco_mask.decode({"size": size, "counts": self.code})
        part = canvas[self.top : bottom, self.left : right]
        part |= mask.T if self.by_rows else mask


def encode_mask(mask: NDArray[np.bool_], *, top: int, left: int) -> RunLengths:
    """Encode pixels.

    Args:
        mask: (height, width).
        top: Row of the frame where the mask begins, px.
        left: Column of the frame where it begins, px.

    Returns:
        The same mask, small.
    """
    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    height, width = mask.shape
    return RunLengths(top, left, height, width, encoded["counts"])


def from_counts(counts: Sequence[object], height: int, width: int) -> RunLengths:
    """Encode COCO's uncompressed run lengths of a whole frame.

    Args:
        counts: Lengths of runs, column by column.
        height: Of the frame, px.
        width: Of the frame, px.

    Returns:
        The mask.

    Raises:
        DataError: If the lengths are no whole numbers that sum to the frame's size.
    """
    total = height * width
    is_plain = all(type(count) is int and 0 <= count <= total for count in counts)
    if not is_plain or sum(counts) != total:  # type: ignore[arg-type]  # ints by now
        raise DataError(WRONG_TOTAL)
    size = [height, width]
    encoded = coco_mask.frPyObjects({"size": size, "counts": counts}, *size)
    return RunLengths(0, 0, height, width, encoded["counts"])


def from_rows(
    counts: Sequence[object], height: int, width: int, *, top: int, left: int
) -> RunLengths:
    """Encode run lengths that go row by row, as CVAT writes them.

    Args:
        counts: Lengths of runs, row by row, 0 first.
        height: Of the box that holds the mask, px.
        width: Of the box, px.
        top: Row of the frame where the box begins, px.
        left: Column of the frame where it begins, px.

    Returns:
        The mask.

    Raises:
        DataError: If the lengths are no whole numbers that sum to the box's size.
    """
    columns = from_counts(counts, width, height)  # of the transposed mask
    return RunLengths(top, left, height, width, columns.code, by_rows=True)


def from_code(code: str, height: int, width: int) -> RunLengths:
    """Take COCO's compressed run lengths of a whole frame.

    Args:
        code: As COCO files hold it.
        height: Of the frame, px.
        width: Of the frame, px.

    Returns:
        The mask.

    Raises:
        DataError: If the code is damaged or does not sum to the frame's size.
    """
    try:
        stored = code.encode("ascii")
    except UnicodeEncodeError:
        raise DataError(DAMAGED_CODE) from None
    counts, total = _decompress(stored), height * width
    if counts.min() < 0 or counts.max() > total or counts.sum() != total:
        raise DataError(WRONG_TOTAL)
    return RunLengths(0, 0, height, width, stored)


def _decompress(code: bytes) -> NDArray[np.int64]:
    """Return the run lengths; a damaged code may give impossible ones."""
    groups = np.frombuffer(code, np.uint8).astype(np.int64) - ord("0")
    is_last = groups & CONTINUES == 0
    if not len(groups) or groups.min() < 0 or groups.max() >= 64 or not is_last[-1]:
        raise DataError(DAMAGED_CODE)
    ends = np.flatnonzero(is_last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    num_groups = ends - starts + 1
    if num_groups.max() > MAX_GROUPS:
        raise DataError(DAMAGED_CODE)
    places = np.arange(len(groups)) - np.repeat(starts, num_groups)
    counts = np.add.reduceat((groups & DIGITS) << (5 * places), starts)
    is_negative = groups[ends] & SIGN != 0
    counts -= np.where(is_negative, 1 << (5 * num_groups), 0)
    counts[1::2] = np.cumsum(counts[1::2])
    counts[2::2] = np.cumsum(counts[2::2])
    return counts
