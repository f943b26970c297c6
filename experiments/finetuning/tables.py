"""A few-shot study as tables for files: CSV for programs, Markdown for people."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from experiments.finetuning.fewshot import (
    SCORE_TITLES,
    SCORES,
    FinetuneResult,
    shots_text,
)
from experiments.finetuning.report import (
    caption_lines,
    column_names,
    rows_of,
    runs_of,
    spread_of,
    table_rows,
    task_of,
)

TEST = "test-"  # before the names of scores


def summary_of(results: Sequence[FinetuneResult]) -> list[dict[str, Any]]:
    """Return mean, deviation and interval of every row and score."""
    summary = []
    for row in rows_of(results):
        seeds = runs_of(results, row)
        entry: dict[str, Any] = {
            "method": row.method,
            "shots": row.shots or "all",
            "start": row.start,
            "seeds": len(seeds),
        }
        for name in seeds[0].scores:
            spread = spread_of(results, row, name)
            entry[f"test-{name}"] = {
                "mean": spread.mean,
                "sd": spread.sd,
                "low": spread.low,
                "high": spread.high,
            }
        summary.append(entry)
    return summary


def summary_csv(results: Sequence[FinetuneResult]) -> str:
    """Return `summary_of` as a table."""
    return _csv_of(_flat(summary_of(results)))


def markdown_of(results: Sequence[FinetuneResult]) -> str:
    """Return the table for a text document."""
    lines = ["| " + " | ".join(column_names(results)) + " |"]
    lines.append("|" + " --- |" * len(column_names(results)))
    lines += ["| " + " | ".join(cells) + " |" for cells in table_rows(results)]
    caption = [f"{line}  " for line in caption_lines(results)]  # two blanks: a new line
    return "\n".join([*lines, "", *caption, ""])


def kebab(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same with keys as files have them."""
    return {key.replace("_", "-"): value for key, value in content.items()}


def run_entry(result: FinetuneResult) -> dict[str, Any]:
    """Return a run as files have it: shots "all", scores as "test-..."."""
    run = kebab(asdict(result))
    run["shots"] = result.shots or "all"
    scores = {f"{TEST}{name}": value for name, value in run.pop("scores").items()}
    return {**run, **scores}


def runs_csv(results: Sequence[FinetuneResult]) -> str:
    """Return every run as a line."""
    rows = []
    for one in results:
        run = run_entry(one)
        run.pop("curve")
        rows.append(run)
    return _csv_of(rows)


def curves_csv(results: Sequence[FinetuneResult]) -> str:
    """Return every look at validation as a line."""
    decisive = SCORE_TITLES[SCORES[task_of(results)][0]]
    return _csv_of(
        [
            {
                "method": one.method,
                "shots": shots_text(one.shots),
                "start": one.start,
                "seed": one.seed,
                "step": int(point["step"]),
                "train-loss": point["train-loss"],
                f"validation {decisive}": point["validation"],
            }
            for one in results
            for point in one.curve
        ]
    )


def _flat(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    flat = []
    for row in rows:
        cells: dict[str, Any] = {}
        for name, value in row.items():
            if isinstance(value, Mapping):
                cells |= {f"{name}-{part}": number for part, number in value.items()}
            else:
                cells[name] = value
        flat.append(cells)
    return flat


def _csv_of(rows: Sequence[Mapping[str, Any]]) -> str:
    stream = io.StringIO()
    names = list(rows[0]) if rows else []
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
