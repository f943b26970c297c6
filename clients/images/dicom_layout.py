"""Where the frames lie in the pixel data of a DICOM file.

Found out when the file is opened, without decoding: a file that is cut off, or holds
another number of frames than its header says, is refused before anybody relies on it,
and one frame later costs the reading of one frame [DICOM PS3.5 8.2, A.4].
"""

import itertools
import os
import struct
from typing import BinaryIO, NamedTuple

from pydicom.dataset import Dataset
from pydicom.encaps import parse_basic_offsets, parse_fragments
from pydicom.uid import UID, RLELossless

from clients.data.errors import DataError

Span = tuple[int, int]
"""Offset and length of a piece of the file, bytes."""

_PIXEL_DATA = (0x7FE0, 0x0010)
_TYPES = (b"OB", b"OW", b"UN")
_UNDEFINED_LENGTH = 0xFFFFFFFF
_STREAM_STARTS = (b"\xff\xd8", b"\xff\x4f", b"\x00\x00")
"""First bytes of a JPEG, a JPEG 2000 and a boxed JPEG 2000 stream."""

_NOT_THE_NUMBER = (
    "holds another number of frames than its header says; it may be cut off: export "
    "it again"
)


class PixelElement(NamedTuple):
    """The element that holds the pixels, without its value."""

    vr: str  # "OB", "OW" or "" if the file does not say
    length: int | None  # bytes; None = made of fragments


def read_pixel_element(file: BinaryIO, *, is_little_endian: bool) -> PixelElement:
    """Read tag, type and length of the pixel data.

    Args:
        file: Standing at the element, or at its end if there is none; afterwards at
            the first byte of the value.
        is_little_endian: Of the file.

    Returns:
        The element.

    Raises:
        DataError: If there is none with whole numbers.
    """
    order = "<" if is_little_endian else ">"
    head = file.read(8)
    # Files are not always what their transfer syntax says. Read as a length, which is
    # even, these letters would be odd, so they cannot be one.
    vr = head[4:6].decode("latin-1") if head[4:6] in _TYPES else ""
    head += file.read(4) if vr else b""
    try:
        tag = struct.unpack_from(f"{order}HH", head)
        (length,) = struct.unpack_from(f"{order}L", head, len(head) - 4)
    except struct.error:
        tag, length = (0, 0), 0
    if tag != _PIXEL_DATA or length == 0:
        raise DataError("has no pixel data; is it a report, or is it cut off?")
    return PixelElement(vr, None if length == _UNDEFINED_LENGTH else length)


def locate_frames(
    file: BinaryIO, element: PixelElement, syntax: UID, header: Dataset
) -> tuple[tuple[Span, ...], ...]:
    """Find the pieces that every frame is made of.

    Args:
        file: Standing at the first byte of the value.
        element: As read before.
        syntax: Of the file.
        header: With the image pixel elements.

    Returns:
        For every frame its pieces in order.

    Raises:
        DataError: If the file is cut off or the number of frames does not match.
    """
    num_frames = int(header.get("NumberOfFrames") or 1)
    if (element.length is None) != syntax.is_encapsulated:
        raise DataError(
            "contradicts itself on whether its pixels are compressed; export it again"
        )
    if element.length is not None:
        length = min(element.length, _size(file) - file.tell())
        return _plain_frames(file.tell(), length, num_frames, header)
    basic = parse_basic_offsets(file)
    _, positions = parse_fragments(file)
    pieces = _pieces(file, positions)
    if len(pieces) == num_frames:
        return tuple((piece,) for piece in pieces)
    if not pieces or syntax == RLELossless:  # the latter has one fragment a frame
        raise DataError(_NOT_THE_NUMBER)
    starts = _by_content(file, pieces) or [0]
    if len(starts) != num_frames != 1:
        starts = _by_table(pieces, basic, header)
    if len(starts) != num_frames or starts[0] != 0:
        raise DataError(_NOT_THE_NUMBER)
    edges = itertools.pairwise([*starts, len(pieces)])
    return tuple(tuple(pieces[first:last]) for first, last in edges)


def _size(file: BinaryIO) -> int:
    position = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(position)
    return size


def _plain_frames(
    start: int, length: int, num_frames: int, header: Dataset
) -> tuple[tuple[Span, ...], ...]:
    samples = header.Rows * header.Columns * header.SamplesPerPixel
    if header.PhotometricInterpretation == "YBR_FULL_422":
        samples = samples // 3 * 2  # two pixels share their colour [PS3.3 C.7.6.3.1.2]
    size = samples * header.BitsAllocated // 8
    if not num_frames * size <= length < (num_frames + 1) * size:
        raise DataError(_NOT_THE_NUMBER)
    # Words of big endian files hold bytes in pairs, so an odd frame needs one more.
    padded = size + 1 if size % 2 and num_frames * size < length else size
    return tuple(((start + index * size, padded),) for index in range(num_frames))


def _pieces(file: BinaryIO, positions: list[int]) -> list[Span]:
    size, pieces = _size(file), []
    for position in positions:
        file.seek(position + 4)
        (length,) = struct.unpack("<L", file.read(4))
        if position + 8 + length > size:
            raise DataError("is cut off within its pixel data; export it again")
        pieces.append((position + 8, length))
    return pieces


def _by_table(pieces: list[Span], basic: list[int], header: Dataset) -> list[int]:
    """Return the first fragment of every frame by an offset table, [] without one."""
    table = header.get("ExtendedOffsetTable")
    offsets = list(struct.unpack(f"<{len(table) // 8}Q", table)) if table else basic
    numbers = {place - pieces[0][0]: number for number, (place, _) in enumerate(pieces)}
    return [numbers[offset] for offset in offsets if offset in numbers]


def _by_content(file: BinaryIO, pieces: list[Span]) -> list[int]:
    """Return the fragments that begin like a compressed image."""
    starts = []
    for number, (offset, _) in enumerate(pieces):
        file.seek(offset)
        if file.read(2) in _STREAM_STARTS:
            starts.append(number)
    return starts
