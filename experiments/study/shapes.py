"""Which keys the tables of a study file have, and of what shape their values are."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.study.spec_rules import hint

TEXT, WHOLE, NUMBER, TABLE = "a text", "a whole number", "a number", "a table"
TEXTS, WHOLES, TABLES_ = (
    "a list of texts",
    "a list of whole numbers",
    "a list of tables",
)
STUDY_KEYS = {
    "title": TEXT,
    "seeds": WHOLES,
    "tune-seed": WHOLE,
    "unseen": TEXTS,
    "shots": WHOLES,
    "shot-domains": TEXTS,
    "shot-repeats": WHOLE,
    "shot-steps": WHOLE,
    "reference": TEXT,
    "upper-bound": TEXT,
    "trials": TABLES_,
    "base": TABLE,
    "budget": TABLE,
    "scenario": TABLES_,
    "row": TABLES_,
}
BUDGET_KEYS = {"steps-per-silo": WHOLE, "equal-steps": TEXTS}
SCENARIO_KEYS = {
    "name": TEXT,
    "sites": TEXT,
    "partition": TABLE,
    "settings": TABLE,
    "trials-of": TEXT,
}
PARTITION_KEYS = {
    "types": TEXTS,
    "silos": WHOLE,
    "unseen": NUMBER,
    "patients": WHOLE,
    "frames-per-patient": WHOLE,
    "seed": WHOLE,
}
ROW_KEYS = {
    "name": TEXT,
    "group": TEXT,
    "settings": TABLE,
    "trials": TABLES_,
    "trials-of": TEXT,
    "same-training-as": TEXT,
    "model-of": TEXT,
    "scenarios": TEXTS,
    "kind": TEXT,
    "table": TEXT,
    "count": TEXT,
    "pooled-steps-factor": NUMBER,
    "shots": WHOLES,
}


def checked(
    where: str,
    table: object,
    kinds: Mapping[str, str],
    problems: list[str],
    *,
    needed: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what a table has of the right shape; note everything else.

    Args:
        where: What the table is called, for the messages.
        table: As it was read.
        kinds: Shape of every key that it may have.
        problems: Grows by what is wrong, one phrase each.
        needed: Keys that it must have.
    """
    if not isinstance(table, Mapping):
        problems.append(f"{where} must be a table")
        return {}
    found = {}
    for key, value in table.items():
        if key not in kinds:
            problems.append(f"{where} has an unknown key '{key}'{hint(key, kinds)}")
        elif not _is_a(kinds[key], value):
            problems.append(f"{where}: {key} must be {kinds[key]}, got {value!r}")
        else:
            found[key] = value
    problems += [f"{where} lacks {key}" for key in needed if key not in table]
    return found


def _is_a(kind: str, value: object) -> bool:
    if kind in (TEXTS, WHOLES, TABLES_):
        one = {TEXTS: TEXT, WHOLES: WHOLE, TABLES_: TABLE}[kind]
        return isinstance(value, list) and all(_is_a(one, part) for part in value)
    if kind == TABLE:
        return isinstance(value, Mapping)
    if isinstance(value, bool):
        return False
    return isinstance(value, {TEXT: str, WHOLE: int, NUMBER: (int, float)}[kind])
