"""What finetuning from a few labelled frames gave."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from experiments.report.formats import MISSING, number
from experiments.report.line_chart import Line, legend, line_chart, line_style
from experiments.report.markup import (
    EMPTY,
    Section,
    bullets,
    figure,
    folded,
    joined,
    paragraph,
    side_by_side,
    table,
)
from experiments.report.plain_text import as_list, as_mapping, as_number
from experiments.report.run import Run

SCORES = {
    "test-dice": "Dice",
    "test-cldice": "clDice",
    "test-macro-f1": "macro F1",
    "test-balanced-accuracy": "balanced accuracy",
}
INTERVAL = "95 % interval (Student's t) over seeds"
DEVIATION = "sample standard deviation over seeds"
DODGE = 0.07  # so that bars of two lines do not hide each other


@dataclass(frozen=True)
class Value:
    """A mean over seeds and half the length of its bar."""

    mean: float
    half: float | None
    is_interval: bool  # else a standard deviation


@dataclass(frozen=True)
class Row:
    """What one method and start gave at one number of shots."""

    group: str
    shots: str
    seeds: float | None
    values: Mapping[str, Value]  # by the names of SCORES


def fewshot_section(run: Run) -> Section | None:
    """Show every study of the run folder; None without any."""
    body = joined(_study(content) for content in run.fewshot)
    return Section("few-shot", "Few labelled frames", body) if body else None


def _study(content: Mapping[str, Any]) -> Markup:
    rows = _rows(as_list(content.get("summary")))
    names = [name for name in SCORES if any(name in row.values for row in rows)]
    if not names:
        return EMPTY
    lines = _lines(rows, names[0])
    values = [value for row in rows for value in row.values.values()]
    bar = INTERVAL if any(value.is_interval for value in values) else DEVIATION
    verdicts = [str(text) for text in as_list(content.get("verdict"))]
    parts = [
        paragraph(_on_what(content)),
        legend(lines),
        side_by_side(_chart(rows, name) for name in names),
        paragraph(f"Dots: means over seeds; bars: {bar}.", "note"),
        _table(rows, names, bar),
        bullets(verdicts) if verdicts else EMPTY,
    ]
    if isinstance(protocol := content.get("protocol"), str):
        parts.append(folded("How it was measured", paragraph(protocol)))
    return joined(parts)


def _on_what(content: Mapping[str, Any]) -> str:
    data = as_mapping(content.get("data"))
    if data.get("simulated") is False:
        return "Finetuned and tested on frames of a folder that the user named."
    domain = data.get("domain") or as_mapping(content.get("settings")).get("domain")
    named = f" “{domain}”" if isinstance(domain, str) else ""
    return f"Finetuned and tested on frames of a simulated domain{named}."


def _rows(summary: Sequence[object]) -> list[Row]:
    rows = []
    for one in map(as_mapping, summary):
        shots = one.get("shots")
        told = [one.get(key) for key in ("method", "start")]
        group = ", from ".join(text for text in told if isinstance(text, str))
        found = {name: _value(as_mapping(one.get(name))) for name in SCORES}
        values = {name: value for name, value in found.items() if value is not None}
        if isinstance(shots, int | str) and values:
            seeds = as_number(one.get("seeds"))
            rows.append(Row(group or "model", str(shots), seeds, values))
    return rows


def _value(content: Mapping[str, Any]) -> Value | None:
    mean, sd = as_number(content.get("mean")), as_number(content.get("sd"))
    low, high = as_number(content.get("low")), as_number(content.get("high"))
    if mean is None:
        return None
    if low is not None and high is not None:
        return Value(mean, (high - low) / 2, is_interval=True)
    return Value(mean, sd, is_interval=False)


def _shots(rows: Sequence[Row]) -> list[str]:
    """Return the numbers of shots, ascending; "all" is the last."""
    shots = {row.shots for row in rows}
    return sorted(shots, key=lambda one: (not one.isdecimal(), len(one), one))


def _groups(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.group for row in rows))


def _lines(rows: Sequence[Row], name: str) -> list[Line]:
    shots, groups = _shots(rows), _groups(rows)
    found = {(row.group, row.shots): row.values.get(name) for row in rows}
    lines = []
    for index, group in enumerate(groups):
        values = [found.get((group, one)) for one in shots]
        shift = DODGE * (index - (len(groups) - 1) / 2)
        means = [None if value is None else value.mean for value in values]
        points = [(place + shift, mean) for place, mean in enumerate(means)]
        halves = [None if value is None else value.half for value in values]
        lines.append(Line(group, points, line_style(index), halves))
    return lines


def _chart(rows: Sequence[Row], name: str) -> Markup:
    lines = _lines(rows, name)
    chart = line_chart(
        lines,
        description=f"Test {SCORES[name]} against labelled frames, {len(lines)} lines",
        x_name="labelled frames",
        x_texts=_shots(rows),
        y_range=(0.0, 1.0),
    )
    return figure(chart, f"Test {SCORES[name]}")


def _table(rows: Sequence[Row], names: Sequence[str], bar: str) -> Markup:
    places = {shots: place for place, shots in enumerate(_shots(rows))}
    ordered = sorted(rows, key=lambda row: places[row.shots])
    heads = ["frames · from", *(SCORES[name] for name in names), "seeds"]
    body = [
        [
            f"{row.shots} · {row.group}",
            *(_written(row.values.get(name)) for name in names),
            number(row.seeds, 0),
        ]
        for row in ordered
    ]
    return table(heads, body, caption=f"Test scores, mean ± {bar}")


def _written(value: Value | None) -> str:
    if value is None:
        return MISSING
    half = "" if value.half is None else f" ± {number(value.half)}"
    return f"{number(value.mean)}{half}"
