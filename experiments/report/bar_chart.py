"""Bars: one a name, one a round, or one that is divided."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from experiments.report.axes import (
    WIDTH,
    Axes,
    drawing,
    hint,
    label,
    left_margin,
    line,
    round_ticks,
    shortened,
    tick_texts,
    ticks,
    unit,
)
from experiments.report.formats import MISSING, number
from experiments.report.markup import joined, tag

ROW_HEIGHT = 36.0
MAX_NAME = 42  # characters


def named_bars(
    values: Mapping[str, float | None],
    *,
    description: str,
    marked: str | None = None,
    line_at: float | None = None,
) -> Markup:
    """Draw a bar for every name, 0 to 1, with its number.

    Args:
        values: By name, in the order to draw.
        description: For those who cannot see it.
        marked: The name whose bar has the colour of a warning.
        line_at: A number to draw across all bars, such as that of all together.

    Returns:
        The SVG element.
    """
    right = WIDTH - 50
    mark = None if line_at is None else right * min(max(line_at, 0.0), 1.0)
    parts = []
    for index, (name, value) in enumerate(values.items()):
        top = index * ROW_HEIGHT
        text = MISSING if value is None else number(value)
        parts += [
            label(0, top + 13, shortened(name, MAX_NAME), "start"),
            _rect(0, top + 18, right, 12, "track"),
            label(WIDTH, top + 28, text, "end"),
        ]
        if value is not None:
            style = "warn-fill" if name == marked else "s0-fill"
            share = min(max(value, 0.0), 1.0)
            parts.append(_rect(0, top + 18, right * share, 12, style, name))
        if mark is not None:
            parts.append(line(mark, top + 15, mark, top + 33, "mark"))
    return drawing(parts, len(values) * ROW_HEIGHT + 4, description)


def round_bars(
    rounds: Sequence[int],
    parts: Mapping[str, Sequence[float]],
    *,
    description: str,
) -> Markup:
    """Draw a bar for every round, made of parts.

    Args:
        rounds: Their numbers, ascending.
        parts: Name of a part -> its number in every round, >= 0; the first lies below.
        description: For those who cannot see it.

    Returns:
        The SVG element.
    """
    totals = [sum(column) for column in zip(*parts.values(), strict=True)]
    y_ticks = ticks(0.0, max([*totals, 1e-9]))
    y_texts = tick_texts(y_ticks)
    axes = Axes(
        x_range=(rounds[0] - 0.5, rounds[-1] + 0.5),
        y_range=(0.0, y_ticks[-1]),
        left=left_margin(y_texts),
    )
    drawn = []
    for column, one in enumerate(rounds):
        found = {name: values[column] for name, values in parts.items()}
        drawn.append(_stack(axes, one, found))
    shown = round_ticks(rounds)
    frame = [
        axes.grid(y_ticks, y_texts),
        axes.foot(shown, [str(one) for one in shown], "round (0 = local warm-up)"),
    ]
    return drawing([*frame, *drawn], axes.height, description)


def divided_bar(shares: Mapping[str, float], *, description: str) -> Markup:
    """Draw one bar, divided.

    Args:
        shares: By name, >= 0, adding up to at most 1.
        description: For those who cannot see it.

    Returns:
        The SVG element.
    """
    parts, left = [_rect(0, 0, WIDTH, 22, "track")], 0.0
    for index, (name, share) in enumerate(shares.items()):
        width = WIDTH * max(share, 0.0)
        text = f"{name}: {share:.0%}"
        parts.append(_rect(left, 0, width, 22, f"s{index}-fill", text))
        left += width
    return drawing(parts, 22, description)


def fill_legend(names: Sequence[str]) -> Markup:
    """Name the parts of bars, with their colours."""
    items = []
    for index, name in enumerate(names):
        box = _rect(0, 0, 14, 10, f"s{index}-fill")
        piece = tag("svg", box, viewBox="0 0 14 10", aria_hidden="true")
        items.append(tag("li", joined([piece, name])))
    return tag("ul", joined(items), class_="legend")


def _stack(axes: Axes, one: int, parts: Mapping[str, float]) -> Markup:
    """Draw the bar of a round, part upon part."""
    width = 0.75 * (axes.across(one + 1) - axes.across(one))
    x, base, drawn = axes.across(one) - width / 2, 0.0, []
    for index, (name, value) in enumerate(parts.items()):
        y, tall = axes.down(base + value), axes.down(base) - axes.down(base + value)
        text = f"round {one}, {name}: {value:.3g}"
        drawn.append(_rect(x, y, width, tall, f"s{index}-fill", text))
        base += value
    return joined(drawn)


def _rect(
    x: float, y: float, width: float, height: float, style: str, text: str = ""
) -> Markup:
    return tag(
        "rect",
        hint(text) if text else "",
        x=unit(x),
        y=unit(y),
        width=unit(max(width, 0.0)),
        height=unit(max(height, 0.0)),
        class_=style,
    )
