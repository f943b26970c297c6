"""Line integrals through round bodies along curves, as an X-ray beam takes them.

Exact for straight cylinders in the image plane. Curves are polylines; the distance of
a pixel centre from a polyline is exact.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clients.fluoroscopy.canvas import Canvas
from clients.fluoroscopy.geometry import Curve, Field, turning

Values = NDArray[np.float32]
STRAIGHT_TURN = 2.8  # rad; a curve that turns less does not cross itself
BESIDE_CUT = 2  # points on each side of a cut that belong to the same bend
GROUPS = 4  # of segments with radii alike


class Near(NamedTuple):
    """Pixels beside a curve. A pixel appears once for each strand that passes it."""

    pixel: NDArray[np.int64]  # (n,), row * side + column
    distance: Values  # (n,), px from the curve
    position: Values  # (n,), place on the curve: points passed, from 0


def trace(curve: Curve, canvas: Canvas, reach: float) -> Near:
    """Find the pixels beside a curve.

    Args:
        curve: (points, 2) in units of the field; may leave the image.
        canvas: The pixels.
        reach: Largest distance of interest, px.

    Returns:
        For every pixel near the curve the nearest place on it. Where the curve comes
        back over itself, pixels are named once for each strand, so that what lies one
        above the other adds up.
    """
    line = canvas.to_pixels(curve)
    turned = np.cumsum(np.abs(np.diff(turning(curve), prepend=0.0)))
    if turned[-1] < STRAIGHT_TURN:
        return _nearest(line, reach, canvas.side, 0)
    cuts = np.searchsorted(turned, np.arange(STRAIGHT_TURN, turned[-1], STRAIGHT_TURN))
    bounds = [0, *np.unique(cuts[(cuts > 0) & (cuts < len(line) - 1)]), len(line) - 1]
    strands = [
        _nearest(line[first : last + 1], reach, canvas.side, first)
        for first, last in pairwise(bounds)
    ]
    return _join_strands(strands, bounds)


class Segments(NamedTuple):
    """Straight pieces of round bodies that taper; lengths in units of the field."""

    begin: Curve  # (n, 2)
    end: Curve  # (n, 2)
    radius: NDArray[np.float64]  # (n, 2), at begin and end, > 0
    value: NDArray[np.float64]  # (n, 2), carried along, at begin and end

    @staticmethod
    def along(
        curve: Curve,
        radius: NDArray[np.float64] | float,
        value: NDArray[np.float64] | float = 0.0,
    ) -> "Segments":
        """Return the pieces of a curve (points, 2)."""
        radii, values = (
            np.broadcast_to(np.asarray(v, float), len(curve)) for v in (radius, value)
        )
        return Segments(
            curve[:-1],
            curve[1:],
            np.stack((radii[:-1], radii[1:]), axis=1),
            np.stack((values[:-1], values[1:]), axis=1),
        )


def join_segments(parts: Sequence[Segments]) -> Segments:
    """Put the pieces of several bodies together."""
    nothing = Segments(*(np.zeros((0, 2)) for _ in Segments._fields))
    return Segments(*map(np.concatenate, zip(nothing, *parts, strict=True)))


def capsules(pieces: Segments, canvas: Canvas) -> tuple[Field, Field]:
    """Integrate through solid round bodies.

    Args:
        pieces: Of the bodies.
        canvas: The pixels.

    Returns:
        (side, side) path lengths in units of the field, and (side, side) the values
        of the piece with the longest path; 0 where there is none. Where pieces
        overlap the longest path counts, so that joints are not darker than what they
        join.
    """
    longest, carried = canvas.blank().ravel(), canvas.blank().ravel()
    begin, end = canvas.to_pixels(pieces.begin), canvas.to_pixels(pieces.end)
    wide = canvas.resolution * pieces.radius
    order = np.argsort(wide.max(axis=1, initial=0), kind="stable")
    for group in np.array_split(order, min(GROUPS, max(len(order), 1))):
        if len(group) == 0:
            continue
        reach = float(wide[group].max()) + 0.5
        pixel, squared, segment, share = _hits(
            begin[group], end[group], reach, canvas.side
        )
        chosen = group[segment]
        radius = _between(wide[chosen], share)
        path = cylinder(np.sqrt(squared), radius)
        path *= radius * np.float32(2 / canvas.resolution)
        np.maximum.at(longest, pixel, path)
        top = path == longest[pixel]
        carried[pixel[top]] = _between(pieces.value[chosen], share)[top]
    return longest.reshape(canvas.side, -1), carried.reshape(canvas.side, -1)


def _between(ends: NDArray[np.float64], share: Values) -> Values:
    """Interpolate between the columns of (n, 2)."""
    return (ends[:, 0] * (1 - share) + ends[:, 1] * share).astype(np.float32)


def cylinder(distance: Values, radius: Values | float) -> Values:
    """Integrate along the beam through a solid cylinder.

    The chord 2 sqrt(radius² - t²) is averaged over the width of one pixel, so that a
    wire thinner than a pixel is neither lost nor too dark.

    Args:
        distance: From the axis, px.
        radius: px, > 0.

    Returns:
        Path length divided by the diameter: 1 at most, 0 outside.
    """

    def area(t: Values) -> Values:
        """Return half the area of a unit circle's slice from 0 to t, twice."""
        bounded = np.clip(t, -1, 1)
        return bounded * np.sqrt(1 - bounded * bounded) + np.arcsin(bounded)

    scale = np.float32(1) / np.asarray(radius, np.float32)
    near, half = distance * scale, np.float32(0.5) * scale
    return (area(near + half) - area(near - half)) / (4 * half)


