"""The look that all figures of a run share.

The colours are those of Okabe and Ito ("Color Universal Design", 2008), which
colour-blind readers can tell apart; beyond five lines the dashes change too. Nothing
here knows what is drawn.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe-Ito without yellow (too pale), vermilion (the worst site) and black (global).
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")
LINE_STYLES = ("-", "--", "-.", ":")
WORST_COLOUR = "#D55E00"
GLOBAL_STYLE: dict[str, Any] = {"color": "#000000", "linewidth": 2.6, "zorder": 4}
DPI = 150
MAX_NAME = 20  # characters of a site name in a figure

LineStyles = dict[str, dict[str, Any]]
"""For every name, the keyword arguments of its line."""


def line_styles(names: Sequence[str], worst: str | None = None) -> LineStyles:
    """Return a distinct look for every line; colours change first, then dashes.

    Args:
        names: Distinct names of the lines.
        worst: The name that gets the colour kept for the worst.

    Returns:
        Keyword arguments of `Axes.plot` for every name.
    """
    styles: LineStyles = {}
    for index, name in enumerate(names):
        styles[name] = {
            "color": COLOURS[index % len(COLOURS)],
            "linestyle": LINE_STYLES[index // len(COLOURS) % len(LINE_STYLES)],
            "linewidth": 1.5,
            "marker": ".",
            "markersize": 5,
        }
    if worst is not None:
        styles[worst] |= {
            "color": WORST_COLOUR,
            "linestyle": "-",
            "linewidth": 2.2,
            "marker": "v",
            "zorder": 5,
        }
    return styles


def tidy(axes: Axes) -> None:
    """Give axes over the rounds whole numbers, a pale grid and no box."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def label(name: str, longest: int = MAX_NAME) -> str:
    """Return a name short enough to read and never read as a formula."""
    short = name if len(name) <= longest else name[: longest - 1] + "…"
    return short.replace("$", r"\$")


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG.

    Args:
        figure: What to write.
        path: File to write or replace.

    Returns:
        The path.
    """
    figure.savefig(path, dpi=DPI, facecolor="white")
    return path
