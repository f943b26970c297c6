"""A map of who teaches whom: silos where they stand, arrows from teacher to student.

Plate carree (longitude across, latitude up), without coasts, for this repository holds
no map data. Where the position of a silo is not known, silos stand on a circle. Pairs
that teach each other share one line with two heads.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from server.figure_style import COLOURS, label, save
from strategies.topologies.underlay import Position
from strategies.topology import Neighbours

FIGURE_WIDTH = 9.0  # inches
MARGIN = 0.12  # share of the window, on every side
LEAST_SPAN_DEGREES = 4.0
MAX_CLEAR_LINES = 40  # more are drawn thin and pale
FONT_SIZE, SMALL_FONT_SIZE, MAX_LARGE_NAMES = 9, 7, 25
CHARACTER_WIDTH = 0.6  # of the font size
# Where a name may stand beside its silo: right, left, above, below, corners.
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
LINE_COLOUR = "#555555"

Place = tuple[float, float]
"""Across and up, in the units of the axes."""

Box = tuple[float, float, float, float]
"""Left, bottom, right and top, in points."""


def draw_topology_map(
    neighbours: Neighbours,
    positions: Mapping[str, Position],
    path: Path,
    *,
    title: str = "Who teaches whom (arrow: teacher → student)",
) -> Path:
    """Draw a topology.

    Args:
        neighbours: All silos with their teachers.
        positions: Latitude and longitude of silos, degrees. If one is missing, all
            silos stand on a circle.
        path: PNG to write.
        title: Above the picture.

    Returns:
        The path.
    """
    figure = Figure(figsize=(FIGURE_WIDTH, 5.4), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=11)
    silos = sorted(neighbours)
    world = math.inf
    if silos and all(silo in positions for silo in silos):
        places = {silo: (positions[silo][1], positions[silo][0]) for silo in silos}
        _draw_window(axes, list(places.values()))
        world = 360.0
    else:
        places = _circle(silos)
        axes.set(xlim=(-2.2, 2.2), ylim=(-1.3, 1.3), aspect="equal")
        axes.axis("off")
    lines = _lines(neighbours)
    stretches = []
    for (teacher, student), mutual in lines.items():
        for start, end in _unwrapped(places[teacher], places[student], world):
            axes.add_patch(_arrow(start, end, mutual, clear=len(lines)))
            stretches.append((start, end))
    for place in places.values():
        axes.plot(*place, "o", markersize=6, color=COLOURS[0], zorder=3)
    # Names need to know where points lie on the paper.
    figure.draw_without_rendering()
    _write_names(axes, places, stretches if len(lines) <= MAX_CLEAR_LINES else ())
    return save(figure, path)


def _lines(neighbours: Neighbours) -> dict[tuple[str, str], bool]:
    """Return one (teacher, student) a line, and whether it leads both ways."""
    lines: dict[tuple[str, str], bool] = {}
    for student, teachers in neighbours.items():
        for teacher in teachers:
            if (student, teacher) in lines:
                lines[student, teacher] = True
            else:
                lines[teacher, student] = False
    return lines


def _draw_window(axes: Axes, places: Sequence[Place]) -> None:
    """Show the region of all silos, or the whole width of the world."""
    across, up = zip(*places, strict=True)
    if max(across) - min(across) > 180:
        low, high = -180.0, 180.0
    else:
        low, high = _widen(min(across), max(across))
    bottom, top = _widen(min(up), max(up))
    bottom, top = max(bottom, -90), min(top, 90)
    axes.set(xlim=(low, high), ylim=(bottom, top))
    # A degree across is shorter than one up, by the latitude in the middle.
    stretch = 1 / max(math.cos(math.radians((bottom + top) / 2)), 0.3)
    axes.set_aspect(stretch)
    height = FIGURE_WIDTH * stretch * (top - bottom) / (high - low) + 0.6
    axes.figure.set_figheight(min(max(height, 3.0), 9.0))
    axes.set(xlabel="longitude, degrees", ylabel="latitude, degrees")
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)


def _widen(low: float, high: float) -> tuple[float, float]:
    span = max(high - low, LEAST_SPAN_DEGREES)
    middle, half = (low + high) / 2, span * (0.5 + MARGIN)
    return middle - half, middle + half


def _unwrapped(start: Place, end: Place, world: float) -> list[tuple[Place, Place]]:
    """Return the line, or its two parts if it leaves the map on one side."""
    across = end[0] - start[0]
    if abs(across) <= world / 2:
        return [(start, end)]
    turn = math.copysign(world, across)
    return [
        (start, (end[0] - turn, end[1])),
        ((start[0] + turn, start[1]), end),
    ]


def _arrow(start: Place, end: Place, mutual: bool, *, clear: int) -> FancyArrowPatch:
    is_clear = clear <= MAX_CLEAR_LINES
    look: dict[str, Any] = {
        "arrowstyle": "<|-|>" if mutual else "-|>",
        "linewidth": 1.4 if is_clear else 0.5,
        "alpha": 1.0 if is_clear else 0.4,
        "mutation_scale": 12 if is_clear else 5,
    }
    return FancyArrowPatch(
        start, end, color=LINE_COLOUR, shrinkA=5, shrinkB=5, zorder=2, **look
    )


def _circle(silos: Sequence[str]) -> dict[str, Place]:
    """Place silos on the unit circle, clockwise from the top."""
    step = 2 * math.pi / max(len(silos), 1)
    return {
        silo: (math.sin(index * step), math.cos(index * step))
        for index, silo in enumerate(silos)
    }


def _write_names(
    axes: Axes, places: Mapping[str, Place], lines: Sequence[tuple[Place, Place]]
) -> None:
    """Write each name on the side of its silo where it covers least."""
    size = FONT_SIZE if len(places) <= MAX_LARGE_NAMES else SMALL_FONT_SIZE
    dots_per_point = axes.figure.dpi / 72

    def on_paper(place: Place) -> Place:
        x, y = axes.transData.transform(place) / dots_per_point
        return float(x), float(y)

    points = {silo: on_paper(place) for silo, place in places.items()}
    taken = [_around(point, 4) for point in points.values()]
    for start, end in lines:
        taken += [_around(point, 2) for point in _beads(on_paper(start), on_paper(end))]
    for silo, (x, y) in points.items():
        width = CHARACTER_WIDTH * size * len(label(silo))
        boxes = [_box(x, y, side, width, size) for side in SIDES]
        covered = [sum(_overlap(box, other) for other in taken) for box in boxes]
        best = covered.index(min(covered))
        taken.append(boxes[best])
        side = SIDES[best]
        axes.annotate(
            label(silo),
            places[silo],
            xytext=(6 * side[0], 6 * side[1]),
            textcoords="offset points",
            ha=("center", "left", "right")[side[0]],
            va=("center", "bottom", "top")[side[1]],
            fontsize=size,
            zorder=4,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.7},
        )


def _beads(start: Place, end: Place) -> list[Place]:
    """Return points along a line, some three points apart."""
    count = max(int(math.dist(start, end) / 3), 1)
    return [
        (
            start[0] + (end[0] - start[0]) * step / count,
            start[1] + (end[1] - start[1]) * step / count,
        )
        for step in range(count + 1)
    ]


def _around(point: Place, half: float) -> Box:
    x, y = point
    return x - half, y - half, x + half, y + half


def _box(x: float, y: float, side: tuple[int, int], width: float, height: float) -> Box:
    """Return the room that a name takes."""
    left = x + 6 * side[0] + width * (side[0] - 1) / 2
    bottom = y + 6 * side[1] + height * (side[1] - 1) / 2
    return left, bottom, left + width, bottom + height


def _overlap(first: Box, second: Box) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0.0) * max(height, 0.0)
