"""What an adaptation study compares: rows, seeds, and variants of the settings.

A study is written as TOML: `[study]` (frames, rows, seeds), `[adapt]` (settings of the
method, as in `pyproject.toml`) and any number of `[[variant]]` with settings of their
own. Options of the command line come on top. Everything is checked before anything is
computed.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from experiments.run_config import flatten, resolve_run_config
from strategies.adaptation_settings import AdaptationSettings
from strategies.setting_rules import at_least, check
from strategies.settings import RunSettings, SettingsError

ROWS = (
    "sam-none",
    "direct",
    "pseudo-labels",
    "sam-box",
    "sam-points",
    "sam-points-box",
    "tent",
    "tribe",
    "wesam",
    "cpc-sam",
    "pseudo",
    "ours",
    "student-box",
    "student-points",
    "student-points-box",
    "teacher",
    "teacher-points",
    "teacher-points-box",
    "real",
)
"""Every method that a table may have, in the order of its lines."""
DEFAULT_ROWS = ("direct", "pseudo", "ours", "teacher", "real")
TABLES = ("study", "adapt", "variant")
LABELS_FROM = ("coarse", "start")
SIMULATED, FOLDER = "simulated", "folder"
STUDY_PREFIX = "study."


@dataclass(frozen=True)
class Variant:
    """One way to adapt; all variants have the same frames and seeds."""

    name: str  # "" = the only one
    settings: AdaptationSettings
    rows: tuple[str, ...]
    frames: int = 0  # target frames to adapt to; 0 = all
    labels_from: str = "coarse"  # coarse network, or the start itself (an ablation)


@dataclass(frozen=True)
class StudyPlan:
    """The frames, rows and seeds of a study."""

    model: str = ""  # as `open_model` takes it
    name: str = ""  # network of an official file or of random weights
    image_size: int = 0  # of those, px; 0 = default
    source: str = SIMULATED  # or FOLDER; domains are `adapt.source-domains`
    target: str = "neuro"  # domain, or FOLDER
    rows: tuple[str, ...] = DEFAULT_ROWS
    seeds: tuple[int, ...] = (0,)
    source_patients: int = 32  # of each source domain
    source_frames_per_patient: int = 4
    target_patients: int = 16  # to adapt to
    test_patients: int = 8
    target_frames_per_patient: int = 4
    max_frames: int = 500  # of a target folder to adapt to: more does not help (fig. 6)
    data_seed: int = 0  # decides frames and who is held out
    variants: tuple[Variant, ...] = field(default=())


def read_table(path: Path) -> dict[str, Any]:
    """Read a study file, TOML or as an earlier run has kept it (JSON).

    Args:
        path: Of the file.

    Returns:
        Its tables.

    Raises:
        SettingsError: If it cannot be read, or has other tables.
    """
    try:
        text = path.read_text(encoding="utf-8")
        table = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError:
        raise SettingsError(
            "The study file cannot be read. Give the path of a TOML file, or to "
            "--resume the folder of an earlier adaptation."
        ) from None
    except ValueError as error:
        raise SettingsError(f"The study file is not valid: {error}.") from None
    _check_tables(table)
    return table


def merge_tables(*tables: Mapping[str, Any]) -> dict[str, Any]:
    """Put study files and options together; later ones win.

    Args:
        *tables: Of `read_table`; the variants of a later one replace those before.

    Returns:
        One table.
    """
    merged: dict[str, Any] = {"study": {}, "adapt": {}, "variant": []}
    for table in tables:
        merged["study"] = {**merged["study"], **table.get("study", {})}
        merged["adapt"] = {**merged["adapt"], **table.get("adapt", {})}
        merged["variant"] = table.get("variant") or merged["variant"]
    return merged


def split_overrides(overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Tell the settings of a study from those of the method.

    Args:
        overrides: Texts such as `study.test-patients=4` and `adapt.epochs=3`.

    Returns:
        The `[study]` table that the first ones make, and the others as they are.

    Raises:
        SettingsError: If one of a study has no value as TOML writes it.
    """
    study: dict[str, Any] = {}
    others = []
    for text in overrides:
        key, _, value = text.partition("=")
        if not key.startswith(STUDY_PREFIX):
            others.append(text)
            continue
        try:
            study[key.removeprefix(STUDY_PREFIX)] = tomllib.loads(f"value = {value}")[
                "value"
            ]
        except tomllib.TOMLDecodeError:
            raise SettingsError(
                f"--set wants {key} with a value as TOML writes it, such as "
                "study.test-patients=4 or study.seeds=[0,1]."
            ) from None
    return study, others


