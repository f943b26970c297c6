"""Learning curves: validation Dice against rounds and against bytes."""

from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.study.figures.style import (
    GB,
    GREY,
    finish,
    highlighted,
    make_traffic_axis,
    row_styles,
)
from experiments.study.findings import Findings, Key
from experiments.study.tables import Sections
from server.figure_style import save

POINT = ("round", "dice", "bytes")


def draw_learning(
    findings: Findings, scenario: str, sections: Sections, path: Path
) -> Path | None:
    """Draw validation Dice against rounds and bytes, means over seeds.

    Args:
        findings: All results.
        scenario: Name of a scenario.
        sections: Rows by group.
        path: PNG to write.

    Returns:
        The path; None if no row has a curve of what it is judged by.
    """
    lines = {
        row.name: curve
        for rows in sections.values()
        for row in rows
        if (curve := mean_curve(findings, Key(scenario, row.name)))
    }
    if not lines:
        return None
    figure = Figure(figsize=(9.5, 4.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    styles = row_styles(findings, highlighted(findings, scenario, sections))
    for axes, unit in zip(panels, ("round", "bytes"), strict=True):
        for name, curve in lines.items():
            places = [one[unit] / (GB if unit == "bytes" else 1) for one in curve]
            dice = [100 * one["dice"] for one in curve]
            if max(places) > 0:
                axes.plot(places, dice, **styles.get(name, GREY))
            else:  # it sends nothing: where it ends, for comparison
                style = {**styles.get(name, GREY), "linestyle": ":", "marker": ""}
                axes.axhline(dice[-1], **style)
    panels[0].set_xlabel("round")
    make_traffic_axis(panels[1])
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set_ylabel("Dice on validation frames, %")
    finish(figure, panels, f"Learning, {scenario}")
    return save(figure, path)


def mean_curve(findings: Findings, key: Key) -> list[dict[str, float]]:
    """Average the curves of a line's seeds, point by point.

    Args:
        findings: All results.
        key: The line.

    Returns:
        Points with "round", "dice" (0 to 1) and "bytes", as many as the shortest has;
        where a seed has no Dice there is no point.
    """
    curves = [run.curve for run in findings.finals.get(key, {}).values()]
    points = zip(*curves, strict=False) if curves else ()
    return [
        {name: fmean(float(one[name]) for one in point) for name in POINT}
        for point in points
        if all(one.get("dice") is not None for one in point)
    ]
