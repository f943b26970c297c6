"""Numbers as colours: over the rounds, and of pairs."""

import math
from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup

from experiments.report.axes import (
    WIDTH,
    drawing,
    hint,
    label,
    round_ticks,
    shortened,
    unit,
)
from experiments.report.formats import MISSING, number, short
from experiments.report.markup import HOT, Cell, Text, table, tag

ROW_HEIGHT = 22.0
RIGHT = 8.0  # so that the number of the last round has room
MAX_HEAD = 14  # characters of the head of a row or column
MAX_NAME, NAME_CHARACTER = 12, 6.4  # of each of two names; units of a character
LEAST_CELL_WITH_TEXT = 29.0


def whole_tenths(values: Iterable[float | None]) -> tuple[float, float]:
    """Return the whole tenths around numbers: noise is not blown up to full colours."""
    known = [value for value in values if value is not None]
    if not known:
        return 0.0, 1.0
    low = math.floor(10 * min(known) + 1e-9) / 10
    return low, max(math.ceil(10 * max(known) - 1e-9) / 10, low + 0.1)


def heat_over_rounds(
    rounds: Sequence[int],
    rows: Mapping[tuple[str, str], Sequence[float | None]],
    *,
    limits: tuple[float, float],
    description: str,
) -> Markup:
    """Draw a row of coloured cells for every edge.

    Args:
        rounds: Their numbers, ascending.
        rows: (teacher, student) -> its number in every round; None is left empty.
        limits: The numbers of the palest and of the strongest colour.
        description: For those who cannot see it.

    Returns:
        The SVG element.
    """
    heads = [" → ".join(shortened(one, MAX_NAME) for one in pair) for pair in rows]
    left = NAME_CHARACTER * max(map(len, heads)) + 10
    width = (WIDTH - RIGHT - left) / len(rounds)
    parts = []
    for index, (pair, values) in enumerate(rows.items()):
        y, name = index * ROW_HEIGHT, " → ".join(pair)
        parts.append(label(left - 6, y + 15, heads[index], "end", "row"))
        for column, value in enumerate(values):
            x = left + column * width
            text = f"{name}, round {rounds[column]}: {short(value)}"
            parts.append(_square(x, y, width, value, limits, text))
            if value is not None and width >= LEAST_CELL_WITH_TEXT:
                style = "on-hot" if _heat(value, limits) > HOT else "on-cool"
                middle = x + width / 2
                parts.append(label(middle, y + 15, number(value, 2), "middle", style))
    height = len(rows) * ROW_HEIGHT + 34
    for one in round_ticks(rounds):
        x = left + (rounds.index(one) + 0.5) * width
        parts.append(label(x, height - 20, str(one), "middle"))
    middle = (left + WIDTH - RIGHT) / 2
    parts.append(label(middle, height - 4, "round", "middle", "faint"))
    return drawing(parts, height, description)


def pair_table(
    names: Sequence[str],
    values: Mapping[tuple[str, str], float],
    *,
    corner: str,
    caption: str,
    limits: tuple[float, float] | None = None,
    more_rows: Sequence[str] = (),
) -> Markup:
    """Make a table of pairs, coloured by number.

    Args:
        names: Of the rows and of the columns.
        values: (row, column) -> number; pairs without one stay empty.
        corner: What rows and columns are.
        caption: What the numbers are.
        limits: Of the colours; without them, the whole tenths around the numbers.
        more_rows: Names of rows below that have no column.

    Returns:
        The table.
    """
    low, high = limits or whole_tenths(values.values())
    rows = []
    for row in (*names, *more_rows):
        cells: list[Text | Cell] = [_named(row)]
        for column in names:
            value = values.get((row, column))
            heat = None if value is None else _heat(value, (low, high))
            own = "empty" if value is None else ""
            cells.append(Cell(number(value), own, heat))
        rows.append(cells)
    return table([corner, *map(_named, names)], rows, caption=caption, style="matrix")


def scale(limits: tuple[float, float], name: str) -> Markup:
    """Say which colour is which number."""
    low, high = limits
    text = Markup("{} {:.1f} {} {:.1f}").format(
        name, low, tag("span", "", class_="ramp"), high
    )
    empty = Markup("; empty ({}): not measured").format(MISSING)
    return tag("p", text + empty, class_="note")


def _named(name: str) -> Markup:
    """Write a name so short that many fit; all of it beneath a pointer."""
    return tag("span", shortened(name, MAX_HEAD), title=name)


def _heat(value: float, limits: tuple[float, float]) -> float:
    low, high = limits
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _square(
    x: float,
    y: float,
    width: float,
    value: float | None,
    limits: tuple[float, float],
    text: str,
) -> Markup:
    heat = None if value is None else f"--heat:{100 * _heat(value, limits):.0f}%"
    return tag(
        "rect",
        hint(text),
        x=unit(x),
        y=unit(y + 1),
        width=f"{max(width - 1, 0.5):.2f}",
        height=unit(ROW_HEIGHT - 2),
        class_="track" if heat is None else "heat",
        style=heat,
    )
