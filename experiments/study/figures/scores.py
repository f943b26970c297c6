"""Test Dice of every row and seed."""

from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure

from experiments.study.columns import DICE
from experiments.study.figures.style import row_label, tidy
from experiments.study.findings import Findings, Key
from experiments.study.tables import Sections
from server.figure_style import COLOURS, save


def draw_scores(
    findings: Findings, scenario: str, sections: Sections, path: Path
) -> Path | None:
    """Draw test Dice of every row: every seed a dot, the mean a line.

    Args:
        findings: All results.
        scenario: Name of a scenario.
        sections: Rows by group.
        path: PNG to write.

    Returns:
        The path; None if no row has a result.
    """
    found = {
        row.name: (place, [100 * one for one in values if one is not None])
        for place, rows in enumerate(sections.values())
        for row in rows
        if (values := findings.by_seed(Key(scenario, row.name), DICE).values())
    }
    if not found:
        return None
    figure = Figure(figsize=(7.5, 0.9 + 0.26 * len(found)), layout="constrained")
    axes = figure.subplots()
    for line, (place, values) in enumerate(found.values()):
        colour = COLOURS[place % len(COLOURS)]
        axes.plot(values, [line] * len(values), "o", color=colour, markersize=5)
        axes.vlines([fmean(values)] if values else [], line - 0.35, line + 0.35, colour)
    axes.set_yticks(range(len(found)), list(map(row_label, found)), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("Dice on all sites' test frames, %; a dot a seed, a line the mean")
    tidy(axes)
    axes.set_title(scenario.replace("$", r"\$"), fontsize=11)
    return save(figure, path)
