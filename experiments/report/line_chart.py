"""Lines over rounds, or over any few labelled places."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from experiments.report.axes import (
    NUM_STYLES,
    Axes,
    drawing,
    hint,
    left_margin,
    line,
    round_ticks,
    tick_texts,
    ticks,
    unit,
)
from experiments.report.formats import short
from experiments.report.markup import joined, tag

MAX_MARKED = 30  # places; more are lines without dots

Point = tuple[float, float | None]
"""Place and number; None is a gap."""


@dataclass(frozen=True)
class Line:
    """One line of a chart."""

    name: str
    points: Sequence[Point]
    style: str  # a class of style.css, see `line_style`
    spread: Sequence[float | None] = ()  # half the length of the bar at every point


def line_style(index: int) -> str:
    """Return the look of a site's line by its place among the sites."""
    dashes = ("", " dashed", " dotted")[index // NUM_STYLES % 3]
    return f"s{index % NUM_STYLES}{dashes}"


def line_chart(
    lines: Sequence[Line],
    *,
    description: str,
    x_name: str,
    x_texts: Sequence[str] | None = None,
    y_range: tuple[float, float] | None = None,
) -> Markup:
    """Draw lines.

    Args:
        lines: At least one number among them.
        description: For those who cannot see it.
        x_name: Below the chart.
        x_texts: Names of the places 0, 1, …; without them places are rounds.
        y_range: Smallest and largest number; without it, that of the lines.

    Returns:
        The SVG element.
    """
    places = sorted({place for one in lines for place, _ in one.points})
    y_ticks = ticks(*(y_range or _span(lines)))
    y_texts = tick_texts(y_ticks)
    room = 0.25 if x_texts else 0.0  # so that dots do not lie on the axis
    axes = Axes(
        x_range=(places[0] - room, places[-1] + room),
        y_range=(y_ticks[0], y_ticks[-1]),
        left=left_margin(y_texts),
    )
    if x_texts is None:
        shown = round_ticks([int(place) for place in places])
        foot = axes.foot(shown, [str(one) for one in shown], x_name)
    else:
        foot = axes.foot(range(len(x_texts)), x_texts, x_name)
    marked = len(places) <= MAX_MARKED
    parts = [axes.grid(y_ticks, y_texts), foot]
    parts += [_draw(one, axes, marked=marked) for one in lines]
    return drawing(parts, axes.height, description)


def legend(lines: Sequence[Line]) -> Markup:
    """Name the lines, with a piece of each."""
    items = []
    for one in lines:
        piece = tag(
            "svg",
            line(0, 5, 22, 5, f"line {one.style}"),
            viewBox="0 0 22 10",
            aria_hidden="true",
        )
        items.append(tag("li", joined([piece, one.name])))
    return tag("ul", joined(items), class_="legend")


def _draw(one: Line, axes: Axes, *, marked: bool) -> Markup:
    parts = [
        tag("polyline", points=" ".join(piece), class_=f"line {one.style}")
        for piece in _pieces(one.points, axes)
    ]
    spread = one.spread or [None] * len(one.points)
    for (place, value), half in zip(one.points, spread, strict=True):
        if value is None:
            continue
        x, y = axes.across(place), axes.down(value)
        if half is not None:
            bottom, top = axes.y_range  # an interval may leave the range of a score
            low = axes.down(max(value - half, bottom))
            high = axes.down(min(value + half, top))
            parts.append(line(x, low, x, high, f"line {one.style}"))
        if marked:
            text = hint(f"{one.name}, {place:g}: {short(value)}")
            parts.append(
                tag("circle", text, cx=unit(x), cy=unit(y), r=3, class_=one.style)
            )
    return joined(parts)


def _pieces(points: Sequence[Point], axes: Axes) -> list[list[str]]:
    """Break a line where numbers are missing."""
    pieces: list[list[str]] = [[]]
    for place, value in points:
        if value is None:
            pieces.append([])
        else:
            x, y = axes.across(place), axes.down(value)
            pieces[-1].append(f"{unit(x)},{unit(y)}")
    return [piece for piece in pieces if len(piece) > 1]


def _span(lines: Sequence[Line]) -> tuple[float, float]:
    found = []
    for one in lines:
        spread = one.spread or [None] * len(one.points)
        for (_, value), half in zip(one.points, spread, strict=True):
            if value is not None:
                found += [value - (half or 0.0), value + (half or 0.0)]
    return (min(found), max(found)) if found else (0.0, 1.0)
