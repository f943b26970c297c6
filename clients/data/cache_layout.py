"""What the files of a cache entry hold.

    images.npy     uint16 (frames, size, size), grey value times 65535
    labels.npy     uint8 (frames, size, size), bit k = class k, bit 7 = valid
    annotated.npy  bool (frames, classes)
    sequences.npy  int64 (frames,)
    patients.npy   int64 (frames,)
    digests.npy    uint8 (frames, 32), SHA-256 of all of a frame
    index.json     format, counts, sizes and digests of the above
    used           empty; see `clients.data.cache_files`

All little-endian, in NumPy's own format, so that they are mapped, not read.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FORMAT = 1
"""To be raised whenever the files above, or how a digest is made, change."""

INDEX = "index.json"
TABLES = ("annotated", "sequences", "patients", "digests")
"""The small arrays: read whole, and checked, whenever an entry is opened."""

DIGEST_BYTES = 32
_OVERHEAD_BYTES = 4096  # headers of the arrays and the index, generously


class EncodedFrame(NamedTuple):
    """A frame as it lies on disk."""

    image: NDArray[np.uint16]  # (size, size)
    labels: NDArray[np.uint8]  # (size, size)
    annotated: NDArray[np.bool_]  # (classes,)
    sequence: int
    patient: int
    digest: bytes  # 32, of all of the above


def rows_of(size: int, num_classes: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Tell what every array holds for one frame.

    Args:
        size: Side of a frame, px.
        num_classes: Classes of a frame.

    Returns:
        NumPy's name of the type, and the shape of a row, by the array's name.
    """
    return {
        "images": ("<u2", (size, size)),
        "labels": ("|u1", (size, size)),
        "annotated": ("|b1", (num_classes,)),
        "sequences": ("<i8", ()),
        "patients": ("<i8", ()),
        "digests": ("|u1", (DIGEST_BYTES,)),
    }


def bytes_needed(num_frames: int, *, size: int, num_classes: int) -> int:
    """Tell how large an entry becomes.

    Args:
        num_frames: Frames to be stored.
        size: Side of a frame, px.
        num_classes: Classes of a frame.

    Returns:
        Bytes, rounded up by a little.
    """
    a_frame = 3 * size * size + num_classes + 8 + 8 + DIGEST_BYTES
    return num_frames * a_frame + _OVERHEAD_BYTES


def digest_of(digests: NDArray[np.uint8]) -> str:
    """Join the digests of frames to one of them all.

    Args:
        digests: uint8 (frames, 32), in the order of the frames.

    Returns:
        SHA-256 as 64 hexadecimal digits.
    """
    head = f"endofed frames, format {FORMAT}, {len(digests)};".encode()
    return hashlib.sha256(head + digests.tobytes()).hexdigest()


def digest_tables(tables: Mapping[str, NDArray[Any]]) -> str:
    """Tell whether the small arrays are what was written.

    Args:
        tables: Arrays by the names in `TABLES`.

    Returns:
        SHA-256 as 64 hexadecimal digits.
    """
    found = hashlib.sha256()
    for name in TABLES:
        found.update(tables[name].tobytes())
    return found.hexdigest()
