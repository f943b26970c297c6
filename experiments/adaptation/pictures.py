"""Frames of an adaptation to look at: truth if any, pseudo-labels, before and after.

With annotated frames the pictures are those of `experiments/overlays.py`, with a Dice
below each prediction. Of frames that nobody labelled there is no truth to draw, and
what stands below is the size of the masks.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from clients.data.errors import DataError
from clients.data.frames import Frames, FrameSet
from experiments.overlays import CLASS_COLOURS, FILL, PANEL_SIDE, draw_overlays
from models.classes import CLASS_NAMES
from server.figure_style import save

FRAMES = 6  # in one picture
CAPTION_SIDE = 0.22  # inches, below a panel
MARGIN = 0.75  # inches, title and legend


def draw_adaptation(
    frames: Frames,
    columns: Mapping[str, Tensor],
    path: Path,
    *,
    title: str,
    classes: Sequence[str],
    limit: int = FRAMES,
) -> Path:
    """Draw test frames beside their truth, if any, and several predictions.

    Args:
        frames: To choose from, evenly spread over all.
        columns: Title such as "pseudo-label", "direct transfer", "ours" -> masks
            (frames, classes of `CLASS_NAMES`, size, size), nonzero = device.
        path: PNG to write; its folder is made.
        title: Of the whole picture.
        classes: Names of the classes adapted; others are not drawn.
        limit: Frames in the picture, >= 1.

    Returns:
        The path.

    Raises:
        DataError: If a shape does not fit, a class is unknown, or no column is wanted.
    """
    chosen = spread_over(torch.arange(len(frames)), limit)
    return _draw(frames, chosen, columns, path, title=title, classes=classes)


def draw_cleaning(
    frames: Frames,
    before: Tensor,
    after: Tensor,
    path: Path,
    *,
    title: str,
    classes: Sequence[str],
    limit: int = FRAMES,
) -> Path:
    """Draw pseudo-labels before and after cleaning.

    The frames go from the one that lost fewest pixels to the one that lost most.

    Args:
        frames: That were labelled; their masks are the truth, if annotated, and not
            the pseudo-labels.
        before: (frames, classes of `CLASS_NAMES`, size, size), nonzero = device.
        after: The same after cleaning, empty where nothing remained.
        path: PNG to write; its folder is made.
        title: Of the whole picture.
        classes: Names of the classes adapted.
        limit: Frames in the picture, >= 1.

    Returns:
        The path.

    Raises:
        DataError: If a shape does not fit, or a class is unknown.
    """
    columns = {"before cleaning": before, "after cleaning": after}
    _check(frames, columns, classes)
    lost = ((before > 0) & (after == 0))[:, _shown(classes)].flatten(1).sum(dim=1)
    chosen = spread_over(torch.argsort(lost.cpu(), stable=True), limit)
    return _draw(frames, chosen, columns, path, title=title, classes=classes)


def spread_over(order: Tensor, limit: int) -> Tensor:
    """Choose some of many, evenly, the first and the last among them.

    Args:
        order: (count,), at least one.
        limit: Number wanted, >= 1; all if there are fewer.

    Returns:
        (min(count, limit),), in the same order.
    """
    count = min(len(order), max(limit, 1))
    return order[torch.linspace(0, len(order) - 1, count).round().long()]


def _draw(
    frames: Frames,
    chosen: Tensor,
    columns: Mapping[str, Tensor],
    path: Path,
    *,
    title: str,
    classes: Sequence[str],
) -> Path:
    _check(frames, columns, classes)
    part = frames.subset(chosen)
    shown = torch.zeros(len(CLASS_NAMES), dtype=torch.uint8)
    shown[_shown(classes)] = 1
    masks = {
        name: (one[chosen] > 0).cpu() * shown[:, None, None]
        for name, one in columns.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    known = part.annotated & shown.bool()
    if not known.any():
        return _draw_without_truth(part, masks, path, title)
    truth = part.masks * shown[:, None, None]
    return draw_overlays(part.images, truth, masks, path, title=title, annotated=known)


def _draw_without_truth(
    frames: FrameSet, columns: Mapping[str, Tensor], path: Path, title: str
) -> Path:
    """Draw rows of a frame and its predictions."""
    wide = 1 + len(columns)
    high = (PANEL_SIDE + CAPTION_SIDE) * len(frames) + MARGIN
    figure = Figure(figsize=(PANEL_SIDE * wide, high), layout="constrained")
    grid = figure.subplots(len(frames), wide, squeeze=False)
    for row, image in zip(grid, frames.images[:, 0], strict=True):
        for axes in row:
            axes.imshow(image.numpy(), cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
    for index, masks in enumerate(columns.values()):
        for row, found in zip(grid, masks, strict=True):
            _draw_masks(row[1 + index], found)
    for axes, name in zip(grid[0], ("frame", *columns), strict=True):
        axes.set_title(name, fontsize=10)
    figure.suptitle(title, fontsize=11)
    handles = [
        Line2D([], [], color=colour, linewidth=3, label=name)
        for name, colour in CLASS_COLOURS.items()
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False
    )
    return save(figure, path)


def _draw_masks(axes: Axes, masks: Tensor) -> None:
    """Fill and outline masks (classes, size, size) and say how large they are."""
    size = masks.shape[-1]
    places = np.arange(-1, size + 1)
    for name, mask in zip(CLASS_NAMES, masks.numpy(), strict=True):
        if mask.any():  # matplotlib warns of contours that are not there
            # Padding closes the outlines of masks that touch the border.
            drawn, colour = np.pad(mask, 1).astype(float), CLASS_COLOURS[name]
            axes.contourf(places, places, drawn, [0.5, 1], colors=colour, alpha=FILL)
            axes.contour(places, places, drawn, [0.5], colors=colour, linewidths=1.0)
    axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5))
    counts = masks.flatten(1).sum(dim=1).tolist()
    sizes = (f"{name} {count}" for name, count in zip(CLASS_NAMES, counts, strict=True))
    axes.set_xlabel(f"px: {', '.join(sizes)}", fontsize=8)


def _shown(classes: Sequence[str]) -> list[int]:
    return [CLASS_NAMES.index(name) for name in CLASS_NAMES if name in classes]


def _check(
    frames: Frames, columns: Mapping[str, Tensor], classes: Sequence[str]
) -> None:
    if not columns or not classes or not set(classes) <= set(CLASS_NAMES):
        raise DataError(
            f"A picture needs predictions and some of {', '.join(CLASS_NAMES)}, got "
            f"{len(columns)} prediction(s) and {', '.join(classes) or 'no class'}."
        )
    size = frames.subset(torch.tensor([0])).images.shape[-1]
    wanted = (len(frames), len(CLASS_NAMES), size, size)
    for masks in columns.values():
        if tuple(masks.shape) != wanted:
            raise DataError(
                f"Masks {wanted} were wanted, one set a frame, got "
                f"{tuple(masks.shape)}."
            )
