"""The matrix of every silo's model on every silo's frames, as a picture."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from server.figure_style import label, save

NO_NUMBER_COLOUR = "#E5E5E5"
CELL_INCHES, MARGIN_INCHES = 0.75, 2.4
MAX_WITH_NUMBERS = 24  # sites; in more, the numbers would cover each other
MIDDLE = 0.5  # of the colours: above it, text is dark

Values = Mapping[str, float | None]


def draw_cross_site(
    silos: Mapping[str, Values],
    foundation: Values,
    path: Path,
    *,
    metric: str = "dice",
) -> Path:
    """Draw the matrix; the accumulated model is its last row, apart.

    Args:
        silos: Scores by owner of the model and by site; None or absent stays grey.
        foundation: Scores of the accumulated model by site.
        path: PNG to write.
        metric: Name of the score.

    Returns:
        The path.
    """
    sites = list(dict.fromkeys([*foundation, *silos]))
    rows = [*silos.values(), foundation]
    matrix = np.array(
        [[_number(row.get(site)) for site in sites] for row in rows], float
    )
    side = CELL_INCHES if len(sites) <= MAX_WITH_NUMBERS else CELL_INCHES / 3
    figure = Figure(
        figsize=(
            side * len(sites) + MARGIN_INCHES + 1,
            side * len(rows) + MARGIN_INCHES,
        ),
        layout="constrained",
    )
    axes = figure.subplots()
    axes.set_facecolor(NO_NUMBER_COLOUR)
    image = axes.imshow(matrix, cmap="cividis", interpolation="nearest")
    axes.set_xticks(range(len(sites)), map(label, sites), rotation=45, ha="right")
    axes.set_yticks(range(len(rows)), [*map(label, silos), "accumulated"])
    axes.axhline(len(rows) - 1.5, color="white", linewidth=3)
    axes.set(
        xlabel="on the test frames of", ylabel="model of", title=metric.capitalize()
    )
    if len(sites) <= MAX_WITH_NUMBERS:
        for (row, column), value in np.ndenumerate(matrix):
            if np.isfinite(value):
                light = float(image.norm(value)) < MIDDLE
                axes.text(
                    column,
                    row,
                    f"{value:.2f}",
                    ha="center",
                    va="center",
                    color="white" if light else "black",
                    fontweight="bold" if _is_home(silos, sites, row, column) else None,
                )
    figure.colorbar(image, ax=axes, shrink=0.8)
    return save(figure, path)


def _is_home(
    silos: Mapping[str, Values], sites: list[str], row: int, column: int
) -> bool:
    return row < len(silos) and list(silos)[row] == sites[column]


def _number(value: float | None) -> float:
    return np.nan if value is None else value
