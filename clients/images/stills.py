"""Grey frames out of still images (PNG, JPEG, TIFF) and NumPy arrays.

Opening reads the header only. Grey comes as it is stored, 8 or 16 bit; colour becomes
its luminance and opacity is ignored. The pages of a TIFF are frames. Pixels are taken
as they lie in the file: a rotation in the metadata of a photograph is not applied.

Arrays are (height, width), (frames, height, width), or either with a last axis of 1
(grey), 3 or 4 (colour, red first). A last axis of 3 or 4 is always colour, as no X-ray
image is that narrow; colour in the first axis is taken for frames. Arrays of Python
objects are refused and never unpickled.
"""

import struct
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clients.data.errors import DataError
from clients.images.colour import COLOUR_CHANNELS, luminance
from clients.images.limits import check_index, check_size
from clients.images.silence import without_details
from clients.images.source import Identity, SourceFacts

FORMATS = ("PNG", "JPEG", "TIFF")

_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # tags [TIFF 6.0 section 8]
_WHITE_IS_ZERO = 0
_PNG_SIGNATURE, _PNG_DEPTH_AT = b"\x89PNG\r\n\x1a\n", 24  # [ISO/IEC 15948 5.2, 11.2.2]
_NUMBERS = "iuf"  # signed, unsigned and floating-point kinds of NumPy


class StillImage:
    """The frames of one PNG, JPEG or TIFF file; an `ImageSource`.

    Args:
        path: Of the file.

    Attributes:
        facts: What the file says of its pixels.
        identity: None; such files do not tell.

    Raises:
        DataError: If it is none of these or its pages differ in size.
    """

    facts: SourceFacts
    identity: Identity | None = None

    def __init__(self, path: Path) -> None:
        """Read the header; nothing is decoded."""
        self._path = path
        with (
            without_details("cannot be read as a PNG, JPEG or TIFF image"),
            path.open("rb") as file,
        ):
            self._read_header(file)

    def read_frame(self, index: int) -> NDArray[np.number]:
        """Decode one frame.

        Args:
            index: From 0 to `facts.num_frames` - 1.

        Returns:
            (height, width) grey values, larger = brighter, as stored or, out of colour,
            float32.

        Raises:
            DataError: If the frame does not exist or is damaged.
        """
        check_index(index, self.facts.num_frames)
        with without_details("has a frame that cannot be decoded; export it again"):
            pixels = self._decode(index)
            # OpenCV turns 8-bit TIFFs with white as zero around, but no others.
            if self._is_inverted and pixels.itemsize > 1:
                pixels = np.iinfo(pixels.dtype).max - pixels
            return _as_frame(pixels, self.facts, order="BGR")

    def _read_header(self, file: BinaryIO) -> None:
        with Image.open(file, formats=FORMATS) as image:
            is_tiff = image.format == "TIFF"
            count = image.n_frames if is_tiff else 1
            size, bits, inverted = image.size, 8, False
            if is_tiff:
                bits = max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,)))
                inverted = image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
            elif image.format == "PNG":
                file.seek(_PNG_DEPTH_AT)
                bits = file.read(1)[0]
            for page in range(1, count):
                image.seek(page)
                if image.size != size:
                    raise DataError(
                        "has pages of different sizes; save one file per image"
                    )
        check_size(size[1], size[0], count)
        self._is_tiff, self._is_inverted = is_tiff, inverted
        self.facts = SourceFacts(
            num_frames=count, height=size[1], width=size[0], bits=bits
        )

    def _decode(self, index: int) -> NDArray[np.number]:
        """Decode from memory: OpenCV prints the path of a bad file."""
        if self._is_tiff:
            stored = np.asarray(np.memmap(self._path, np.uint8, "r"))
            found, pages = cv2.imdecodemulti(
                stored, cv2.IMREAD_UNCHANGED, range=(index, index + 1)
            )
            pixels = pages[0] if found else None
        else:
            stored = np.frombuffer(_bare_png(self._path.read_bytes()), np.uint8)
            pixels = cv2.imdecode(stored, cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise DataError("is damaged or cut off; export it again")
        return pixels


class ArrayFile:
    """The frames of one NPY file, memory-mapped; an `ImageSource`.

    Args:
        path: Of the file.

    Attributes:
        facts: What the file says of its pixels.
        identity: None; such files do not tell.

    Raises:
        DataError: If it is no array of integers or floating-point numbers with two to
            four axes.
    """

    facts: SourceFacts
    identity: Identity | None = None

    def __init__(self, path: Path) -> None:
        """Read the header; no value is touched."""
        self._path = path
        with without_details(
            "cannot be read as an array of numbers (.npy); save it with numpy.save, "
            "as numbers and not as Python objects"
        ):
            array = self._map()
        if array.dtype.kind not in _NUMBERS:
            raise DataError("holds no integers or real numbers; save grey values")
        shape = array.shape
        colour = array.ndim in (3, 4) and shape[-1] in (1, *COLOUR_CHANNELS)
        self._frame_axes = 3 if colour else 2
        if array.ndim not in (self._frame_axes, self._frame_axes + 1):
            raise DataError(
                f"has {array.ndim} axes; save (height, width) or (frames, height, "
                "width), with a last axis of 3 or 4 for colour"
            )
        height, width = shape[-3:-1] if colour else shape[-2:]
        count = shape[0] if array.ndim > self._frame_axes else 1
        check_size(height, width, count)
        self.facts = SourceFacts(
            num_frames=count,
            height=height,
            width=width,
            bits=min(64, 8 * array.itemsize),
        )

    def read_frame(self, index: int) -> NDArray[np.number]:
        """Read one frame.

        Args:
            index: From 0 to `facts.num_frames` - 1.

        Returns:
            (height, width) grey values, larger = brighter, as stored or, out of colour,
            float32.

        Raises:
            DataError: If the frame does not exist, holds a value that is not finite, or
                the file has changed.
        """
        check_index(index, self.facts.num_frames)
        with without_details("has a frame that cannot be read; save it again"):
            array = self._map()
            frame = array[index] if array.ndim > self._frame_axes else array
            pixels = np.array(frame, frame.dtype.newbyteorder("="))  # now in memory
            return _as_frame(pixels, self.facts, order="RGB")

    def _map(self) -> NDArray[np.number]:
        array = np.load(self._path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise DataError("is an archive of arrays; save one array per file (.npy)")
        return array


def _as_frame(
    pixels: NDArray[np.number], facts: SourceFacts, *, order: str
) -> NDArray[np.number]:
    if pixels.shape[:2] != (facts.height, facts.width):
        raise DataError("has a frame of another size than its header says")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise DataError("has a frame with values that are not finite (NaN or infinity)")
    if pixels.ndim == 3:
        return (
            pixels[..., 0] if pixels.shape[2] == 1 else luminance(pixels, order=order)
        )
    return pixels


def _bare_png(stored: bytes) -> bytes:
    """Leave out the chunks of a PNG that carry no pixels; others stay as they are.

    libpng prints what it dislikes in them, names included, on the standard error.
    """
    if not stored.startswith(_PNG_SIGNATURE):
        return stored
    kept, position = [_PNG_SIGNATURE], len(_PNG_SIGNATURE)
    while position + 12 <= len(stored):
        (length,) = struct.unpack_from(">I", stored, position)
        chunk = stored[position : position + 12 + length]
        if chunk[4:5].isupper() or chunk[4:8] == b"tRNS":
            kept.append(chunk)
        position += len(chunk)
    return b"".join(kept)
