"""Pieces of HTML. Every text that goes in is escaped, unless it is `Markup` already."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

EMPTY = Markup("")
MAX_ONE_LINE = 24  # characters of the head of a row
HOT = 0.62
"""Above, text on a heat colour is pale, in light pages and dark: equal contrast."""

Text = str | Markup


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    id: str  # of its heading; unique on a page
    title: str
    body: Markup


@dataclass(frozen=True)
class Cell:
    """A cell of a table that is more than its text."""

    text: Text
    style: str = ""  # a class of style.css
    heat: float | None = None  # 0 to 1, how strongly it is coloured


def tag(name: str, content: Text = "", **attributes: str | float | None) -> Markup:
    """Make an element.

    Args:
        name: Of the element.
        content: What is in it.
        **attributes: "class_" stands for "class", "_" for "-"; None is left out.

    Returns:
        The element with its end tag.
    """
    written = EMPTY.join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value)
        for key, value in attributes.items()
        if value is not None
    )
    return Markup("<{}{}>{}</{}>").format(Markup(name), written, content, Markup(name))


def joined(parts: Iterable[Text]) -> Markup:
    """Put pieces one after the other."""
    return EMPTY.join(parts)


def paragraph(text: Text, style: str | None = None) -> Markup:
    """Make a paragraph."""
    return tag("p", text, class_=style)


def bullets(items: Iterable[Text]) -> Markup:
    """Make a list."""
    return tag("ul", joined(tag("li", item) for item in items))


def table(
    heads: Sequence[Text],
    rows: Iterable[Sequence[Text | Cell]],
    *,
    caption: str,
    style: str = "",
) -> Markup:
    """Make a table that scrolls in a box of its own.

    Args:
        heads: Of the columns.
        rows: The first cell of each is its heading.
        caption: What the table says; also read out for the box.
        style: A further class.

    Returns:
        The table.
    """
    head = joined(tag("th", text, scope="col") for text in heads)
    body = joined(tag("tr", _cells(row)) for row in rows)
    whole = tag(
        "table",
        joined([tag("thead", tag("tr", head)), tag("tbody", body)]),
        class_=style or None,
    )
    box = tag(
        "div", whole, class_="scroll", role="region", tabindex="0", aria_label=caption
    )
    # The caption stays outside, or it would scroll away.
    return joined([paragraph(caption, "caption"), box])


def folded(summary: Text, content: Text) -> Markup:
    """Make a part that is opened by a tap."""
    return tag("details", joined([tag("summary", summary), content]))


def side_by_side(parts: Iterable[Markup]) -> Markup:
    """Put charts beside each other where there is room."""
    return tag("div", joined(parts), class_="grid")


def figure(chart: Markup, caption: Text) -> Markup:
    """Put a caption above a chart."""
    return tag("figure", joined([tag("figcaption", caption), chart]))


def _cells(row: Sequence[Text | Cell]) -> Markup:
    cells = [one if isinstance(one, Cell) else Cell(one) for one in row]
    first, rest = cells[0], cells[1:]
    is_long = len(Markup(first.text).striptags()) > MAX_ONE_LINE
    return joined(
        [
            tag("th", first.text, scope="row", class_="long" if is_long else None),
            *map(_cell, rest),
        ]
    )


def _cell(cell: Cell) -> Markup:
    if cell.heat is None:
        return tag("td", cell.text, class_=cell.style or None)
    style = "hot" if cell.heat > HOT else "cool"
    return tag("td", cell.text, class_=style, style=f"--heat:{100 * cell.heat:.0f}%")
