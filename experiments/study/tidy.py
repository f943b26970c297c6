"""Every number of a study as rows of plain tables, one number a row."""

from collections.abc import Iterator

from experiments.study.columns import Cell, trial_words
from experiments.study.findings import Findings, Run
from experiments.study.statistics import summarise


def long_rows(findings: Findings) -> Iterator[dict[str, Cell]]:
    """Yield every number of every final run as a row of a tidy table.

    Args:
        findings: All results.

    Yields:
        Scenario, table, group, row, what is judged, seed, trial, part, measure, value.
        The part is such as "test/sites/northgate", the measure such as "dice".
    """
    for run in findings.runs():
        row = findings.spec.row(run.key.row)
        for name, value in {**run.numbers, **_draws(run)}.items():
            part, _, measure = name.rpartition("/")
            yield {
                "scenario": run.key.scenario,
                "table": row.table,
                "group": row.group,
                "row": row.name,
                "judged": row.model_of,
                "seed": run.job["seed"],
                "trial": run.job["trial"],
                "part": part,
                "measure": measure,
                "value": value,
            }


def tuning_rows(findings: Findings) -> list[dict[str, Cell]]:
    """Return every trial with its validation Dice, and which was chosen."""
    rows: list[dict[str, Cell]] = []
    for key, trials in findings.tunings.items():
        settings = findings.spec.trials_for(findings.spec.row(key.row))
        chosen = {run.job["trial"] for run in findings.finals.get(key, {}).values()}
        rows += [
            {
                "scenario": key.scenario,
                "row": key.row,
                "trial": trial,
                "settings": trial_words(settings[trial])
                if trial < len(settings)
                else None,
                "validation dice": dice,
                "chosen": int(trial in chosen),
            }
            for trial, dice in trials.items()
        ]
    return rows


def matrices_of(
    findings: Findings, scenario: str
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return Dice of every silo's model on every site's frames, means over seeds.

    Args:
        findings: All results.
        scenario: Name of a scenario.

    Returns:
        By row, silo of the model and site; rows without silo models are not there.
    """
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for key, runs in findings.finals.items():
        if key.scenario != scenario:
            continue
        crosses = [run.result.get("cross") or {} for run in runs.values()]
        for owner, sites in next((one for one in crosses if one), {}).items():
            for site in sites:
                values = findings.by_seed(key, f"cross/{owner}/{site}/dice").values()
                mean = summarise(list(values))
                row = found.setdefault(key.row, {}).setdefault(owner, {})
                row[site] = mean.mean if mean else None
    return found


def _draws(run: Run) -> dict[str, float]:
    """Return the draws behind the means of few-shot transfer, by name."""
    return {
        f"few_shot/{domain}/{shots}/dice draw {number}": value
        for domain, by_shots in (run.result.get("few_shot") or {}).items()
        for shots, found in by_shots.items()
        for number, value in enumerate(found["dice"])
    }
