"""Outlines drawn on the pixel grid, exactly.

The centre of the pixel in row r and column c lies at (c + 0.5, r + 0.5). A pixel
belongs to a polygon if its centre is inside by the even-odd rule, and to a polyline if
its centre is within half the line's width of it. The filling functions of OpenCV,
Pillow and scikit-image do something else at the borders (a square from 2.5 to 6.5
becomes 5 px wide, not 4), which is half of a guidewire; hence these two functions.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from clients.annotations.annotation import FrameOutlines, LabelMap, Outline
from clients.annotations.labels import sort_by_class
from clients.data.errors import DataError

ROUNDING = 1e-9
"""px; keeps a pixel at exactly half the width whatever the rounding."""
STRETCH = 64.0
"""px; a line is drawn in pieces of this length."""


@dataclass(frozen=True)
class DrawnAnnotation:
    """An `Annotation` of outlines: drawn when asked for."""

    outlines: FrameOutlines = field(repr=False)
    labels: LabelMap = field(repr=False)

    def layers(
        self, height: int, width: int, spacing_mm: float | None
    ) -> dict[str, NDArray[np.uint8]]:
        """Draw the masks of a frame; parts outside of it are cut off.

        Args:
            height: Of the frame, px.
            width: Of the frame, px.
            spacing_mm: Of a pixel of the frame, or None.

        Returns:
            Class name -> (height, width) in {0, 1}, for every class that the site
            declares; all zeros where the class is not in the frame.

        Raises:
            DataError: If the outlines are of an image of another size, a label means
                nothing, a shape cannot be drawn, or a width in mm meets a frame
                without spacing.
        """
        self._check_size(height, width)
        layers = {}
        for name, drawn in sort_by_class(self.outlines.outlines, self.labels).items():
            layers[name] = np.zeros((height, width), np.uint8)
            for outline in drawn:
                self._draw(outline, layers[name], spacing_mm)
        return layers

    def _check_size(self, height: int, width: int) -> None:
        stated = self.outlines.height or height, self.outlines.width or width
        if stated != (height, width):
            raise DataError(
                f"the annotation is of an image of {stated[1]}x{stated[0]} px, the "
                f"frame has {width}x{height} px; annotate the frame in its own size"
            )

    def _draw(
        self, outline: Outline, canvas: NDArray[np.uint8], spacing_mm: float | None
    ) -> None:
        if outline.mask is not None:
            outline.mask.draw_on(canvas)
        elif not outline.points:
            raise DataError(
                "a class is annotated with a box, point, circle or another shape that "
                "has no outline; draw polygons, polylines or masks, or add its label "
                "to `ignore-labels` of the site in the sites file"
            )
        elif outline.kind == "polygon":
            canvas |= fill_polygon(outline.points, *canvas.shape)
        else:
            line_width = _width_px(self.labels, spacing_mm)
            for line in outline.points:
                canvas |= draw_polyline(line, line_width, *canvas.shape)


def fill_polygon(
    rings: Sequence[NDArray[np.float64]], height: int, width: int
) -> NDArray[np.uint8]:
    """Fill a polygon by the even-odd rule.

    Every edge flips the pixels of its rows whose centres lie to its right. Of a border
    that runs through centres, the upper and left ones count as inside, the lower and
    right ones as outside, so that neighbours share no pixel.

    Args:
        rings: Each (points, 2), x and y in px, closed or not.
        height: Of the frame, px.
        width: Of the frame, px.

    Returns:
        (height, width) in {0, 1}.
    """
    flips = np.zeros((height, width + 1), np.uint32)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            first = max(math.ceil(min(y0, y1) - 0.5), 0)
            last = min(math.ceil(max(y0, y1) - 0.5), height)  # not included
            if first < last:
                rows = np.arange(first, last)
                crossings = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
                columns = np.ceil(crossings - 0.5).clip(0, width).astype(np.intp)
                flips[rows, columns] += 1
    return (np.cumsum(flips[:, :-1], axis=1) % 2).astype(np.uint8)


def draw_polyline(
    line: NDArray[np.float64], line_width: float, height: int, width: int
) -> NDArray[np.uint8]:
    """Draw a line with round ends and corners.

    A line narrower than 1 px is drawn 1 px wide: the pixels within half a pixel of a
    connected curve are connected (8 neighbours), those within less are not. What is
    too short to reach a centre becomes the one pixel that holds it.

    Args:
        line: (points, 2), x and y in px.
        line_width: px, > 0.
        height: Of the frame, px.
        width: Of the frame, px.

    Returns:
        (height, width) in {0, 1}.
    """
    drawn = np.zeros((height, width), np.uint8)
    reach = max(line_width, 1.0) / 2 + ROUNDING
    for start, end in _short_stretches(line):
        low, high = np.minimum(start, end) - reach, np.maximum(start, end) + reach
        left, top = np.floor(low).clip(0, (width, height)).astype(int)
        right, bottom = np.ceil(high).clip(0, (width, height)).astype(int)
        if left < right and top < bottom:
            x = np.arange(left, right) + 0.5 - start[0]
            y = np.arange(top, bottom)[:, None] + 0.5 - start[1]
            drawn[top:bottom, left:right] |= _within(x, y, end - start, reach)
    if not drawn.any():
        for column, row in np.floor(line).astype(int):
            if 0 <= row < height and 0 <= column < width:
                drawn[row, column] = 1
    return drawn


def _short_stretches(
    line: NDArray[np.float64],
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Cut a line up: the boxes around long diagonals hold too many pixels."""
    for start, end in pairwise(line):
        count = max(math.ceil(math.dist(start, end) / STRETCH), 1)
        yield from pairwise(np.linspace(start, end, count + 1))


def _within(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    along: NDArray[np.float64],
    reach: float,
) -> NDArray[np.bool_]:
    """Tell which points are within reach of the stretch from (0, 0) to `along`."""
    squared_length = float(along @ along)
    share = (x * along[0] + y * along[1]) / (squared_length or 1.0)
    share = share.clip(0, 1)
    distances = np.hypot(x - share * along[0], y - share * along[1])
    return distances <= reach


def _width_px(labels: LabelMap, spacing_mm: float | None) -> float:
    if not labels.line_width > 0:
        raise DataError("the width of lines must be > 0; correct it in the sites file")
    if labels.line_unit == "px":
        return labels.line_width
    if spacing_mm is None or not spacing_mm > 0:
        raise DataError(
            "lines are to be drawn with a width in mm, but the pixel spacing of this "
            "frame is not known; declare the width in px or the spacing of the site"
        )
    return labels.line_width / spacing_mm
