"""Reads a study from one TOML file and finds all its mistakes at once.

A study has a title, seeds, `[base]` settings of all runs, `[budget]`, `[[scenario]]`s
and `[[row]]`s; experiments/configs/studies/smoke.toml is one. What else there may be
stands beside `Scenario`, `Row` and `StudySpec` in spec.py: keys are those names with
"-" for "_", and `pooled-steps-factor` for `pooled_factor`. `trials` outside of rows are
those of all rows without their own.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.run_config import (
    PROJECT_FOLDER,
    default_run_config,
    flatten,
    parse_override,
)
from experiments.study.shapes import (
    BUDGET_KEYS,
    PARTITION_KEYS,
    ROW_KEYS,
    SCENARIO_KEYS,
    STUDY_KEYS,
    checked,
)
from experiments.study.spec import Partitioning, Row, Scenario, StudySpec
from experiments.study.spec_rules import find_problems, hint
from strategies.settings import SettingsError, SettingValue

STUDIES = PROJECT_FOLDER / "experiments" / "configs" / "studies"
STUDY_PREFIX = "study."
PLAIN = tuple(STUDY_KEYS)[:10]
"""Those that stand in `StudySpec` as they are written."""
Table = Mapping[str, Any]


def find_study(name: str) -> Path:
    """Return the file of a study.

    Args:
        name: Of a file in experiments/configs/studies without its ending, or a path.

    Raises:
        SettingsError: If there is none; names those that there are.
    """
    for path in (STUDIES / f"{name}.toml", Path(name)):
        if path.is_file():
            return path.resolve()
    known = ", ".join(sorted(one.stem for one in STUDIES.glob("*.toml")))
    raise SettingsError(
        "There is no such study. Give the path of a TOML file or one of these names: "
        f"{known}."
    )


def read_study(path: Path, overrides: Sequence[str] = ()) -> StudySpec:
    """Read and check a study.

    Args:
        path: Of its TOML file.
        overrides: Texts such as `num-rounds=2`, settings of every run, and such as
            `study.seeds=[0]`, keys of the study itself.

    Returns:
        The study; it is named after the file.

    Raises:
        SettingsError: With all mistakes of the file.
    """
    document = _read_toml(path)
    given: dict[str, SettingValue] = {}
    for text in overrides:
        ((key, value),) = parse_override(text).items()
        if key.startswith(STUDY_PREFIX):
            _put(document, key.removeprefix(STUDY_PREFIX).split("."), value)
        else:
            given |= flatten({key: value})
    problems: list[str] = []
    spec = _spec(path, document, given, problems)
    # Mistakes of shape first: what has the wrong one says nothing about the rest.
    problems = problems or find_problems(spec)
    if problems:
        raise SettingsError(
            f"{len(problems)} mistake(s) in the study: {'; '.join(problems)}."
        )
    return spec


def _put(table: dict[str, Any], path: list[str], value: object) -> None:
    """Write a value into nested tables, such as ["budget", "steps-per-silo"]."""
    for part in path[:-1]:
        table = table.setdefault(part, {})
    table[path[-1]] = value


def _spec(
    path: Path,
    document: Table,
    given: Mapping[str, SettingValue],
    problems: list[str],
) -> StudySpec:
    top = checked("the study", document, STUDY_KEYS, problems)
    budget = checked("[budget]", top.get("budget", {}), BUDGET_KEYS, problems)
    common = tuple(flatten(one) for one in top.get("trials", ()))
    plain = {key.replace("-", "_"): top[key] for key in PLAIN if key in top}
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
    rows = [_row(one, common, problems) for one in top.get("row", ())]
    spec = StudySpec(
        name=path.stem,
        base={
            **default_run_config(),
            **flatten(top.get("base", {})),
            **{"output": "", "sites": "", "resume": "", "mlflow": False},
        },
        scenarios=tuple(
            _scenario(one, path.parent, problems) for one in top.get("scenario", ())
        ),
        rows=_share_trainings(rows, problems),
        overrides=dict(given),
        steps_per_silo=budget.get("steps-per-silo", 0),
        equal_groups=tuple(budget.get("equal-steps", ())),
        **{"title": path.stem, **plain},
    )
    if "tune-seed" not in top and spec.seeds:
        spec = replace(spec, tune_seed=spec.seeds[0])
    return spec


def _scenario(table: Table, beside: Path, problems: list[str]) -> Scenario:
    name = table.get("name")
    where = f"scenario '{name}'" if isinstance(name, str) else "a [[scenario]]"
    found = checked(where, table, SCENARIO_KEYS, problems, needed=("name",))
    partition = None
    if "partition" in found:
        needed = tuple(PARTITION_KEYS)[:-1]
        parts = checked(
            f"partition of {where}",
            found["partition"],
            PARTITION_KEYS,
            problems,
            needed=needed,
        )
        if set(needed) <= parts.keys():
            values = {key.replace("-", "_"): value for key, value in parts.items()}
            partition = Partitioning(**{**values, "types": tuple(values["types"])})
    if ("sites" in found) == ("partition" in found):
        problems.append(f"{where} needs either sites or a partition")
    return Scenario(
        name=found.get("name", ""),
        sites=(beside / found["sites"]).resolve() if "sites" in found else None,
        partition=partition,
        settings=flatten(found.get("settings", {})),
        trials_of=found.get("trials-of", ""),
    )


def _row(
    table: Table, common: tuple[dict[str, SettingValue], ...], problems: list[str]
) -> tuple[Row, str]:
    """Return a row and the name of the row whose training it shares, if any."""
    name = table.get("name")
    where = f"row '{name}'" if isinstance(name, str) else "a [[row]]"
    found = checked(where, table, ROW_KEYS, problems, needed=("name", "group"))
    source = found.get("same-training-as", "")
    taken = [key for key in ("trials", "trials-of", "settings", "kind") if key in found]
    if source and taken:
        problems.append(f"{where}: same-training-as leaves no room for {taken[0]}")
    if "trials" in found and "trials-of" in found:
        problems.append(f"{where}: give trials or trials-of, not both")
    trials = tuple(flatten(one) for one in found.get("trials", ())) or common
    kind = found.get("kind", "federation")
    return Row(
        name=found.get("name", ""),
        group=found.get("group", ""),
        settings=flatten(found.get("settings", {})),
        trials=() if "trials-of" in found or kind == "untrained" else trials,
        trials_of=found.get("trials-of", ""),
        model_of=found.get("model-of", "global"),
        scenarios=tuple(found.get("scenarios", ())),
        kind=kind,
        table=found.get("table", "equal-steps"),
        count=found.get("count", "all"),
        pooled_factor=float(found.get("pooled-steps-factor", 0.0)),
        shots=tuple(found["shots"]) if "shots" in found else None,
    ), source


def _share_trainings(
    rows: Sequence[tuple[Row, str]], problems: list[str]
) -> tuple[Row, ...]:
    """Give rows that share a training the settings and trials of the other."""
    by_name = {row.name: (row, source) for row, source in rows}
    complete = []
    for row, source in rows:
        if source:
            other, further = by_name.get(source, (None, ""))
            if other is None or further:
                problems.append(
                    f"row '{row.name}': same-training-as must name a row that trains, "
                    f"got '{source}'{hint(source, by_name)}"
                )
            else:
                row = replace(
                    row,
                    settings=other.settings,
                    trials=other.trials,
                    trials_of=other.trials_of,
                    kind=other.kind,
                    pooled_factor=other.pooled_factor,
                )
        complete.append(row)
    return tuple(complete)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise SettingsError(
            "The study file cannot be read. Give a TOML file that this program's user "
            "may read."
        ) from None
    except ValueError as error:  # no TOML, or no UTF-8
        raise SettingsError(f"The study file is not valid TOML: {error}.") from None
