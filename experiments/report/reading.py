"""What a run folder holds, for a page: whatever is there, of any version, in any state.

Only a folder that holds no run is refused. Files that are missing are empty, files that
cannot be read are named in `Run.notes`, fields of a wrong type count as missing. Paths
are taken out of every text on the way in.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.report.plain_text import as_list, as_mapping, as_number, cleaned
from experiments.report.run import Edge, Phase, Round, Run, is_event, metrics_of
from server.journal import (
    AUDIT_FILE,
    EVENTS_FILE,
    RESULT_FILE,
    SETTINGS_FILE,
    SITES_FILE,
    TEST_TABLE_JSON,
    public_settings,
    read_events,
)
from strategies.settings import SettingsError

VARIANCE_FILE = "score_variance.json"  # of server.score_variance
CARD_FILE = "checkpoints/foundation.json"
CROSS_SITE_FILE = "cross_site.json"
"""{"metric": "dice", "values": {owner of the model: {site of the data: number}}}"""
FEWSHOT_FILES = ("fewshot.json", "results.json", "*/results.json")
"""Of `endofed finetune`, today's and the first; below the run folder or in it."""


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Args:
        folder: Of a run that has ended, failed or still goes on.

    Returns:
        What is there.

    Raises:
        SettingsError: If it is no run folder, or its record of numbers is damaged.
    """
    _refuse_other_folders(folder)
    notes: list[str] = []
    events = _events(folder)
    rounds = {one.number: one for one in map(_round, events) if one is not None}
    told = as_mapping(_read(folder, SETTINGS_FILE, notes))
    test_table = as_mapping(_read(folder, TEST_TABLE_JSON, notes))
    sites = as_mapping(_read(folder, SITES_FILE, notes))
    studies = (as_mapping(_read(folder, name, notes)) for name in _find(folder))
    return Run(
        folder=folder,
        events=events,
        rounds=[rounds[number] for number in sorted(rounds)],
        phases=[one for one in map(_phase, events) if one is not None],
        settings=_settings(told),
        sites={name: as_mapping(facts) for name, facts in sites.items()},
        result=as_mapping(_read(folder, RESULT_FILE, notes)),
        card=as_mapping(_read(folder, CARD_FILE, notes)),
        test_rows=[as_mapping(row) for row in as_list(test_table.get("rows"))],
        fewshot=[study for study in studies if study],
        cross_site=as_mapping(_read(folder, CROSS_SITE_FILE, notes)),
        score_variance=as_mapping(_read(folder, VARIANCE_FILE, notes)),
        traffic=_traffic(folder, notes),
        notes=notes,
    )


def _refuse_other_folders(folder: Path) -> None:
    if not folder.is_dir():
        raise SettingsError(
            "There is no such run folder. Give the folder that `endofed simulate` "
            "wrote, the one with settings.json in it."
        )
    if not any((folder / name).is_file() for name in (SETTINGS_FILE, EVENTS_FILE)):
        raise SettingsError(
            f"This folder holds no run: neither {SETTINGS_FILE} nor {EVENTS_FILE} is "
            "in it. Give the folder that `endofed simulate` wrote."
        )


def _events(folder: Path) -> list[dict[str, Any]]:
    try:
        events = read_events(folder / EVENTS_FILE)
    except OSError as error:
        raise SettingsError(
            f"{EVENTS_FILE} cannot be read ({error.strerror}); check its rights."
        ) from None
    except ValueError as error:
        raise SettingsError(str(error)) from None
    return [cleaned(event) for event in events if isinstance(event, dict)]


def _find(folder: Path) -> list[str]:
    """Return the names of the files with few-shot studies."""
    found = (sorted(folder.glob(pattern)) for pattern in FEWSHOT_FILES)
    return [str(path.relative_to(folder)) for paths in found for path in paths]


def _read(folder: Path, name: str, notes: list[str]) -> Any:  # noqa: ANN401 - JSON
    path = folder / name
    if not path.is_file():
        return None
    try:
        # Settings are cleaned by `public_settings`, which tells what was a path.
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if name == SETTINGS_FILE else cleaned(content)
    except (OSError, ValueError, RecursionError):
        notes.append(f"{Path(name).name} is damaged or cannot be read and is left out.")
        return None


def _settings(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings without paths, whoever has written them."""
    public = cleaned(public_settings({k: _plain(value) for k, value in told.items()}))
    if told.get("sites") == "default":  # cleaned once already
        public["sites"] = "default"
    return public


def _plain(value: object) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float | str) else str(value)


def _texts(values: object) -> dict[str, str]:
    return {name: str(value) for name, value in as_mapping(values).items()}


def _round(event: Mapping[str, Any]) -> Round | None:
    number = as_number(event.get("round"))
    if not is_event(event, "round") or number is None:
        return None
    sites = as_mapping(event.get("sites"))
    edges = (_edge(int(number), edge) for edge in as_list(event.get("edges")))
    return Round(
        number=int(number),
        seconds=as_number(event.get("seconds")),
        sites={site: metrics_of(values) for site, values in sites.items()},
        overall=metrics_of(event.get("global")),
        edges=tuple(edge for edge in edges if edge is not None),
        failed=_texts(event.get("failed")),
        warnings=tuple(map(str, as_list(event.get("warnings")))),
    )


def _edge(round_number: int, content: object) -> Edge | None:
    edge = as_mapping(content)
    student, teacher = edge.get("student"), edge.get("teacher")
    if not isinstance(student, str) or not isinstance(teacher, str):
        return None
    names = ("score", "weight", "gap", "teacher_loss", "num_bytes")
    return Edge(
        round=round_number,
        student=student,
        teacher=teacher,
        is_control=edge.get("is_control") is True or student == teacher,
        **{name: as_number(edge.get(name)) for name in names},
    )


def _phase(event: Mapping[str, Any]) -> Phase | None:
    number = as_number(event.get("round"))
    if not is_event(event, "phase") or number is None:
        return None
    return Phase(
        round=int(number),
        name=str(event.get("phase", "")),
        seconds=as_number(event.get("seconds")),
        failed=_texts(event.get("failed")),
        bytes_up=as_number(event.get("bytes_up")) or 0.0,
        bytes_down=as_number(event.get("bytes_down")) or 0.0,
    )


def _traffic(folder: Path, notes: list[str]) -> dict[str, dict[str, float]]:
    """Add up what reached and what left every site, from the audit log."""
    totals: dict[str, dict[str, float]] = {}
    try:
        entries = read_events(folder / AUDIT_FILE)
    except (OSError, ValueError):
        notes.append(f"{AUDIT_FILE} is damaged or cannot be read and is left out.")
        return {}
    for entry in map(cleaned, map(as_mapping, entries)):
        site, direction = entry.get("site"), entry.get("direction")
        if isinstance(site, str) and direction in ("in", "out"):
            own = totals.setdefault(site, {"in": 0.0, "out": 0.0})
            own[direction] += as_number(entry.get("bytes")) or 0.0
    return totals
