"""Figures of teachers and students: what they were worth, and who teaches whom.

An edge leads from a teacher (the model that a host trained) to its student. The score
matrix uses cividis (Nunez et al., PLoS ONE 13(7), 2018), which colour-blind readers
can read. Scores and weights come from the records of a run; this module computes
nothing but means.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle

from server.edge_heatmap import HATCH, HATCH_COLOUR
from server.figure_style import COLOURS, label, line_styles, save, tidy
from server.records import EdgeRecord
from server.series import (
    Event,
    edge_series,
    edges_by_round,
    mean_scores,
    site_names,
    student_series,
    without_controls,
)

MAX_EDGE_LINES = 12  # more edges are drawn as one mean line a student
MAX_ARROWS_WITH_SCORE = 20
MAX_SITES_WITH_TEXT = 12
MAX_SHORT_NAME = 26  # characters of an edge, of which three fit beside each other
ARROW_COLOUR = "#555555"
ARROW_BEND = 0.15  # share of the distance, so that both directions can be seen

Place = tuple[float, float]


def draw_edges(events: Sequence[Event], path: Path) -> Path:
    """Draw what teachers were worth to students.

    Left: mean EMD score over the rounds, student by teacher; the diagonal, hatched, is
    the control. Right: score and weight over the rounds, of every edge, or of every
    student where edges are many.

    Args:
        events: From `read_events`.
        path: PNG to write.

    Returns:
        The path; without edges the figure says so.
    """
    by_round = edges_by_round(events)
    figure = Figure(figsize=(11, 5), layout="constrained")
    if not by_round:
        figure.text(0.5, 0.5, "No teachers in this run", ha="center", va="center")
        return save(figure, path)
    grid = figure.add_gridspec(1, 2, width_ratios=(1, 1.1))
    left, right = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    _draw_score_matrix(left, mean_scores(by_round), _names(events))
    _draw_lines(right, without_controls(by_round))
    return save(figure, path)


def draw_topology(
    sites: Sequence[str], edges: Sequence[EdgeRecord], path: Path
) -> Path:
    """Draw who teaches whom: sites on a circle, an arrow from teacher to student.

    Args:
        sites: All sites, also those without edges.
        edges: Each once, of one round or means over all; arrows that weigh more are
            thicker. Scores are written while there is room for them and colours
            beyond; those of controls stand below the names.
        path: PNG to write.

    Returns:
        The path.
    """
    figure = Figure(figsize=(6.5, 5.6), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-1.75, 1.75), ylim=(-1.35, 1.35), aspect="equal")
    axes.axis("off")
    arrows = [edge for edge in edges if not edge.is_control]
    own = {edge.student: edge.score for edge in edges if edge.is_control}
    roomy = len(arrows) <= MAX_ARROWS_WITH_SCORE
    told = "number" if roomy else "colour"
    figure.suptitle(
        f"Who teaches whom (arrow: teacher → student, {told}: mean EMD score)",
        fontsize=11,
    )
    ends = {name for edge in edges for name in (edge.student, edge.teacher)}
    places = _circle(sorted({*sites, *ends}))
    heaviest = max((edge.weight or 0.0 for edge in arrows), default=0.0) or 1.0
    colour_of = _plain if roomy else _colour_scale(figure, axes, arrows)
    for edge in arrows:
        start, end = places[edge.teacher], places[edge.student]
        share = (edge.weight or 0.0) / heaviest
        width = (0.8 + 2.2 * share) * (1 if roomy else 0.5)
        _draw_arrow(axes, start, end, width=width, colour=colour_of(edge.score))
        if roomy and edge.score is not None:
            _write_score(axes, start, end, edge.score)
    for site, place in places.items():
        axes.plot(*place, "o", markersize=16, color=COLOURS[0], zorder=3)
        score = own.get(site)
        control = "" if score is None else f"\nitself {score:.3f}"
        _write_outside(axes, place, label(site) + control)
    return save(figure, path)


def _names(events: Sequence[Event]) -> list[str]:
    """Return all sites and teachers; a teacher need not be a site ("global")."""
    teachers = {
        edge.teacher for edges in edges_by_round(events).values() for edge in edges
    }
    return sorted({*site_names(events), *teachers})


def _draw_score_matrix(
    figure: SubFigure, scores: Mapping[tuple[str, str], float], sites: Sequence[str]
) -> None:
    """Draw student by teacher; pairs that never met stay grey."""
    matrix = np.full((len(sites), len(sites)), np.nan)
    for (student, teacher), score in scores.items():
        matrix[sites.index(student), sites.index(teacher)] = score
    # Whole tenths around the scores: small differences show, noise is not blown up.
    low = math.floor(10 * min(scores.values(), default=0.0)) / 10
    high = max(math.ceil(10 * max(scores.values(), default=1.0)) / 10, low + 0.1)
    axes = figure.subplots()
    axes.set_facecolor("#E5E5E5")
    image = axes.imshow(matrix, cmap="cividis", vmin=low, vmax=high)
    figure.colorbar(image, ax=axes, shrink=0.75, label="EMD score (1 = alike)")
    names = [label(site) for site in sites]
    axes.set_xticks(range(len(sites)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(sites)), names)
    axes.set(xlabel="teacher", ylabel="student", title="Mean score over the rounds")
    for place, site in enumerate(sites):
        if (site, site) in scores:
            axes.add_patch(_hatched_cell(place))
    if len(sites) <= MAX_SITES_WITH_TEXT:
        _write_cells(axes, matrix, middle=(low + high) / 2)


def _hatched_cell(place: int) -> Rectangle:
    """Mark a cell of the diagonal as a control."""
    return Rectangle(
        (place - 0.5, place - 0.5),
        1,
        1,
        fill=False,
        hatch=HATCH,
        edgecolor=HATCH_COLOUR,
        linewidth=0,
    )


def _write_cells(axes: Axes, matrix: np.ndarray, middle: float) -> None:
    size = 9 if len(matrix) <= 6 else 6
    for row, column in np.argwhere(~np.isnan(matrix)):
        score = float(matrix[row, column])
        axes.text(
            column,
            row,
            f"{score:.3f}",
            ha="center",
            va="center",
            color="white" if score < middle else "black",
            fontsize=size,
        )


def _draw_lines(
    figure: SubFigure, by_round: Mapping[int, Sequence[EdgeRecord]]
) -> None:
    """Draw scores above and weights below, over the rounds that have edges."""
    scores, weights = edge_series(by_round, "score"), edge_series(by_round, "weight")
    title = "Every edge over the rounds"
    names = {
        pair: f"{label(teacher)} → {label(student)}"
        for pair in scores
        for student, teacher in [pair]
    }
    if len(scores) > MAX_EDGE_LINES:
        title = "Mean over the teachers of a student"
        scores, weights = student_series(scores), student_series(weights)
        names = {pair: f"student {label(pair[0])}" for pair in scores}
    styles = line_styles(list(names.values()))
    upper, lower = figure.subplots(2, 1, sharex=True)
    for pair, name in names.items():
        upper.plot(list(by_round), scores[pair], label=name, **styles[name])
        lower.plot(list(by_round), weights[pair], **styles[name])
    upper.set(title=title, ylabel="EMD score")
    lower.set(xlabel="round", ylabel="weight of the teacher")
    tidy(upper)
    tidy(lower)
    if not names:  # controls only
        return
    columns = 3 if max(map(len, names.values())) <= MAX_SHORT_NAME else 2
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=8)


def _circle(sites: Sequence[str]) -> dict[str, Place]:
    """Place sites on the unit circle, clockwise from the top."""
    step = 2 * math.pi / max(len(sites), 1)
    return {
        site: (math.sin(index * step), math.cos(index * step))
        for index, site in enumerate(sites)
    }


def _plain(_: float | None) -> str:
    """Give every arrow one colour."""
    return ARROW_COLOUR


def _colour_scale(
    figure: Figure, axes: Axes, edges: Sequence[EdgeRecord]
) -> Callable[[float | None], str]:
    """Draw a scale of scores beside the axes and return the colour of a score."""
    known = [edge.score for edge in edges if edge.score is not None]
    scale = ScalarMappable(
        Normalize(min(known, default=-1.0), max(known, default=1.0)), "cividis"
    )
    figure.colorbar(scale, ax=axes, shrink=0.6, label="EMD score (1 = alike)")
    return lambda score: ARROW_COLOUR if score is None else to_hex(scale.to_rgba(score))


def _draw_arrow(
    axes: Axes, start: Place, end: Place, *, width: float, colour: str
) -> None:
    look = {
        "arrowstyle": "-|>",
        "connectionstyle": f"arc3,rad={ARROW_BEND}",
        "linewidth": width,
        "color": colour,
        "shrinkA": 11,
        "shrinkB": 11,
        "mutation_scale": 8 + 2 * width,
    }
    axes.annotate("", xy=end, xytext=start, arrowprops=look)


def _write_score(axes: Axes, start: Place, end: Place, score: float) -> None:
    """Write a score on the middle of a bent arrow."""
    (x1, y1), (x2, y2) = start, end
    # A quadratic Bezier curve passes its middle at half the height of its control
    # point, which arc3 puts ARROW_BEND of the distance aside.
    x = 0.5 * (x1 + x2) + 0.5 * ARROW_BEND * (y2 - y1)
    y = 0.5 * (y1 + y2) - 0.5 * ARROW_BEND * (x2 - x1)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    axes.text(x, y, f"{score:.3f}", ha="center", va="center", fontsize=9, bbox=box)


def _write_outside(axes: Axes, place: Place, text: str) -> None:
    x, y = 1.14 * place[0], 1.14 * place[1]
    horizontal = "center" if abs(x) < 0.2 else ("left" if x > 0 else "right")
    vertical = "center" if abs(y) < 0.9 else ("bottom" if y > 0 else "top")
    axes.text(x, y, text, ha=horizontal, va=vertical, fontsize=10)
