"""What all annotation formats share: JSON, numbers and names, read with distrust.

Files come from anywhere, so nothing of them is believed or quoted: too large files,
too deep nesting, numbers that are none and sizes that no image has end in a
`DataError` whose text holds nothing of the file.
"""

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.data.errors import DataError

MAX_BYTES = 2**30
"""Larger files are refused: parsed, they would fill the memory of a workstation."""
MAX_SIDE = 2**16 - 1
"""px; DICOM knows no larger frames, and what claims to be would fill the memory."""
MAX_COORDINATE = 1e5
"""px; farther points cannot be meant, and their squares would lose precision."""
CANNOT_OPEN = (
    "an annotation file cannot be opened; check that it is there and that this "
    "program's user may read it"
)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, in any encoding that JSON allows.

    Args:
        path: Of the file.

    Returns:
        The object as Python dictionaries, lists, numbers and text.

    Raises:
        DataError: If the file cannot be opened, is larger than `MAX_BYTES`, or is no
            valid JSON object.
    """
    check_size(path)
    try:
        found = json.loads(path.read_bytes())
    except OSError:
        raise DataError(CANNOT_OPEN) from None
    except (ValueError, RecursionError):  # its message would quote the file
        raise DataError(
            "an annotation file is no valid JSON; is it complete? Export it again"
        ) from None
    return as_object(found, "an annotation file")


def check_size(path: Path) -> None:
    """Refuse a file that is too large to be parsed in memory.

    Args:
        path: Of the file.

    Raises:
        DataError: If it is larger than `MAX_BYTES`, or cannot be opened.
    """
    try:
        num_bytes = path.stat().st_size
    except OSError:
        raise DataError(CANNOT_OPEN) from None
    if num_bytes > MAX_BYTES:
        raise DataError(
            f"an annotation file has {num_bytes / 2**30:.1f} GiB, at most "
            f"{MAX_BYTES / 2**30:.0f} GiB can be read; split it by sequence"
        )


def as_object(value: object, what: str) -> dict[str, Any]:
    """Return a JSON value that must be an object; `what` names it in the error."""
    if not isinstance(value, dict):
        raise DataError(f"{what} must be a JSON object, got another type of value")
    return value


def as_list(value: object, what: str) -> list[Any]:
    """Return a JSON value that must be a list; `what` names it in the error."""
    if not isinstance(value, list):
        raise DataError(f"{what} must be a JSON list, got another type of value")
    return value


def as_text(value: object, what: str) -> str:
    """Return a JSON value that must be text; `what` names it in the error."""
    if not isinstance(value, str):
        raise DataError(f"{what} must be text, got another type of value")
    return value


def side_px(value: object) -> int:
    """Read the height or width of an annotated image or mask.

    Args:
        value: A whole number as JSON or XML holds it.

    Returns:
        The side, 1 to `MAX_SIDE` px.

    Raises:
        DataError: If it is something else.
    """
    side = whole_number(value, "the stated height and width of an image")
    if not 1 <= side <= MAX_SIDE:
        raise DataError(
            f"the stated height and width of an image must be 1 to {MAX_SIDE} px, "
            "got a number outside"
        )
    return side


def stated_side_px(value: object) -> int | None:
    """Read a side as `side_px` does, or None where the file does not say."""
    return None if value is None else side_px(value)


def whole_number(value: object, what: str) -> int:
    """Read a whole number, also one that is written as text or as 512.0.

    Args:
        value: As JSON or XML holds it.
        what: Names it in the error.

    Returns:
        The number.

    Raises:
        DataError: If it is something else.
    """
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not number.is_integer() or isinstance(value, bool):
        raise DataError(f"{what} must be a whole number, got something else")
    return int(number)


def to_points(values: Iterable[object], at_least: int) -> NDArray[np.float64]:
    """Turn pairs of numbers into points.

    Args:
        values: Pairs of x and y.
        at_least: Number of points that the shape needs.

    Returns:
        (points, 2), x and y, px.

    Raises:
        DataError: If a point is no pair of finite numbers, lies farther than
            `MAX_COORDINATE` from the origin, or there are too few.
    """
    pairs = list(values)
    if len(pairs) < at_least:
        raise DataError(f"a shape needs {at_least} or more points, got {len(pairs)}")
    try:
        points = np.array(pairs)
    except (TypeError, ValueError):  # not all of one length
        points = np.array([None])
    is_numeric = points.dtype.kind in "iuf"
    if not is_numeric or points.ndim != 2 or points.shape[1] != 2:
        raise DataError("the points of a shape must be pairs of numbers of px")
    points = points.astype(np.float64)
    if not np.isfinite(points).all() or np.abs(points).max() > MAX_COORDINATE:
        raise DataError(
            "the points of a shape must be finite numbers of px, got NaN, infinity or "
            "a point that is far outside of any image"
        )
    return points


def image_stem(name: str) -> str:
    r"""Return the name of an image without folders and without the last suffix.

    Args:
        name: As an annotation tool wrote it, with / or \ between folders.

    Returns:
        What `Path.stem` gives for the image itself. Identifying: never shown.
    """
    return PurePosixPath(re.split(r"[\\/]", name)[-1]).stem
