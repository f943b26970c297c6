"""Heatmaps of every edge over the rounds: weights, scores, and the controls apart.

A row is an edge, a column a round with teachers; rows of one student stand together.
The controls (a student's own copy, trained at home) are scored and weigh nothing: they
have a panel of their own below the scores, hatched, in the same colours. Cividis
(Nunez et al., PLoS ONE 13(7), 2018) can be read by colour-blind people.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from server.figure_style import label, save
from server.series import EdgeSeries, Event, edge_series, edges_by_round

MAX_NAMED_EDGES = 60  # more rows are named by student only
MAX_ROUND_NAMES = 12
ROW_INCHES, LEAST_INCHES, MOST_INCHES = 0.21, 3.4, 13.0
NO_NUMBER_COLOUR = "#E5E5E5"
HATCH = "////"
HATCH_COLOUR = "#FFFFFF50"

Pair = tuple[str, str]


def draw_edge_heatmap(events: Sequence[Event], path: Path) -> Path:
    """Draw weight and score of every edge over the rounds.

    Args:
        events: From `read_events`.
        path: PNG to write.

    Returns:
        The path; without edges the figure says so.
    """
    by_round = edges_by_round(events)
    if not by_round:
        figure = Figure(figsize=(9, 3), layout="constrained")
        figure.text(0.5, 0.5, "No teachers in this run", ha="center", va="center")
        return save(figure, path)
    scores, weights = edge_series(by_round, "score"), edge_series(by_round, "weight")
    between = [pair for pair in scores if pair[0] != pair[1]]
    own = [pair for pair in scores if pair[0] == pair[1]]
    rows = len(between) + len(own) + (2 if own else 0)
    height = min(max(ROW_INCHES * rows + 1.2, LEAST_INCHES), MOST_INCHES)
    figure = Figure(figsize=(10.5, height), layout="constrained")
    grid = figure.subplots(
        2, 2, squeeze=False, height_ratios=(max(len(between), 1), max(len(own), 1))
    )
    (above, right), (below, unused) = grid
    rounds, limits = list(by_round), _range_of(scores, floor=-1.0)
    image = _draw_panel(above, between, scores, rounds, limits)
    heavy = _draw_panel(right, between, weights, rounds, _range_of(weights))
    above.set_title("EMD score (1 = alike)")
    right.set_title("Weight of the teacher")
    right.set_yticks([])  # the rows are those on the left
    figure.colorbar(image, ax=list(grid[:, 0]), shrink=0.8, aspect=30)
    figure.colorbar(heavy, ax=list(grid[:, 1]), shrink=0.8, aspect=30)
    unused.remove()
    if own:
        _draw_controls(below, own, scores, rounds, limits)
    else:
        below.remove()
    for axes in (right, below if own else above):
        axes.set_xlabel("round")
    return save(figure, path)


def _draw_panel(
    axes: Axes,
    pairs: Sequence[Pair],
    series: EdgeSeries,
    rounds: Sequence[int],
    limits: tuple[float, float],
) -> AxesImage:
    """Draw rows of edges; what a round has no number for stays grey."""
    matrix = np.full((max(len(pairs), 1), len(rounds)), np.nan)
    for row, pair in enumerate(pairs):
        matrix[row] = series[pair]
    axes.set_facecolor(NO_NUMBER_COLOUR)
    image = axes.imshow(
        matrix,
        cmap="cividis",
        vmin=limits[0],
        vmax=limits[1],
        aspect="auto",
        interpolation="nearest",
    )
    step = math.ceil(len(rounds) / MAX_ROUND_NAMES)
    axes.set_xticks(range(0, len(rounds), step), rounds[::step])
    _name_rows(axes, pairs)
    return image


def _draw_controls(
    axes: Axes,
    pairs: Sequence[Pair],
    series: EdgeSeries,
    rounds: Sequence[int],
    limits: tuple[float, float],
) -> None:
    """Draw the diagonal, hatched: the same scores, but of nobody's teacher."""
    _draw_panel(axes, pairs, series, rounds, limits)
    axes.add_patch(
        Rectangle(
            (-0.5, -0.5),
            len(rounds),
            len(pairs),
            fill=False,
            hatch=HATCH,
            edgecolor=HATCH_COLOUR,
            linewidth=0,
        )
    )
    axes.set_title("Controls: own copy, trained at home", fontsize=9)


def _name_rows(axes: Axes, pairs: Sequence[Pair]) -> None:
    """Name every edge, or every student where edges are many; part the students."""
    students = [student for student, _ in pairs]
    firsts = [i for i, name in enumerate(students) if i == 0 or students[i - 1] != name]
    if len(pairs) <= MAX_NAMED_EDGES:
        names = [
            label(student)
            if student == teacher
            else f"{label(student)} ← {label(teacher)}"
            for student, teacher in pairs
        ]
        axes.set_yticks(range(len(pairs)), names, fontsize=8)
    else:
        middles = [(a + b - 1) / 2 for a, b in pairwise([*firsts, len(pairs)])]
        names = [f"{label(students[first])} ←" for first in firsts]
        axes.set_yticks(middles, names, fontsize=7 if len(firsts) <= 40 else 5)
        axes.tick_params(axis="y", length=0)
    if len(firsts) < len(pairs):
        for first in firsts[1:]:
            axes.axhline(first - 0.5, color="white", linewidth=1.2)


def _range_of(series: EdgeSeries, floor: float = 0.0) -> tuple[float, float]:
    """Return limits around all numbers, at least a hundredth apart.

    Args:
        series: Of the edges.
        floor: The least value that can be, for a series without numbers.
    """
    known = [value for row in series.values() for value in row if not math.isnan(value)]
    low, high = min(known, default=floor), max(known, default=1.0)
    middle, half = (low + high) / 2, max((high - low) / 2, 0.005)
    return middle - half, middle + half
