"""Test Dice of every row and seed."""

from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure

from experiments.study.columns import DICE
from experiments.study.figures.style import tidy
from experiments.study.findings import Findings, Key
from experiments.study.tables import Sections
from server.figure_style import COLOURS, label, save

LONGEST = 48  # characters of a row's name


def draw_scores(
    findings: Findings, scenario: str, sections: Sections, path: Path
) -> Path | None:
    """Draw test Dice of every row: every seed a dot, the mean a bar.

    Thin lines through all rows are the means of the pooled row and of the reference.

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
    spec = findings.spec
    figure = Figure(figsize=(7.5, 0.9 + 0.26 * len(found)), layout="constrained")
    axes = figure.subplots()
    for line, (place, values) in enumerate(found.values()):
        colour = COLOURS[place % len(COLOURS)]
        axes.plot(values, [line] * len(values), "o", color=colour, markersize=5)
        axes.vlines([fmean(values)] if values else [], line - 0.35, line + 0.35, colour)
    for name, dashes in ((spec.upper_bound, ":"), (spec.reference, "--")):
        if name in found and found[name][1]:
            mean = fmean(found[name][1])
            axes.axvline(mean, color="black", linestyle=dashes, linewidth=0.8, zorder=1)
    names = [label(name, LONGEST) for name in found]
    axes.set_yticks(range(len(found)), names, fontsize=8)
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_xlabel(
        "Dice on all sites' test frames, %; a dot a seed, a bar the mean, "
        "a colour a group\n"
        "thin lines: means of the pooled row (dotted) and of the reference (dashed)",
        fontsize=8,
    )
    tidy(axes)
    axes.set_title(scenario.replace("$", r"\$"), fontsize=11)
    return save(figure, path)
