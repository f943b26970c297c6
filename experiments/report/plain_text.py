"""What of a text may stand on a page: no path of this machine.

A report is made to be sent. The run folder holds no paths by design; this is the second
lock, for texts of errors and for folders that other programs have written into.
"""

import math
import re
from collections.abc import Mapping
from numbers import Real
from typing import Any

PATH_LEFT_OUT = "[path]"

_NAME = r"[^\s/\\'\"<>|:;,()]+"
_QUOTED = re.compile(r"(['\"])(?:file:)?(?:~|[A-Za-z]:)?[/\\][^'\"<>]*\1")
_POSIX = re.compile(rf"(?<![\w.<)])(?:file:/{{2,3}}|~)?(?:/{_NAME})+/?")
_WINDOWS = re.compile(rf"(?<!\w)(?:[A-Za-z]:|\\)\\(?:{_NAME}\\?)*")


def without_paths(text: str) -> str:
    """Return a text with every absolute path replaced by "[path]".

    Args:
        text: Anything; names such as "val/dice" stay.

    Returns:
        The text.
    """
    for pattern in (_QUOTED, _WINDOWS, _POSIX):
        text = pattern.sub(PATH_LEFT_OUT, text)
    return text


def cleaned(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a JSON value without paths, and with None for NaN and infinity.

    Args:
        value: As read from a file.

    Returns:
        The same structure; keys are cleaned, too.
    """
    if isinstance(value, str):
        return without_paths(value)
    if isinstance(value, Mapping):
        return {without_paths(str(key)): cleaned(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [cleaned(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def as_number(value: object) -> float | None:
    """Return a finite number as float, anything else as None."""
    if isinstance(value, Real) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:  # an integer of hundreds of digits
            return None
        return number if math.isfinite(number) else None
    return None


def as_mapping(value: object) -> dict[str, Any]:
    """Return an object of JSON, anything else as an empty one."""
    return dict(value) if isinstance(value, Mapping) else {}


def as_list(value: object) -> list[Any]:
    """Return a list of JSON, anything else as an empty one."""
    return list(value) if isinstance(value, list) else []
