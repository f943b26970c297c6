"""The figures of a study: learning curves, few-shot curves, and who models whom.

With thirty rows nobody tells thirty colours apart. Named and coloured are the pooled
row, the reference and the highest mean Dice of each group; every other row is a thin
grey line, there to show the spread. A file depends on the results alone: no date.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from experiments.study.columns import DICE
from experiments.study.findings import MB, Findings, Key
from experiments.study.statistics import Summary
from experiments.study.tables import Sections
from server.figure_style import COLOURS, GLOBAL_STYLE, label, line_styles, save

GREY: dict[str, Any] = {"color": "#BBBBBB", "linewidth": 0.8, "zorder": 1}
MAX_PANELS = 16
MAX_WITH_NUMBERS = 12
"""Sites; in a matrix of more, numbers would cover each other."""
NO_NUMBER_COLOUR = "#E5E5E5"
LONGEST = 32  # characters of a row's name
LEGEND_INCHES = 3.0  # of width for a column
POINT = ("round", "dice", "bytes")


def highlighted(findings: Findings, scenario: str, sections: Sections) -> list[str]:
    """Return the rows that a figure names.

    Args:
        findings: All results.
        scenario: Name of a scenario.
        sections: Rows by group.

    Returns:
        Pooled row, reference, and the highest mean Dice of each group, where they have
        results; without double names.
    """
    spec = findings.spec
    wanted = [spec.upper_bound, spec.reference]
    for rows in sections.values():
        means = {
            row.name: found.mean
            for row in rows
            if (found := findings.summary(Key(scenario, row.name), DICE))
        }
        wanted += [max(means, key=lambda name: means[name])] if means else []
    present = {row.name for rows in sections.values() for row in rows}
    return [
        name
        for name in dict.fromkeys(wanted)
        if name in present and findings.finals.get(Key(scenario, name))
    ]


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
    styles = _styles(findings, highlighted(findings, scenario, sections))
    for axes, unit in zip(panels, ("round", "MB"), strict=True):
        for name, curve in lines.items():
            is_round = unit == "round"
            places = [one["round"] if is_round else one["bytes"] / MB for one in curve]
            dice = [100 * one["dice"] for one in curve]
            if max(places) > 0:
                axes.plot(places, dice, **styles.get(name, GREY))
            else:  # it sends nothing: where it ends, for comparison
                style = {**styles.get(name, GREY), "linestyle": ":", "marker": ""}
                axes.axhline(dice[-1], **style)
        axes.set_xlabel("round" if unit == "round" else "MB, both ways, all silos")
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set_ylabel("Dice on validation frames, %")
    _finish(figure, panels, styles, f"Learning, {scenario}")
    return save(figure, path)


def draw_few_shot(
    findings: Findings, scenario: str, sections: Sections, path: Path
) -> Path | None:
    """Draw Dice after finetuning against the number of labelled frames.

    Args:
        findings: All results.
        scenario: Name of a scenario.
        sections: Rows by group.
        path: PNG to write.

    Returns:
        The path; None if the scenario has no few-shot result.
    """
    shots = findings.shots(scenario)
    domains = list(dict.fromkeys(domain for domain, _ in shots))
    if not domains:
        return None
    figure = Figure(figsize=(1 + 4.4 * len(domains), 4.8), layout="constrained")
    panels = figure.subplots(1, len(domains), sharey=True, squeeze=False)[0]
    styles = _styles(findings, highlighted(findings, scenario, sections))
    for axes, domain in zip(panels, domains, strict=True):
        counts = [0, *(count for one, count in shots if one == domain)]
        for rows in sections.values():
            for row in rows:
                found = _transfer(findings, Key(scenario, row.name), domain, counts)
                if found.keys() <= {0}:  # as it came, and no finetuning of it
                    continue
                places = [counts.index(count) for count in found]
                means = [100 * one.mean for one in found.values()]
                style = styles.get(row.name, GREY)
                axes.plot(places, means, **style)
                if row.name in styles:
                    sds = [100 * (one.sd or 0.0) for one in found.values()]
                    bars = {"fmt": "none", "capsize": 3, "ecolor": style["color"]}
                    axes.errorbar(places, means, yerr=sds, **bars)
        axes.set_xticks(range(len(counts)), list(map(str, counts)))
        axes.set(xlabel="labelled frames (0: as it came)", title=label(domain))
    panels[0].set_ylabel("Dice on test frames of the domain, %")
    _finish(figure, panels, styles, f"Finetuning on domains nobody holds, {scenario}")
    return save(figure, path)


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
    axes.set_yticks(range(len(found)), list(map(_label, found)), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("Dice on all sites' test frames, %; a dot a seed, a line the mean")
    _tidy(axes)
    axes.set_title(scenario.replace("$", r"\$"), fontsize=11)
    return save(figure, path)


def draw_matrices(
    matrices: Mapping[str, Mapping[str, Mapping[str, float | None]]],
    path: Path,
    *,
    title: str,
) -> Path | None:
    """Draw every silo's model on every site's test frames, a panel a row.

    Args:
        matrices: Dice by row, by the model's silo and by site; the first 16 rows.
        path: PNG to write.
        title: Above them.

    Returns:
        The path; None if there is no matrix.
    """
    if not (shown := dict(list(matrices.items())[:MAX_PANELS])):
        return None
    columns, height = min(len(shown), 4), -(-len(shown) // 4)
    figure = Figure(figsize=(3.4 * columns + 1.2, 3.4 * height), layout="constrained")
    panels = figure.subplots(height, columns, squeeze=False)
    image = None
    for axes, (name, matrix) in zip(panels.flat, shown.items(), strict=False):
        image = _draw_matrix(axes, matrix)
        axes.set_title(_label(name), fontsize=10)
    for axes in list(panels.flat)[len(shown) :]:
        axes.set_axis_off()
    figure.supxlabel("on the test frames of")
    figure.supylabel("model of")
    figure.suptitle(title, fontsize=11)
    if image is not None:
        figure.colorbar(image, ax=panels.ravel().tolist(), shrink=0.7, label="Dice, %")
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


def _transfer(
    findings: Findings, key: Key, domain: str, counts: Sequence[int]
) -> dict[int, Summary]:
    names = {
        count: f"few_shot/{domain}/{count}/dice" if count else f"unseen/{domain}/dice"
        for count in counts
    }
    found = {count: findings.summary(key, name) for count, name in names.items()}
    return {count: one for count, one in found.items() if one is not None}


def _draw_matrix(
    axes: Axes, matrix: Mapping[str, Mapping[str, float | None]]
) -> AxesImage:
    sites = list(dict.fromkeys(site for row in matrix.values() for site in row))
    values = np.array(
        [[_percent(row.get(site)) for site in sites] for row in matrix.values()]
    )
    axes.set_facecolor(NO_NUMBER_COLOUR)
    image = axes.imshow(values, cmap="cividis", vmin=0, vmax=100)
    slanted = {"rotation": 45, "ha": "right", "fontsize": 7}
    axes.set_xticks(range(len(sites)), list(map(label, sites)), **slanted)
    axes.set_yticks(range(len(matrix)), list(map(label, matrix)), fontsize=7)
    if len(sites) <= MAX_WITH_NUMBERS:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                style = {"color": "white" if value < 50 else "black", "fontsize": 7}
                axes.text(
                    column, row, f"{value:.0f}", ha="center", va="center", **style
                )
    return image


def _percent(value: float | None) -> float:
    return np.nan if value is None else 100 * value


def _styles(findings: Findings, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    bound = findings.spec.upper_bound
    styles = line_styles([name for name in names if name != bound])
    if bound in names:
        styles = {bound: {**GLOBAL_STYLE, "linewidth": 2.0}, **styles}
    return {name: {**style, "label": _label(name)} for name, style in styles.items()}


def _label(row: str) -> str:
    return label(row, LONGEST)


def _finish(
    figure: Figure, panels: Sequence[Axes], styles: Mapping[str, Any], title: str
) -> None:
    found: dict[str, Any] = {}
    for axes in panels:
        _tidy(axes)
        handles, labels = axes.get_legend_handles_labels()
        found = {**dict(zip(labels, handles, strict=True)), **found}
    if found:
        columns = max(1, round(figure.get_figwidth() / LEGEND_INCHES))
        where = {"loc": "outside lower center", "ncols": columns, "frameon": False}
        figure.legend(found.values(), found.keys(), **where)
    figure.suptitle(title.replace("$", r"\$"), fontsize=11)


def _tidy(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
