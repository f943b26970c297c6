"""Every mistake of a sites file at once, in words.

A mistake repeats plain short words that were written, and never a path, a label or a
sentence: those may say who a patient is.
"""

import difflib
import itertools
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from clients.site_values import (
    ONLY_WITH,
    SITE_CHECKS,
    SOURCE_CHECKS,
    UNLABELLED,
    Check,
    parse_part,
    quoted,
)
from models.classes import CLASS_NAMES

Table = Mapping[str, Any]


def find_mistakes(document: Table, beside: Path) -> list[str]:
    """Look for everything that is wrong in a sites file.

    Args:
        document: The content of the file.
        beside: Folder of the file, to which its paths are relative.

    Returns:
        One phrase a mistake; empty if `clients.sites` can read the document.
    """
    tables = document.get("site", [])
    mistakes = _unknown("the sites file", document, ["site"])
    if not _are_tables(tables):
        return [*mistakes, "write each hospital as a [[site]] table"]
    if not tables:
        mistakes.append("at least one [[site]] table is needed, found none")
    sources = []
    for number, table in enumerate(tables, start=1):
        label = _label(number, table)
        mistakes += _site_mistakes(label, table)
        sources += [(label, source) for source in _sources(table)]
    names = Counter(table["name"] for table in tables if _has_name(table))
    mistakes += [
        f"the name '{name}' is used {count} times, names must differ"
        for name, count in names.items()
        if count > 1
    ]
    return mistakes + _shared_patients(sources, beside)


def _site_mistakes(label: str, table: Table) -> list[str]:
    mistakes = [] if "name" in table else [f"{label}: name is missing"]
    site_keys = {key: table[key] for key in SITE_CHECKS if key in table}
    mistakes += _wrong_values(label, site_keys, SITE_CHECKS)
    rest = {key: table[key] for key in table if key not in (*SITE_CHECKS, "source")}
    if "source" not in table:
        return mistakes + _source_mistakes(label, rest, (*SITE_CHECKS, *SOURCE_CHECKS))
    mistakes += _unknown(label, rest, (*SITE_CHECKS, "source", *SOURCE_CHECKS))
    mistakes += [
        f"{label}: {key} stands beside [[site.source]] tables, move it into one"
        for key in SOURCE_CHECKS
        if key in rest
    ]
    if not _are_tables(table["source"]) or not table["source"]:
        return [*mistakes, f"{label}: write each source as a [[site.source]] table"]
    for number, source in enumerate(table["source"], start=1):
        mistakes += _source_mistakes(
            f"{label}, source {number}", source, tuple(SOURCE_CHECKS)
        )
    return mistakes


def _source_mistakes(label: str, table: Table, known: Iterable[str]) -> list[str]:
    mistakes = _unknown(label, table, known)
    if ("domain" in table) == ("folder" in table):
        came = "both" if "domain" in table else "neither"
        mistakes.append(f"{label}: give either domain or folder, got {came}")
    else:
        absent = "folder" if "domain" in table else "domain"
        mistakes += [
            f"{label}: {key} goes with {absent}, which is not given here"
            for key in ONLY_WITH[absent]
            if key in table and not (key == "labels" and _is_unlabelled(table))
        ]
    wrong = _wrong_values(label, table, SOURCE_CHECKS)
    return mistakes + (wrong or _label_conflicts(label, table))


def _wrong_values(label: str, table: Table, checks: Mapping[str, Check]) -> list[str]:
    wanted = {key: check(table[key]) for key, check in checks.items() if key in table}
    return [f"{label}: {key} must be {what}" for key, what in wanted.items() if what]


def _label_conflicts(label: str, table: Table) -> list[str]:
    """Compare keys that are right one by one."""
    if _is_unlabelled(table):
        return [
            f'{label}: {key} says how labels are read, which labels = "{UNLABELLED}" '
            "rules out; take one of them out"
            for key in ("classes", "ignore-labels", "line-width")
            if key in table
        ]
    labels: Mapping[str, str] = table.get("labels", {})
    written = [
        one.strip().casefold() for one in (*labels, *table.get("ignore-labels", []))
    ]
    mistakes = []
    if len(set(written)) < len(written):
        mistakes.append(
            f"{label}: a label stands twice in labels and ignore-labels; capitals do "
            "not matter"
        )
    undeclared = set(labels.values()) - set(table.get("classes", CLASS_NAMES))
    mistakes += [
        f"{label}: labels lead to {name}, which is not in its classes"
        for name in sorted(undeclared)
    ]
    return mistakes


def _is_unlabelled(table: Table) -> bool:
    return bool(table.get("labels") == UNLABELLED)


def _shared_patients(sources: list[tuple[str, Table]], beside: Path) -> list[str]:
    """Find folders of which two sources take the same patients."""
    taken = []
    for label, source in sources:
        folder, part = source.get("folder"), source.get("part", "1/1")
        if not (SOURCE_CHECKS["folder"](folder) or SOURCE_CHECKS["part"](part)):
            number, of = parse_part(part)
            ends = (Fraction(number - 1, of), Fraction(number, of))
            taken.append((label, os.path.normpath(beside / folder), ends))
    return [
        f"{first} and {second} take the same patients of one folder; give each its "
        'own part, such as "1/2" and "2/2"'
        for (first, folder, ends), (second, other, others) in itertools.combinations(
            taken, 2
        )
        if folder == other and max(ends[0], others[0]) < min(ends[1], others[1])
    ]


def _sources(table: Table) -> list[Table]:
    sources = table.get("source", [table])
    return list(sources) if _are_tables(sources) else []


def _are_tables(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _unknown(label: str, table: Iterable[str], known: Iterable[str]) -> list[str]:
    mistakes = []
    known = list(known)
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f", did you mean '{close[0]}'?" if close else ""
            mistakes.append(f"{label}: unknown key{quoted(key)}{hint}")
    return mistakes


def _has_name(table: Table) -> bool:
    return SITE_CHECKS["name"](table.get("name")) is None


def _label(number: int, table: Table) -> str:
    return f"site {number}" + (f" '{table['name']}'" if _has_name(table) else "")
