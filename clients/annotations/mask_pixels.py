"""Numbers out of mask files: PNG, TIFF and NPY, told apart by their first bytes.

Formats that lose detail, such as JPEG, are refused: they blur a wire of 2 px into its
surroundings. Images have one channel, or several equal ones. Nothing is scaled, and
what the numbers mean is decided in `clients.annotations.masks`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from clients.data.errors import DataError

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
"""All that an image needs [ISO/IEC 15948, 5.6]."""
TIFF_MAGICS = (b"II*\0", b"MM\0*")
NPY_MAGIC = b"\x93NUMPY"


class StoredMask(NamedTuple):
    """A mask as its file holds it."""

    pixels: NDArray[np.number]  # (height, width), bool, or finite whole numbers
    is_array: bool  # of NPY, no image


def read_mask(path: Path, index: int | None) -> StoredMask:
    """Read one mask.

    Args:
        path: Of a PNG, TIFF or NPY file; its suffix does not matter.
        index: Frame within a file with several, from 0; None if there is only one.

    Returns:
        Its numbers.

    Raises:
        DataError: If the file cannot be opened or is damaged, holds no numbers, NaN,
            fractions or colours, or has not this frame.
    """
    try:
        with path.open("rb") as stream:
            magic = stream.read(8)
        if magic.startswith(NPY_MAGIC):
            return StoredMask(_to_whole(_read_array(path, index)), is_array=True)
        if magic == PNG_MAGIC or magic[:4] in TIFF_MAGICS:
            pixels = decode_mask(path.read_bytes(), index)
            return StoredMask(_to_whole(pixels), is_array=False)
    except OSError:
        raise DataError(
            "a mask file cannot be opened; check that it is there and that this "
            "program's user may read it"
        ) from None
    raise DataError("a mask file is no PNG, TIFF or NPY; store it as one of these")


def decode_mask(stored: bytes, index: int | None) -> NDArray[np.number]:
    """Decode one mask of a PNG or TIFF.

    Args:
        stored: The file.
        index: Frame within a file with several, from 0; None if there is only one.

    Returns:
        (height, width), any real numbers.

    Raises:
        DataError: If it is damaged, has not this frame, or is coloured.
    """
    if stored.startswith(PNG_MAGIC):
        stored = _only_pixels(stored)
    first = index or 0
    wanted = (first, first + (2 if index is None else 1))
    with _quiet_decoder():
        try:
            _, pages = cv2.imdecodemulti(
                np.frombuffer(stored, np.uint8), cv2.IMREAD_UNCHANGED, range=wanted
            )
        except cv2.error:
            pages = ()
    if not pages:
        raise DataError(
            f"a mask image is damaged{' or has too few frames' if index else ''}; "
            "export it again"
        )
    if len(pages) > 1:
        raise DataError(
            "a mask image has several frames, but its image only one; store a mask "
            "for each image"
        )
    return _to_grey(pages[0])


@contextmanager
def _quiet_decoder() -> Iterator[None]:
    """Keep OpenCV from writing to the terminal what is wrong with a file."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _only_pixels(stored: bytes) -> bytes:
    """Drop the remarks of a PNG: libpng prints of damaged ones what they hold."""
    kept = [PNG_MAGIC]
    start = len(PNG_MAGIC)
    while start < len(stored):
        length = int.from_bytes(stored[start : start + 4], "big")
        end = start + length + 12  # with its length, its kind and its check sum
        if stored[start + 4 : start + 8] in PNG_CHUNKS:
            kept.append(stored[start:end])
        start = end
    return b"".join(kept)


def _to_grey(pixels: NDArray[np.number]) -> NDArray[np.number]:
    if pixels.ndim == 2:
        return pixels
    grey = pixels[..., 0]
    is_grey = bool((pixels[..., :3] == grey[..., None]).all())
    opaque = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1.0
    if not is_grey or not (pixels[..., 3:] == opaque).all():
        raise DataError(
            f"a mask image has {pixels.shape[2]} different channels, needs a single "
            "one with the numbers of the classes; store it in grey"
        )
    return grey


def _read_array(path: Path, index: int | None) -> NDArray[np.number]:
    """Read one frame; the others stay on disk."""
    try:
        stored = np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - a damaged header, read as Python, fails anyhow
        raise DataError(
            "a mask array is damaged or holds other things than numbers; store it "
            "again with numpy.save"
        ) from None
    if stored.dtype.kind not in "buif":
        raise DataError("a mask array must hold numbers, got something else")
    if stored.ndim == 3 and stored.shape[2] == 1:
        stored = stored[..., 0]
    frames = stored[None] if stored.ndim == 2 else stored
    if frames.ndim != 3:
        raise DataError(
            f"a mask array has {stored.ndim} axes, needs height and width, after the "
            "number of frames if it holds several"
        )
    if index is None and len(frames) != 1:
        raise DataError(
            f"a mask array has {len(frames)} frames, but its image only one; store a "
            "mask for each image"
        )
    if index is not None and index >= len(frames):
        raise DataError(
            f"a mask array has {len(frames)} frame(s), but its sequence more; store "
            "one for each frame"
        )
    return np.array(frames[index or 0])


def _to_whole(pixels: NDArray[np.number]) -> NDArray[np.number]:
    if pixels.dtype.kind == "f":
        if not np.isfinite(pixels).all():
            raise DataError("a mask holds NaN or infinity, needs whole numbers")
        if (pixels != np.rint(pixels)).any():
            raise DataError(
                "a mask holds fractions, needs whole numbers; a mask of probabilities "
                "must be cut at a threshold first"
            )
    return pixels
