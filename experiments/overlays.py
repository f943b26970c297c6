"""Frames with labels and predictions drawn on them, for people to look at.

One row a frame: the frame alone, the label, then every prediction, each with its Dice.
Outlines run along pixel borders, so that a wire of one pixel stays visible beneath.
Colours are from Okabe and Ito ("Color Universal Design", 2008); sky and orange stand
out from grey for colour-blind readers, too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from skimage.measure import find_contours
from torch import Tensor

from models.classes import CLASS_NAMES
from models.overlap import Mask, dice

CLASS_COLOURS = {"catheter": "#56B4E9", "guidewire": "#E69F00"}
DPI = 150
PANEL_SIDE = 2.5  # inches
FILL = 0.35  # opacity inside an outline


def draw_overlays(
    images: Tensor,
    labels: Tensor,
    predictions: Mapping[str, Tensor],
    path: Path,
    *,
    title: str,
    annotated: Tensor | None = None,
) -> Path:
    """Draw frames beside their labels and predictions.

    Args:
        images: (frames, 1, size, size), values 0 to 1.
        labels: (frames, classes, size, size), 0 or 1.
        predictions: Column title -> masks of the same shape as the labels.
        path: PNG to write.
        title: Of the whole picture.
        annotated: bool (frames, classes), whether somebody looked for a class in a
            frame; None = always. Without that there is no Dice.

    Returns:
        The path.

    Raises:
        ValueError: If the shapes disagree.
    """
    for masks in predictions.values():
        if masks.shape != labels.shape or len(images) != len(labels):
            raise ValueError(
                "An overlay needs as many frames as labels and predictions, of one "
                f"size, got {tuple(images.shape)}, {tuple(labels.shape)} and "
                f"{tuple(masks.shape)}."
            )
    if annotated is None:
        annotated = labels.new_ones(labels.shape[:2])
    columns = 2 + len(predictions)
    figure = Figure(
        figsize=(PANEL_SIDE * columns, (PANEL_SIDE + 0.22) * len(images) + 0.75),
        layout="constrained",
    )
    grid = figure.subplots(len(images), columns, squeeze=False)
    for row, image, label in zip(grid, images[:, 0], labels > 0, strict=True):
        for axes in row:
            axes.imshow(image.numpy(), cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
        _draw_masks(row[1], label.numpy())
    for index, masks in enumerate(predictions.values()):
        for row, found, label, known in zip(
            grid, masks > 0, labels > 0, annotated > 0, strict=True
        ):
            _draw_masks(row[2 + index], found.numpy())
            text = scores_text(found.numpy(), label.numpy(), known.tolist())
            row[2 + index].set_xlabel(text, fontsize=8)
    for axes, name in zip(grid[0], ("frame", "label", *predictions), strict=True):
        axes.set_title(name, fontsize=10)
    figure.suptitle(title, fontsize=11)
    _add_legend(figure)
    figure.savefig(path, dpi=DPI)
    return path


def _draw_masks(axes: Axes, masks: Mask) -> None:
    """Fill and outline masks (classes, height, width)."""
    for name, mask in zip(CLASS_NAMES, masks, strict=True):
        colour = CLASS_COLOURS[name]
        fill = np.zeros((*mask.shape, 4))
        fill[mask] = to_rgba(colour, FILL)
        axes.imshow(fill, interpolation="nearest")
        # Padding closes the outlines of masks that touch the border.
        for line in find_contours(np.pad(mask, 1).astype(float), 0.5):
            axes.plot(line[:, 1] - 1, line[:, 0] - 1, color=colour, linewidth=1.0)
    height, width = masks.shape[1:]
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def scores_text(found: Mask, label: Mask, annotated: Sequence[bool]) -> str:
    """Say the Dice of every class, as it stands below a prediction.

    Args:
        found: bool (classes, height, width).
        label: The same of the truth.
        annotated: By class; an empty label that nobody drew says nothing.

    Returns:
        One line.
    """
    values = (
        f"{name} {dice(one, other):.2f}" if known else f"{name} not annotated"
        for name, one, other, known in zip(
            CLASS_NAMES, found, label, annotated, strict=True
        )
    )
    return f"Dice: {', '.join(values)}"


def _add_legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], color=CLASS_COLOURS[name], linewidth=3, label=name)
        for name in CLASS_NAMES
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
    )