def plan_of(table: Mapping[str, Any], overrides: Sequence[str] = ()) -> StudyPlan:
    """Check a study.

    Args:
        table: Of `merge_tables`.
        overrides: Texts such as `adapt.epochs=3`, for every variant.

    Returns:
        The study with at least one variant.

    Raises:
        SettingsError: Naming what is wrong.
    """
    values = _study_values(table["study"])
    plan = StudyPlan(**values)
    given = table["variant"] or [{"name": ""}]
    variants = tuple(_variant(one, plan, table["adapt"], overrides) for one in given)
    problems = _problems(plan, [one.name for one in variants])
    if problems:
        raise SettingsError("The study is wrong: " + "; ".join(problems) + ".")
    return StudyPlan(**{**values, "variants": variants})


def _study_values(table: Mapping[str, Any]) -> dict[str, Any]:
    known = {one.name: one for one in fields(StudyPlan) if one.name != "variants"}
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        default = known[name].default if name in known else None
        if default is None:
            raise SettingsError(
                f"[study] has no setting '{key}', but {', '.join(_kebab(known))}."
            )
        is_list = isinstance(default, tuple)
        if is_list and isinstance(value, list | tuple):
            value = tuple(value)
        wanted = type(default[0]) if is_list else type(default)
        parts = value if isinstance(value, tuple) else (value,)
        if is_list != isinstance(value, tuple) or any(
            type(one) is not wanted for one in parts
        ):
            shape = "a list of " if is_list else ""
            raise SettingsError(f"study.{key} must be {shape}{wanted.__name__}.")
        values[name] = value
    return values


def _variant(
    table: Mapping[str, Any],
    plan: StudyPlan,
    common: Mapping[str, Any],
    overrides: Sequence[str],
) -> Variant:
    unknown = set(table) - {"name", "rows", "frames", "labels-from", "adapt"}
    if unknown:
        raise SettingsError(
            f"A [[variant]] has name, rows, frames, labels-from and adapt, but no "
            f"'{min(unknown)}'."
        )
    others = [one for one in overrides if not one.startswith("adapt.")]
    if others:
        raise SettingsError(
            "--set takes settings of the adaptation here, such as "
            f"adapt.epochs=3, got '{others[0]}'. How frames are prepared stands in the "
            "card of the model."
        )
    own = flatten({"adapt": {**common, **table.get("adapt", {})}})
    # JSON writes these values as TOML reads them.
    texts = [
        f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in own.items()
    ]
    resolved = resolve_run_config(overrides=[*texts, *overrides])
    return Variant(
        name=table.get("name", ""),
        settings=RunSettings.from_run_config(resolved).adapt,
        rows=tuple(table.get("rows", plan.rows)),
        frames=table.get("frames", 0),
        labels_from=table.get("labels-from", LABELS_FROM[0]),
    )


def _problems(plan: StudyPlan, names: Sequence[str]) -> list[str]:
    sizes = (
        "source_patients",
        "source_frames_per_patient",
        "target_patients",
        "test_patients",
        "target_frames_per_patient",
        "max_frames",
    )
    return [
        *check(bool(plan.model), "the model to start from is missing (--from)"),
        *check(len(set(names)) == len(names), "two variants have one name"),
        *check(
            len(set(plan.seeds)) == len(plan.seeds) > 0 and min(plan.seeds) >= 0,
            "seeds must be different numbers >= 0",
        ),
        *at_least("data-seed", plan.data_seed, 0),
        *(
            problem
            for name in sizes
            for problem in at_least(name.replace("_", "-"), getattr(plan, name), 1)
        ),
    ]


def check_rows(plan: StudyPlan) -> None:
    """Refuse variants that nobody could compute.

    Args:
        plan: Of `plan_of`.

    Raises:
        SettingsError: If a row, a number of frames or an origin of pseudo-labels is
            none that exists.
    """
    for variant in plan.variants:
        if not variant.rows or not set(variant.rows) <= set(ROWS):
            raise SettingsError(f"rows must be some of {', '.join(ROWS)}.")
        if type(variant.frames) is not int or variant.frames < 0:
            raise SettingsError("frames of a variant must be a number >= 0; 0 = all.")
        if variant.labels_from not in LABELS_FROM:
            raise SettingsError(f"labels-from must be one of {', '.join(LABELS_FROM)}.")


def _check_tables(table: Mapping[str, Any]) -> None:
    unknown = sorted(set(table) - set(TABLES))
    if unknown:
        raise SettingsError(
            f"A study has [study], [adapt] and [[variant]], but no '{unknown[0]}'. How "
            "frames are prepared stands in the card of the model."
        )


def _kebab(names: Sequence[str] | Mapping[str, Any]) -> list[str]:
    return [name.replace("_", "-") for name in names]
