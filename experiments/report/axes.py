"""The frame of a chart: where numbers go, in a drawing 360 units wide.

Charts are SVG written by hand and not matplotlib's, so that lines and texts take their
colours from the page's style (dark or light), stay real text, and a page stays small.
360 units are the width of a phone: a text of 12 units is 12 px there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from experiments.report.markup import Text, joined, tag

WIDTH = 360.0
CHARACTER_WIDTH = 7.4  # of a digit in the widest usual font
MAX_DIGITS = 5  # of a tick, on either side of the point; more are powers of ten
NUM_STYLES = 8  # colours of lines in style.css; then they come again, dashed


@dataclass(frozen=True)
class Axes:
    """The area of a chart in which numbers are drawn."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    height: float = 220.0
    left: float = 44.0
    right: float = 12.0
    top: float = 10.0
    bottom: float = 38.0

    def across(self, value: float) -> float:
        """Return the x coordinate of a number."""
        return self.left + _share(value, self.x_range) * (
            WIDTH - self.left - self.right
        )

    def down(self, value: float) -> float:
        """Return the y coordinate of a number."""
        room = self.height - self.top - self.bottom
        return self.top + (1 - _share(value, self.y_range)) * room

    def grid(self, y_ticks: Sequence[float], y_texts: Sequence[str]) -> Markup:
        """Draw a line and a number for every tick of the vertical axis."""
        parts = []
        for value, text in zip(y_ticks, y_texts, strict=True):
            y = self.down(value)
            parts += [
                line(self.left, y, WIDTH - self.right, y, "rule"),
                label(self.left - 5, y + 4, text, "end"),
            ]
        return joined(parts)

    def foot(self, ticks: Sequence[float], texts: Sequence[str], name: str) -> Markup:
        """Draw the numbers and the name of the horizontal axis."""
        y = self.height - self.bottom
        middle = (self.left + WIDTH - self.right) / 2
        parts = [line(self.left, y, WIDTH - self.right, y, "axis")]
        parts += [
            label(self.across(value), y + 15, text, "middle")
            for value, text in zip(ticks, texts, strict=True)
        ]
        return joined([*parts, label(middle, self.height - 5, name, "middle", "faint")])


def drawing(parts: Sequence[Markup], height: float, description: str) -> Markup:
    """Make a chart that is as wide as its box.

    Args:
        parts: What is drawn.
        height: Units.
        description: For those who cannot see it.

    Returns:
        The SVG element.
    """
    return tag(
        "svg",
        joined(parts),
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        role="img",
        aria_label=description,
    )


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    """Draw a straight line."""
    return tag("line", x1=unit(x1), y1=unit(y1), x2=unit(x2), y2=unit(y2), class_=style)


def label(x: float, y: float, text: Text, anchor: str, style: str = "") -> Markup:
    """Write a text; the anchor is "start", "middle" or "end"."""
    return tag(
        "text", text, x=unit(x), y=unit(y), text_anchor=anchor, class_=style or None
    )


def hint(text: Text) -> Markup:
    """Say what is beneath a pointer."""
    return tag("title", text)


def unit(value: float) -> str:
    """Write a coordinate."""
    return f"{value:.1f}".removesuffix(".0")


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Choose round numbers that span a range.

    Args:
        low: Smallest number.
        high: Largest number, >= low.
        count: About how many.

    Returns:
        Multiples of 1, 2 or 5 times a power of ten; the first is at most low, the last
        at least high.
    """
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - max(abs(low), 1.0) / 20, high + max(abs(high), 1.0) / 20
    rough = (high - low) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(one * power for one in (1, 2, 5, 10) if one * power >= rough * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def tick_texts(values: Sequence[float]) -> list[str]:
    """Write ticks with as many digits as their step needs."""
    step = min((b - a for a, b in pairwise(values)), default=1.0)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    if digits > MAX_DIGITS or max(map(abs, values), default=0.0) >= 10**MAX_DIGITS:
        return [f"{value:.3g}" for value in values]
    return [f"{value:,.{digits}f}" for value in values]


def left_margin(texts: Sequence[str]) -> float:
    """Return the room that the numbers of the vertical axis need."""
    return max(40.0, 12.0 + CHARACTER_WIDTH * max(map(len, texts), default=0))


def round_ticks(rounds: Sequence[int], most: int = 7) -> list[int]:
    """Choose the rounds that are named below a chart."""
    if not rounds:
        return []
    step = max(1, math.ceil((rounds[-1] - rounds[0] + 1) / most))
    step = next(one for one in (1, 2, 5, 10, 20, 25, 50, 100, step) if one >= step)
    return [one for one in rounds if one % step == 0] or [rounds[0]]


def shortened(text: str, most: int) -> str:
    """Cut a name that is too long in its middle: numbers stand at the end."""
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail - 1]}…{text[-tail:]}"


def _share(value: float, limits: tuple[float, float]) -> float:
    low, high = limits
    return 0.5 if high <= low else (value - low) / (high - low)
