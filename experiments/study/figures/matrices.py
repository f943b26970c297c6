"""Who models whom: every silo's model on every site's test frames."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from experiments.study.figures.style import row_label
from server.figure_style import label, save

MAX_PANELS = 16
MAX_WITH_NUMBERS = 12
"""Sites; in a matrix of more, numbers would cover each other."""
NO_NUMBER_COLOUR = "#E5E5E5"


def draw_matrices(
    matrices: Mapping[str, Mapping[str, Mapping[str, float | None]]],
    path: Path,
    *,
    title: str,
) -> Path | None:
    """Draw every silo's model on every site's test frames, a panel a row.

    Args:
        matrices: Dice by row, by the model's silo and by site; the first 16 rows.
        path: PNG to write.
        title: Above them.

    Returns:
        The path; None if there is no matrix.
    """
    if not (shown := dict(list(matrices.items())[:MAX_PANELS])):
        return None
    columns, height = min(len(shown), 4), -(-len(shown) // 4)
    figure = Figure(figsize=(3.4 * columns + 1.2, 3.4 * height), layout="constrained")
    panels = figure.subplots(height, columns, squeeze=False)
    image = None
    for axes, (name, matrix) in zip(panels.flat, shown.items(), strict=False):
        image = _draw_matrix(axes, matrix)
        axes.set_title(row_label(name), fontsize=10)
    for axes in list(panels.flat)[len(shown) :]:
        axes.set_axis_off()
    figure.supxlabel("on the test frames of")
    figure.supylabel("model of")
    figure.suptitle(title, fontsize=11)
    if image is not None:
        figure.colorbar(image, ax=panels.ravel().tolist(), shrink=0.7, label="Dice, %")
    return save(figure, path)


def _draw_matrix(
    axes: Axes, matrix: Mapping[str, Mapping[str, float | None]]
) -> AxesImage:
    sites = list(dict.fromkeys(site for row in matrix.values() for site in row))
    values = np.array(
        [[_percent(row.get(site)) for site in sites] for row in matrix.values()]
    )
    axes.set_facecolor(NO_NUMBER_COLOUR)
    image = axes.imshow(values, cmap="cividis", vmin=0, vmax=100)
    slanted = {"rotation": 45, "ha": "right", "fontsize": 7}
    axes.set_xticks(range(len(sites)), list(map(label, sites)), **slanted)
    axes.set_yticks(range(len(matrix)), list(map(label, matrix)), fontsize=7)
    if len(sites) <= MAX_WITH_NUMBERS:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                style = {"color": "white" if value < 50 else "black", "fontsize": 7}
                axes.text(
                    column, row, f"{value:.0f}", ha="center", va="center", **style
                )
    return image


def _percent(value: float | None) -> float:
    return np.nan if value is None else 100 * value
