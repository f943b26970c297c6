"""The sites file: which hospitals take part and where their frames come from.

A TOML file with one `[[site]]` table per hospital; `default_sites.toml` beside this
module explains every key. Both ends of a run read it (the server to know whom to
expect), so whether a folder exists is asked only when a hospital loads its frames.
"""

import difflib
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from clients.data.errors import DataError
from clients.data.folders import LAYOUTS, load_folder
from clients.data.frames import FrameSet
from clients.data.simulator import DOMAINS, simulate_frames
from models.classes import CLASS_NAMES
from strategies.randomness import derive_seed

DEFAULT_SITES = Path(__file__).with_name("default_sites.toml")
NAME_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,40}")
"""What a name may be: it goes into messages, metrics and tags."""


@dataclass(frozen=True)
class SiteSpec:
    """One hospital as the sites file describes it."""

    name: str
    domain: str | None = None  # of the simulator; None = frames from `folder`
    patients: int = 12  # simulated sequences
    frames_per_patient: int = 4
    folder: Path | None = None  # None = simulated frames
    layout: str = "auto"  # of the folder: auto | pairs | dicom
    classes: tuple[str, ...] = CLASS_NAMES  # what its masks show


def load_sites(path: str) -> tuple[SiteSpec, ...]:
    """Read and check a sites file.

    Args:
        path: Of the file; "" = the four simulated hospitals that come with the code.

    Returns:
        The hospitals, sorted by name.

    Raises:
        DataError: If the file cannot be read, or with all its mistakes at once.
    """
    source = Path(path).absolute() if path else DEFAULT_SITES
    document = _parse(source)
    tables = document.get("site", [])
    problems = _unknown("the sites file", document, ["site"])
    if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        tables = []
        problems.append("write each hospital as a [[site]] table")
    elif not tables:
        problems.append("at least one [[site]] table is needed, found none")
    for number, table in enumerate(tables, start=1):
        problems += _site_problems(_label(number, table), table)
    names = Counter(table["name"] for table in tables if _has_name(table))
    problems += [
        f"the name '{name}' is used {count} times, names must differ"
        for name, count in names.items()
        if count > 1
    ]
    if problems:
        raise DataError(
            f"{len(problems)} mistake(s) in the sites file: {'; '.join(problems)}."
        )
    specs = [_read_site(table, source.parent) for table in tables]
    return tuple(sorted(specs, key=lambda spec: spec.name))


def load_frames(spec: SiteSpec, *, image_size: int, seed: int) -> FrameSet:
    """Load the frames of a hospital: simulated, or from its folder.

    Args:
        spec: The hospital.
        image_size: Side of the frames, px.
        seed: Seed of the run; simulated frames depend on it and on the name.

    Returns:
        All labelled frames. Classes that the hospital does not declare are marked as
        not annotated, and their masks are empty.

    Raises:
        DataError: Naming the hospital, never a file or a patient.
    """
    try:
        if spec.folder is not None:
            return load_folder(
                spec.folder,
                layout=spec.layout,
                classes=spec.classes,
                image_size=image_size,
            )
        return _simulate(spec, image_size, seed)
    except DataError as error:
        raise DataError(f"Hospital '{spec.name}': {error}") from None


def _simulate(spec: SiteSpec, image_size: int, seed: int) -> FrameSet:
    frames = simulate_frames(
        spec.domain or "",
        patients=spec.patients,
        frames_per_patient=spec.frames_per_patient,
        image_size=image_size,
        seed=derive_seed(seed, round_number=0, phase="frames", site=spec.name),
    )
    seen = torch.tensor([name in spec.classes for name in CLASS_NAMES])
    return replace(
        frames,
        masks=frames.masks * seen[:, None, None],
        annotated=frames.annotated & seen,
    )