def tube(distance: Values, radius: float, inner_share: float) -> Values:
    """Integrate along the beam through the wall of a tube.

    Args:
        distance: From the axis, px.
        radius: Of the outside, px, > 0.
        inner_share: Radius of the lumen as a share of `radius`, between 0 and 1.

    Returns:
        Path length in the wall, scaled to 1 at the inner edge of a wide tube; less
        over the lumen, so that the edges stand out.
    """
    solid = cylinder(distance, radius)
    lumen = cylinder(distance, radius * inner_share) * np.float32(inner_share)
    return (solid - lumen) / np.float32(np.sqrt(1 - inner_share**2))


def _hits(
    begin: Curve, end: Curve, reach: float, side: int
) -> tuple[NDArray[np.int64], Values, NDArray[np.int64], Values]:
    """Return pixel, squared distance, segment and share of it, for every near pair.

    Only a window around each straight piece is looked at, so the cost grows with the
    length of the curves and not with the image.
    """
    half = int(np.ceil(reach + np.abs(end - begin).max() / 2))
    corner = np.floor((begin + end) / 2).astype(np.int64) - half
    shown = ((corner < side) & (corner > -2 * half - 1)).all(axis=1)
    numbers = np.flatnonzero(shown)
    begin, corner = begin[shown], corner[shown]
    step = (end[shown] - begin).astype(np.float32)
    window = np.arange(2 * half + 1)
    first = (corner + 0.5 - begin).astype(np.float32)
    dx = first[:, :1] + window.astype(np.float32)  # (segments, window)
    dy = first[:, 1:] + window.astype(np.float32)
    length = np.maximum((step**2).sum(axis=1), np.finfo(np.float32).tiny)
    across = (dx * (step[:, :1] / length[:, None]))[:, None, :]
    share = across + (dy * (step[:, 1:] / length[:, None]))[:, :, None]
    np.clip(share, 0, 1, out=share)
    away_x = dx[:, None, :] - share * step[:, 0, None, None]
    away_y = dy[:, :, None] - share * step[:, 1, None, None]
    squared = away_x * away_x + away_y * away_y
    found = np.flatnonzero(squared <= np.float32(reach * reach))
    segment, place = np.divmod(found, len(window) ** 2)
    row, column = np.divmod(place, len(window))
    row, column = row + corner[segment, 1], column + corner[segment, 0]
    inside = (row >= 0) & (row < side) & (column >= 0) & (column < side)
    found, segment = found[inside], segment[inside]
    pixel = row[inside] * side + column[inside]
    return pixel, squared.ravel()[found], numbers[segment], share.ravel()[found]


def _nearest(line: Curve, reach: float, side: int, first: int) -> Near:
    pixel, squared, segment, share = _hits(line[:-1], line[1:], reach, side)
    if len(pixel) == 0:
        return Near(pixel, squared, share)
    # Only the rows that the curve passes are looked at.
    begin = int(pixel.min())
    local = pixel - begin
    least = np.full(int(local.max()) + 1, np.inf, np.float32)
    np.minimum.at(least, local, squared)
    top = squared == least[local]
    position = np.zeros(len(least), np.float32)
    position[local[top]] = segment[top] + share[top] + first
    found = np.flatnonzero(np.isfinite(least))
    return Near(found + begin, np.sqrt(least[found]), position[found])


def _join_strands(strands: list[Near], bounds: list[int]) -> Near:
    """Name a pixel beside a cut once: by the strand to which it is nearer.

    A strand's end lies beside pixels that its continuation passes, too.
    """
    kept = [strands[0]]
    for cut, after in zip(bounds[1:-1], strands[1:], strict=True):
        before = kept.pop()
        _, first, second = np.intersect1d(
            before.pixel, after.pixel, assume_unique=True, return_indices=True
        )
        left, right = before.position[first], after.position[second]
        inside_bend = (left > cut - BESIDE_CUT) & (right < cut + BESIDE_CUT)
        beside = inside_bend | (left >= cut) | (right <= cut)
        first, second = first[beside], second[beside]
        goes_on = after.distance[second] < before.distance[first]
        kept.append(_without(before, first[goes_on]))
        kept.append(_without(after, second[~goes_on]))
    return _join(kept)


def _without(near: Near, which: NDArray[np.int64]) -> Near:
    return Near(*(np.delete(values, which) for values in near))


def _join(parts: Sequence[Near]) -> Near:
    return Near(*(np.concatenate(values) for values in zip(*parts, strict=True)))
