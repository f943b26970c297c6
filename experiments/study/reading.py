"""Reads what the jobs of a study found, from their files alone.

A job's folder has `job.json` and, when it is done, `result.json`, or `error.json` with
the reason why it failed. Nothing here stops at a broken file: it becomes a sentence.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from experiments.study.findings import MB, Findings, Key, Run
from experiments.study.jobs import (
    FORMAT,
    JOB_FILE,
    JOBS,
    RESULT_FILE,
    comparable,
    read_error,
    read_json,
)
from experiments.study.spec import StudySpec
from experiments.study.statistics import SHARE, reach

NEEDED = {"scenario", "row", "seed", "trial", "purpose"}
NOT_YET = "has no result yet"
NOT_BEGUN = "was not begun"


def read_findings(folder: Path, spec: StudySpec) -> Findings:
    """Read all results of a study.

    Args:
        folder: Of the study.
        spec: Names scenarios, rows and seeds. What it does not name is left out, and
            what was made with other settings than it says.

    Returns:
        The findings; whatever is wrong with a job is one of the problems.
    """
    runs, broken = _read_runs(folder)
    found_there = len(runs)
    runs = [run for run in runs if _is_asked(run.job, spec)]
    others = found_there - len(runs)
    broken = [(job, why) for job, why in broken if _is_asked(job, spec)]
    tunings = _tunings(runs)
    finals: dict[Key, dict[int, Run]] = {}
    missing = []
    for scenario in spec.scenarios:
        for row in spec.rows_in(scenario):
            key = Key(scenario.name, row.name)
            place, tuned = spec.tuned_as(scenario, row)
            source = Key(place.name, tuned.name)
            for seed in spec.seeds:
                found = _chosen(runs, key, seed, tunings.get(source, {}))
                if found is None:
                    missing.append((key, seed))
                else:
                    finals.setdefault(key, {})[seed] = found
    return Findings(
        spec,
        _with_reach(finals, spec.upper_bound),
        tunings,
        missing=len(missing),
        problems=(
            *_problems(spec, missing, broken),
            *_missing_trials(spec, tunings, broken),
            *_of_others(others),
        ),
        seconds=sum(float(run.result.get("duration_s") or 0.0) for run in runs),
    )


def flat_numbers(result: Mapping[str, Any]) -> dict[str, float | None]:
    """Give every number of a result its flat name.

    Args:
        result: As `result.json` has it.

    Returns:
        Numbers by name; None for null and for what is not finite. Lists are means.
    """
    parts = ("validation", "test", "unseen", "few_shot", "cross", "cost")
    numbers: dict[str, float | None] = {}
    for part in parts:
        _flatten(result.get(part) or {}, part, numbers)
    rounds, sent = numbers.get("cost/rounds"), numbers.get("cost/bytes")
    if sent is not None:
        numbers["cost/mb"] = sent / MB
        numbers["cost/mb_per_round"] = sent / MB / rounds if rounds else None
    return numbers


def _flatten(value: Any, name: str, into: dict[str, float | None]) -> None:  # noqa: ANN401 - JSON
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _flatten(inner, f"{name}/{key}", into)
    elif isinstance(value, list):
        known = [one for one in map(_number, value) if one is not None]
        into[name] = fmean(known) if known else None
    else:
        into[name] = _number(value)


def _number(value: Any) -> float | None:  # noqa: ANN401 - JSON
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if is_number else None


def _read_runs(folder: Path) -> tuple[list[Run], list[tuple[Mapping[str, Any], str]]]:
    """Return the jobs that ended well, and the others with the reason."""
    runs, broken = [], []
    for path in sorted((folder / JOBS).glob(f"*/{JOB_FILE}")):
        job = read_json(path)
        if job is None or NEEDED - job.keys():
            continue
        result = read_json(path.with_name(RESULT_FILE))
        if result is not None and result.get("format") == FORMAT:
            runs.append(Run(job, result, flat_numbers(result)))
        else:
            broken.append((job, _why(path.parent, result)))
    return runs, broken


def _why(folder: Path, result: Mapping[str, Any] | None) -> str:
    if result is not None:
        return f"has a result of format {result.get('format')}, {FORMAT} was wanted"
    if (folder / RESULT_FILE).exists():
        return "has a result that cannot be read"
    error = read_error(folder)
    return NOT_YET if error is None else f"failed: {error}"


def _tunings(runs: list[Run]) -> dict[Key, dict[int, float | None]]:
    found: dict[Key, dict[int, float | None]] = {}
    for run in runs:
        if run.job["purpose"] == "tune":
            trials = found.setdefault(run.key, {})
            trials[run.job["trial"]] = run.numbers.get("validation/dice")
    return {key: dict(sorted(trials.items())) for key, trials in found.items()}


def _chosen(
    runs: list[Run], key: Key, seed: int, trials: Mapping[int, float | None]
) -> Run | None:
    """Return a line's run of a seed, of the trial that tuning prefers.

    Where no trial has been measured, of the first that there is.
    """
    best = max(trials, key=lambda one: _rank(trials[one], one), default=None)
    finals = [
        run
        for run in runs
        if (run.key, run.job["seed"], run.job["purpose"]) == (key, seed, "final")
        and best in (None, run.job["trial"])
    ]
    return min(finals, key=lambda run: int(run.job["trial"]), default=None)


def _rank(dice: float | None, trial: int) -> tuple[float, int]:
    return (-math.inf if dice is None else dice, -trial)


def _is_asked(job: Mapping[str, Any], spec: StudySpec) -> bool:
    """Tell whether a job is one of the study as its file reads now."""
    scenarios = {one.name: one for one in spec.scenarios}
    rows = {one.name: one for one in spec.rows}
    scenario, row = scenarios.get(job["scenario"]), rows.get(job["row"])
    if scenario is None or row is None or row not in spec.rows_in(scenario):
        return False
    if job["trial"] >= len(spec.trials_for(row)):
        return False
    asked = spec.settings_of(scenario, row, job["trial"], job["seed"])
    return comparable(job.get("settings", asked)) == comparable(asked)


def _of_others(count: int) -> Iterator[str]:
    if count:
        yield (
            f"{count} result(s) of other rows, or made with other settings than the "
            "study file has now, are left out"
        )


def _problems(
    spec: StudySpec,
    missing: Sequence[tuple[Key, int]],
    broken: Sequence[tuple[Mapping[str, Any], str]],
) -> Iterator[str]:
    """Say what is missing among the final runs."""
    reasons = {
        (Key(job["scenario"], job["row"]), job["seed"]): why
        for job, why in broken
        if job["purpose"] == "final"
    }
    seeds: dict[tuple[Key, str], list[int]] = {}
    for key, seed in missing:
        seeds.setdefault((key, reasons.get((key, seed), NOT_BEGUN)), []).append(seed)
    not_begun: dict[str, list[str]] = {}
    for (key, why), ones in seeds.items():
        if why == NOT_BEGUN and len(ones) == len(spec.seeds):
            not_begun.setdefault(key.scenario, []).append(key.row)
            continue
        which = "seed" if len(ones) == 1 else "seeds"
        numbers = ", ".join(map(str, ones))
        yield f"scenario {key.scenario}, row {key.row}, {which} {numbers}: {why}"
    for scenario, names in not_begun.items():
        yield f"scenario {scenario}, rows not begun: {'; '.join(names)}"


def _missing_trials(
    spec: StudySpec,
    tunings: Mapping[Key, Mapping[int, float | None]],
    broken: Sequence[tuple[Mapping[str, Any], str]],
) -> Iterator[str]:
    """Name trials without a result, of rows of which another trial has one."""
    reasons = {
        (Key(job["scenario"], job["row"]), job["trial"]): why
        for job, why in broken
        if job["purpose"] == "tune" and why != NOT_YET
    }
    for scenario in spec.scenarios:
        for row in spec.rows_in(scenario):
            key = Key(scenario.name, row.name)
            known = tunings.get(key, {})
            for trial in range(len(spec.trials_for(row))):
                why = reasons.get((key, trial), NOT_BEGUN if known else "")
                if trial not in known and why:
                    yield (
                        f"scenario {key.scenario}, row {key.row}, trial {trial + 1} "
                        f"(tuning): {why}"
                    )


def _with_reach(
    finals: Mapping[Key, Mapping[int, Run]], upper_bound: str
) -> dict[Key, dict[int, Run]]:
    """Add when each run came to 90 % of the pooled one's validation Dice."""
    return {
        key: {
            seed: Run(run.job, run.result, {**run.numbers, **_reach(run, pooled)})
            for seed, run in by_seed.items()
            for pooled in [finals.get(Key(key.scenario, upper_bound), {}).get(seed)]
        }
        for key, by_seed in finals.items()
    }


def _reach(run: Run, pooled: Run | None) -> dict[str, float | None]:
    wanted = None if pooled is None else pooled.numbers.get("validation/dice")
    if wanted is None or not run.curve:
        return {}
    found = reach(run.curve, SHARE * wanted)
    if found is None:
        return dict.fromkeys(("reach/rounds", "reach/mb", "reach/steps"))
    return {
        "reach/rounds": float(found.rounds),
        "reach/mb": found.bytes / MB,
        "reach/steps": float(found.steps),
    }