def _parse(source: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(source.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"line \d+, column \d+|end of document", str(error))
        where = f" near {place[0]}" if place else ""
        raise DataError(f"The sites file is not valid TOML{where}.") from None
    except (OSError, UnicodeDecodeError):
        raise DataError(
            "The sites file cannot be read: give the absolute path of a UTF-8 text "
            "file that this program's user may read."
        ) from None


def _read_site(table: Mapping[str, Any], beside: Path) -> SiteSpec:
    is_simulated = "domain" in table
    return SiteSpec(
        name=table["name"],
        domain=table.get("domain"),
        patients=table.get("patients", 12) if is_simulated else 0,
        frames_per_patient=table.get("frames-per-patient", 4) if is_simulated else 0,
        folder=None if is_simulated else beside / table["folder"],
        layout=table.get("layout", "auto"),
        classes=tuple(table.get("classes", CLASS_NAMES)),
    )


def _site_problems(label: str, table: Mapping[str, Any]) -> list[str]:
    problems = _unknown(label, table, CHECKS)
    if "name" not in table:
        problems.append(f"{label}: name is missing")
    if ("domain" in table) == ("folder" in table):
        came = "both" if "domain" in table else "neither"
        problems.append(f"{label}: give either domain or folder, got {came}")
    else:
        absent = "folder" if "domain" in table else "domain"
        problems += [
            f"{label}: {key} goes with {absent}, which this site does not have"
            for key in ONLY_WITH[absent]
            if key in table
        ]
    for key, check in CHECKS.items():
        wanted = check(table[key]) if key in table else None
        if wanted:
            problems.append(f"{label}: {key} must be {wanted}")
    return problems


def _unknown(label: str, table: Iterable[str], known: Iterable[str]) -> list[str]:
    problems = []
    known = list(known)
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f", did you mean '{close[0]}'?" if close else ""
            problems.append(f"{label}: unknown key{_quoted(key)}{hint}")
    return problems


def _quoted(value: object) -> str:
    """Quote what was written, unless it may be a path or a sentence."""
    is_plain = isinstance(value, str) and NAME_PATTERN.fullmatch(value)
    return f" '{value}'" if is_plain else ""


def _has_name(table: Mapping[str, Any]) -> bool:
    name = table.get("name")
    return isinstance(name, str) and NAME_PATTERN.fullmatch(name) is not None


def _label(number: int, table: Mapping[str, Any]) -> str:
    return f"site {number}" + (f" '{table['name']}'" if _has_name(table) else "")


def _check_name(value: object) -> str | None:
    if _has_name({"name": value}):
        return None
    return "1 to 40 letters, digits, '-', '_' or '.'"


def _check_count(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return None
    return "a whole number, at least 1"


def _check_folder(value: object) -> str | None:
    return None if isinstance(value, str) and value.strip() else "a path in quotes"


def _check_choice(*choices: str) -> Callable[[object], str | None]:
    def check(value: object) -> str | None:
        if isinstance(value, str) and value in choices:
            return None
        close = difflib.get_close_matches(str(value), choices, n=1)
        hint = f", did you mean '{close[0]}'?" if close else ""
        return f"one of {', '.join(choices)}, got{_quoted(value) or ' another'}{hint}"

    return check


def _check_classes(value: object) -> str | None:
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        if set(value) <= set(CLASS_NAMES) and len(set(value)) == len(value):
            return None
    return f"a list of different ones of {', '.join(CLASS_NAMES)}"


CHECKS: Mapping[str, Callable[[object], str | None]] = {
    "name": _check_name,
    "domain": _check_choice(*DOMAINS),
    "patients": _check_count,
    "frames-per-patient": _check_count,
    "folder": _check_folder,
    "layout": _check_choice(*LAYOUTS),
    "classes": _check_classes,
}
"""Every key of a [[site]] table -> what it must be, or None if it is."""
ONLY_WITH = {
    "domain": ("patients", "frames-per-patient"),
    "folder": ("layout",),
}
"""Keys that make sense with only one of the two sources."""
