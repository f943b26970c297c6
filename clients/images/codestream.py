"""What a compressed frame says of itself: size, depth and channels.

JPEG and JPEG-LS say it in a frame header, any SOF marker [ITU-T T.81 B.2.2, T.87
C.2.2]; JPEG 2000 in its SIZ segment right at the start [ITU-T T.800 A.5.1]. Decoders
that trust these headers can take the process down with them, so they are read here
first, and with them the order of the segments.
"""

import struct
from typing import NamedTuple

from clients.data.errors import DataError

_START_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_START_OF_SCAN = 0xDA
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_SIZ = b"\xff\x4f\xff\x51"


class FrameHeader(NamedTuple):
    """Of one compressed frame."""

    height: int  # px
    width: int  # px
    channels: int
    bits: int  # of one sample


def read_frame_header(stream: bytes) -> FrameHeader:
    """Read the header of a compressed frame; nothing is decoded.

    Args:
        stream: A JPEG, JPEG-LS or JPEG 2000 stream, the last possibly in JP2 boxes.

    Returns:
        What it says.

    Raises:
        DataError: If there is no such header.
    """
    try:
        if stream[:2] == b"\xff\xd8":
            return _read_jpeg(stream)
        return _read_jpeg_2000(stream)
    except (struct.error, ValueError, IndexError):
        raise DataError(
            "has a compressed frame without a readable beginning; export it again"
        ) from None


def _read_jpeg(stream: bytes) -> FrameHeader:
    """Walk over all segments up to the scan; a gap between them is an error."""
    header, position = None, 2
    while True:
        if stream[position] != 0xFF:
            raise ValueError
        while stream[position] == 0xFF:  # any number of fill bytes may come before
            position += 1
        marker = stream[position]
        position += 1
        if marker == _START_OF_SCAN and header is not None:
            return header
        if marker in _START_OF_FRAME:
            bits, height, width, channels = struct.unpack_from(
                ">BHHB", stream, position + 2
            )
            header = FrameHeader(height, width, channels, bits)
        if marker not in _WITHOUT_LENGTH:
            position += struct.unpack_from(">H", stream, position)[0]


def _read_jpeg_2000(stream: bytes) -> FrameHeader:
    position = stream.index(_SIZ) + len(_SIZ)
    fields = struct.unpack_from(">HHIIIIIIIIHB", stream, position)
    right, bottom, left, top = fields[2:6]
    depth = fields[11]  # the highest bit is the sign
    return FrameHeader(bottom - top, right - left, fields[10], (depth & 0x7F) + 1)
