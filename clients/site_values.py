"""What a single value of a sites file may be, and how to read the longer ones."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, cast

from clients.data.archive import LAYOUTS
from clients.data.scan import POLARITIES
from clients.data.simulator import is_domain
from clients.fluoroscopy.domains import DOMAINS
from models.classes import CLASS_NAMES

NAME_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,40}")
"""What a name may be: it goes into messages, metrics and tags."""
WIDTH_PATTERN = re.compile(r"(\d{1,4}(?:\.\d{1,4})?) ?(px|mm)")
PART_PATTERN = re.compile(r"([1-9]\d{0,3})/([1-9]\d{0,3})")

Check = Callable[[object], str | None]
"""Of a value -> what it must be, or None if it is."""
UNLABELLED = "none"
"""In place of a table of labels: nobody has outlined anything."""


def parse_width(text: str) -> tuple[float, Literal["px", "mm"]]:
    """Read a width such as "3px" or "1.2mm".

    Raises:
        ValueError: If it is none, or zero.
    """
    found = WIDTH_PATTERN.fullmatch(text)
    if found is None or float(found[1]) == 0:
        raise ValueError("a width must be as 3px or 1.2mm and more than 0")
    return float(found[1]), cast(Literal["px", "mm"], found[2])


def parse_part(text: str) -> tuple[int, int]:
    """Read a part such as "2/5".

    Raises:
        ValueError: If it is none, or there is no such part.
    """
    found = PART_PATTERN.fullmatch(text)
    if found is None or int(found[1]) > int(found[2]):
        raise ValueError("a part must be as 2/5, from 1/5 to 5/5")
    return int(found[1]), int(found[2])


def quoted(value: object) -> str:
    """Quote what was written, unless it may be a path or a sentence.

    Args:
        value: Anything.

    Returns:
        A blank and the quoted value, or nothing.
    """
    is_plain = isinstance(value, str) and NAME_PATTERN.fullmatch(value)
    return f" '{value}'" if is_plain else ""


def _check_name(value: object) -> str | None:
    if isinstance(value, str) and NAME_PATTERN.fullmatch(value):
        return None
    return "1 to 40 letters, digits, '-', '_' or '.'"


def _check_count(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return None
    return "a whole number, at least 1"


def _check_flag(value: object) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _check_folder(value: object) -> str | None:
    is_path = isinstance(value, str) and value.strip() and "\0" not in value
    return None if is_path else "a path in quotes"


def _check_domain(value: object) -> str | None:
    if isinstance(value, str) and is_domain(value):
        return None
    return _choices(value, DOMAINS, ", or random-N such as random-7")


def _check_choice(*choices: str) -> Check:
    def check(value: object) -> str | None:
        is_one = isinstance(value, str) and value in choices
        return None if is_one else _choices(value, choices)

    return check


def _choices(value: object, choices: Iterable[str], others: str = "") -> str:
    close = difflib.get_close_matches(str(value), list(choices), n=1)
    hint = f", did you mean '{close[0]}'?" if close else ""
    came = quoted(value) or " another"
    return f"one of {', '.join(choices)}{others}, got{came}{hint}"


def _check_classes(value: object) -> str | None:
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        if set(value) <= set(CLASS_NAMES) and len(set(value)) == len(value):
            return None
    return f"a list of different ones of {', '.join(CLASS_NAMES)}"


def _check_labels(value: object) -> str | None:
    if value == UNLABELLED:
        return None
    if isinstance(value, dict) and all(name in CLASS_NAMES for name in value.values()):
        return None
    return (
        f"a table from labels to {' or '.join(CLASS_NAMES)}, such as "
        f'{{ tube = "{CLASS_NAMES[0]}" }}, or "{UNLABELLED}"'
    )


def _check_texts(value: object) -> str | None:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return None
    return "a list of texts"


def _check_width(value: object) -> str | None:
    return _parses(parse_width, value, '"3px" or "1.2mm", more than 0, in quotes')


def _check_part(value: object) -> str | None:
    return _parses(parse_part, value, '"1/5" to "5/5" for five parts, in quotes')


def _parses(parse: Callable[[str], object], value: object, wanted: str) -> str | None:
    if not isinstance(value, str):
        return wanted
    try:
        parse(value)
    except ValueError:
        return wanted
    return None


SITE_CHECKS: Mapping[str, Check] = {"name": _check_name, "min-patients": _check_count}
"""Keys of a [[site]] table, beside those of its only source or `source`."""
SOURCE_CHECKS: Mapping[str, Check] = {
    "domain": _check_domain,
    "patients": _check_count,
    "frames-per-patient": _check_count,
    "folder": _check_folder,
    "data-type": _check_name,
    "layout": _check_choice(*LAYOUTS),
    "classes": _check_classes,
    "labels": _check_labels,
    "ignore-labels": _check_texts,
    "line-width": _check_width,
    "skip-damaged": _check_flag,
    "device-polarity": _check_choice(*POLARITIES),
    "part": _check_part,
}
"""Keys of a source."""
ONLY_WITH = {
    "domain": ("patients", "frames-per-patient"),
    "folder": (
        "data-type",
        "layout",
        "labels",
        "ignore-labels",
        "line-width",
        "skip-damaged",
        "device-polarity",
        "part",
    ),
}
"""Keys that make sense with only one of the two kinds of source."""
