"""What the figures of a study share: which rows are named, and how they look.

With thirty rows nobody tells thirty colours apart. Of more than ten, named and coloured
are the pooled row, the reference and the highest mean Dice of each group; every other
one is grey and thin, there to show the spread. A file depends on the results alone: no
date.
"""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from experiments.study.columns import DICE
from experiments.study.findings import Findings, Key
from experiments.study.tables import Sections
from server.figure_style import GLOBAL_STYLE, LineStyles, label, line_styles

GREY: dict[str, Any] = {"color": "#BBBBBB", "linewidth": 0.8, "zorder": 1}
LONGEST = 32  # characters of a row's name
MAX_NAMED = 10
"""Rows; of so few all are named."""
LEGEND_INCHES = 3.0  # of width for a column
GB = 1e9
"""Bytes."""


def highlighted(findings: Findings, scenario: str, sections: Sections) -> list[str]:
    """Return the rows that a figure names.

    Args:
        findings: All results.
        scenario: Name of a scenario.
        sections: Rows by group.

    Returns:
        All rows that have results if they are few; else the pooled row, the reference,
        and the highest mean Dice of each group.
    """
    begun = [
        row.name
        for rows in sections.values()
        for row in rows
        if findings.finals.get(Key(scenario, row.name))
    ]
    if len(begun) <= MAX_NAMED:
        return begun
    wanted = [findings.spec.upper_bound, findings.spec.reference]
    for rows in sections.values():
        means = {
            row.name: found.mean
            for row in rows
            if (found := findings.summary(Key(scenario, row.name), DICE))
        }
        wanted += [max(means, key=lambda name: means[name])] if means else []
    return [name for name in dict.fromkeys(wanted) if name in begun]


def row_styles(findings: Findings, names: Sequence[str]) -> LineStyles:
    """Return the look of the rows that a figure names, and how it names them.

    Args:
        findings: All results.
        names: The rows.

    Returns:
        Keyword arguments of `Axes.plot` for every row; the pooled one's line is black.
    """
    bound = findings.spec.upper_bound
    styles = line_styles([name for name in names if name != bound])
    if bound in names:
        styles = {bound: {**GLOBAL_STYLE, "linewidth": 2.0, "marker": "."}, **styles}
    return {name: {**style, "label": row_label(name)} for name, style in styles.items()}


def row_label(row: str) -> str:
    """Return the name of a row, short enough for a legend."""
    return label(row, LONGEST)


def finish(figure: Figure, panels: Sequence[Axes], title: str) -> None:
    """Give a figure its title and one legend below all panels.

    Args:
        figure: Whose layout is constrained.
        panels: All of its axes.
        title: Above the panels.
    """
    found: dict[str, Any] = {}
    for axes in panels:
        tidy(axes)
        handles, labels = axes.get_legend_handles_labels()
        found = {**dict(zip(labels, handles, strict=True)), **found}
    if found:
        columns = max(1, round(figure.get_figwidth() / LEGEND_INCHES))
        where = {"loc": "outside lower center", "ncols": columns, "frameon": False}
        figure.legend(found.values(), found.keys(), **where)
    figure.suptitle(title.replace("$", r"\$"), fontsize=11)


def make_traffic_axis(axes: Axes) -> None:
    """Let x be the gigabytes sent, by powers: rows differ by far more than twice."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("GB, both ways, all silos")


def tidy(axes: Axes) -> None:
    """Give axes a pale grid and no box."""
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
