"""Every mistake in the tables of a site file, in words; [site] is checked elsewhere.

A typing mistake must not switch a limit off, so every key and every name is compared
with those that exist.
"""

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from clients.site_values import SITE_CHECKS, SOURCE_CHECKS, Check, quoted
from models.registry import BUILDERS
from strategies.settings import STRATEGIES, RunSettings

ADDRESS_PATTERN = re.compile(
    r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?):(\d{1,5})"
)
DIGEST_PATTERN = re.compile(r"[0-9a-fA-F]{64}")
ENDS = {"min", "max"}


def find_table_mistakes(document: Mapping[str, Any]) -> list[str]:
    """Look for everything that is wrong outside [site].

    Args:
        document: The content of the file.

    Returns:
        One phrase a mistake.
    """
    mistakes = _unknown("the site file", document, [*TABLES, "site"])
    for name, checks in TABLES.items():
        table = document.get(name, {})
        if not isinstance(table, dict):
            mistakes.append(f"write [{name}] as a table")
            continue
        mistakes += _unknown(f"[{name}]", table, checks)
        mistakes += [
            f"[{name}]: {key} must be {wanted}"
            for key, check in checks.items()
            if key in table and (wanted := check(table[key]))
        ]
        mistakes += [
            f"[{name}]: {key} is missing" for key in NEEDED[name] if key not in table
        ]
    mistakes += _site_table_mistakes(document.get("site"))
    if not mistakes:
        mistakes += _bound_mistakes(document.get("limits", {}).get("settings", {}))
        mistakes += _privacy_mistakes(document.get("privacy", {}))
    return mistakes


def flatten_bounds(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Give every bound its dotted key, whether the key was written in quotes or not.

    Args:
        table: [limits.settings] as written.
        prefix: Of the keys.

    Returns:
        Bounds by the run's dotted keys.
    """
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict) and not (value.keys() & ENDS):
            flat |= flatten_bounds(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def setting_keys() -> list[str]:
    """Return the dotted keys of all settings of a run."""
    keys = []
    for field in fields(RunSettings):
        name = field.name.replace("_", "-")
        if hasattr(field.type, "prefix"):  # a group of settings
            keys += [
                field.type.prefix + one.name.replace("_", "-")
                for one in fields(field.type)
            ]
        else:
            keys.append(name)
    return keys


def _site_table_mistakes(site: object) -> list[str]:
    if not isinstance(site, dict):
        return ["a [site] table is needed"]
    return [
        f"[site]: {wrong}, write {right}"
        for key, wrong, right in (
            ("min-patients", "min-patients is a limit", "it into [limits]"),
            ("folder", "the folder of frames is called data here", "data"),
        )
        if key in site
    ]


def _bound_mistakes(settings: Mapping[str, Any]) -> list[str]:
    bounds, known = flatten_bounds(settings), setting_keys()
    mistakes = _unknown("[limits.settings]", bounds, known)
    for key, bound in bounds.items():
        if key in known and not (_is_list(bound) or _is_range(bound)):
            mistakes.append(
                f"[limits.settings]: {key} must be a list of allowed values or "
                "{ min = a number, max = a number }"
            )
    return mistakes


def _is_list(bound: object) -> bool:
    return isinstance(bound, list) and all(
        isinstance(one, bool | int | float | str) for one in bound
    )


def _is_range(bound: object) -> bool:
    if not isinstance(bound, dict) or not bound or not bound.keys() <= ENDS:
        return False
    is_number = all(_check_number(end) is None for end in bound.values())
    return is_number and bound.get("min", -math.inf) <= bound.get("max", math.inf)


def _privacy_mistakes(privacy: Mapping[str, Any]) -> list[str]:
    if privacy.get("noise-multiplier", 0) > 0 and not privacy.get("clip-norm", 0) > 0:
        return [
            "[privacy]: noise-multiplier needs clip-norm > 0, of which it is a multiple"
        ]
    return []


def _unknown(label: str, table: Iterable[str], known: Iterable[str]) -> list[str]:
    known = list(known)
    mistakes = []
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f", did you mean '{close[0]}'?" if close else ""
            mistakes.append(f"{label}: unknown key{quoted(key)}{hint}")
    return mistakes


def _check_address(value: object) -> str | None:
    found = ADDRESS_PATTERN.fullmatch(value) if isinstance(value, str) else None
    if found is not None and 1 <= int(found[2]) <= 65535:
        return None
    return 'host:port without "https://", such as "fl.example.org:8000"'


def _check_number(value: object) -> str | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return None if is_number and math.isfinite(value) else "a number"


def _check_not_negative(value: object) -> str | None:
    if _check_number(value) is None and value >= 0:  # type: ignore[operator]
        return None
    return "a number, at least 0"


def _check_positive(value: object) -> str | None:
    if _check_number(value) is None and value > 0:  # type: ignore[operator]
        return None
    return "a number above 0"


def _check_whole(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return None
    return "a whole number, at least 0"


def _check_text(value: object) -> str | None:
    return None if isinstance(value, str) and "\0" not in value else "a text in quotes"


def _check_device(value: object) -> str | None:
    return None if value in ("auto", "cpu", "cuda") else "one of auto, cpu, cuda"


def _check_list_of(known: Iterable[str]) -> Check:
    def check(value: object) -> str | None:
        if isinstance(value, list) and all(one in known for one in value):
            return None
        return f"a list with any of {', '.join(known)}"

    return check


def _check_apps(value: object) -> str | None:
    wanted = 'a list of SHA-256 digests (64 hexadecimal digits), or ["any"]'
    if value == ["any"]:
        return None
    is_list = isinstance(value, list) and all(
        isinstance(one, str) and DIGEST_PATTERN.fullmatch(one) for one in value
    )
    return None if is_list else wanted


def _check_table(value: object) -> str | None:
    return None if isinstance(value, dict) else "a table"


TABLES: Mapping[str, Mapping[str, Check]] = {
    "federation": {"name": SITE_CHECKS["name"], "address": _check_address},
    "machine": {
        "device": _check_device,
        "gpus": _check_whole,
        "cpus": _check_positive,
        "memory-gib": _check_positive,
        "checkpoint": _check_text,
        "state": SOURCE_CHECKS["folder"],
    },
    "limits": {
        "strategies": _check_list_of(STRATEGIES),
        "models": _check_list_of(BUILDERS),
        "max-rounds-per-day": _check_whole,
        "min-patients": SITE_CHECKS["min-patients"],
        "max-prototypes": _check_whole,
        "max-seconds-per-phase": _check_positive,
        "apps": _check_apps,
        "settings": _check_table,
    },
    "privacy": {
        "clip-norm": _check_not_negative,
        "noise-multiplier": _check_not_negative,
    },
}
"""Keys of the tables and what each may hold."""
NEEDED: Mapping[str, tuple[str, ...]] = {
    "federation": ("name", "address"),
    "machine": (),
    "limits": (),
    "privacy": (),
}
