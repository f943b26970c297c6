"""Curves and round bodies as an X-ray beam sees them, on a grid of pixels.

Lengths are in units of the field: x to the right and y downwards, both from 0 to 1
across the image, whatever its size in pixels. The line integrals are exact for
straight cylinders in the image plane; foreshortening is not modelled.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

Field = NDArray[np.float64]  # (size, size)
Flags = NDArray[np.bool_]  # (size, size)
Curve = NDArray[np.float64]  # (points, 2), x and y


def pixel_centres(size: int) -> tuple[Field, Field]:
    """Return x and y of every pixel centre.

    Args:
        size: Side of the image, px.

    Returns:
        Two arrays (size, size), in units of the field.
    """
    centres = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(centres, centres)
    return x, y


def sample_spline(knots: Curve, step: float) -> Curve:
    """Draw a smooth curve through points.

    Args:
        knots: (points, 2), at least two, no two neighbours equal.
        step: Wanted distance between samples, in units of the field.

    Returns:
        Samples of a cubic spline, parameterised by the distance between the knots.
    """
    gaps = np.hypot(*np.diff(knots, axis=0).T)
    position = np.concatenate(([0.0], np.cumsum(gaps)))
    count = int(np.ceil(position[-1] / step)) + 2
    return CubicSpline(position, knots)(np.linspace(0, position[-1], count))


def arc_length(curve: Curve) -> NDArray[np.float64]:
    """Return the distance along a curve from its first point to each of its points."""
    gaps = np.hypot(*np.diff(curve, axis=0).T)
    return np.concatenate(([0.0], np.cumsum(gaps)))


def cut_curve(curve: Curve, start: float, end: float) -> Curve:
    """Keep the part of a curve between two shares of its length.

    Args:
        curve: (points, 2).
        start: Share of the length, from 0.
        end: Share of the length, to 1; larger than `start`.

    Returns:
        The curve with its new ends interpolated.
    """
    position = arc_length(curve)
    bounds = np.array([start, end]) * position[-1]
    inner = position[(position > bounds[0]) & (position < bounds[1])]
    kept = np.concatenate((bounds[:1], inner, bounds[1:]))
    columns = [np.interp(kept, position, curve[:, axis]) for axis in (0, 1)]
    return np.stack(columns, axis=1)


def add_arc(curve: Curve, radius: float, angle: float, step: float) -> Curve:
    """Lengthen a curve by a circular arc that continues its direction.

    Args:
        curve: (points, 2).
        radius: Of the arc, in units of the field.
        angle: How far the arc turns, rad; the sign is its side.
        step: Wanted distance between samples, in units of the field.

    Returns:
        The longer curve.
    """
    count = max(2, int(np.ceil(radius * abs(angle) / step)))
    turned = np.linspace(0, angle, count + 1)[1:]
    heading = np.arctan2(*(curve[-1] - curve[-2])[::-1])
    side = np.sign(angle) * radius
    across = side * (np.sin(heading + turned) - np.sin(heading))
    along = side * (np.cos(heading) - np.cos(heading + turned))
    return np.concatenate((curve, curve[-1] + np.stack((across, along), axis=1)))


def distance_map(curve: Curve, size: int, reach: float) -> Field:
    """Measure how far pixel centres are from a curve.

    Only pixels near each straight piece are looked at, so the cost grows with the
    curve's length and not with the image. The distance is exact for the polyline.

    Args:
        curve: (points, 2) in units of the field; may leave the image.
        size: Side of the image, px.
        reach: Largest distance of interest, px.

    Returns:
        (size, size) distances in px; infinity where larger than `reach`.
    """
    begin, step = curve[:-1] * size, np.diff(curve, axis=0) * size
    half = int(np.ceil(reach + np.abs(step).max()))
    window = np.arange(-half, half + 1)
    columns, rows = (np.floor(begin).astype(int)[:, :, None] + window).swapaxes(0, 1)
    dx = (columns + 0.5 - begin[:, :1])[:, None, :]
    dy = (rows + 0.5 - begin[:, 1:])[:, :, None]
    step_x, step_y = step[:, 0, None, None], step[:, 1, None, None]
    squared_step = np.maximum(step_x**2 + step_y**2, np.finfo(float).tiny)
    share = np.clip((dx * step_x + dy * step_y) / squared_step, 0, 1)
    squared = (dx - share * step_x) ** 2 + (dy - share * step_y) ** 2
    inside_x, inside_y = ((0 <= k) & (k < size) for k in (columns, rows))
    near = inside_y[:, :, None] & inside_x[:, None, :] & (squared <= reach**2)
    pixel = rows[:, :, None] * size + columns[:, None, :]
    nearest = np.full(size * size, np.inf)
    np.minimum.at(nearest, pixel[near], squared[near])
    return np.sqrt(nearest).reshape(size, size)


def cylinder(distance: Field, radius: float) -> Field:
    """Integrate along the beam through a solid cylinder.

    The chord 2 sqrt(radius² - t²) is averaged over the width of one pixel, so that a
    wire thinner than a pixel is neither lost nor too dark.

    Args:
        distance: From the axis, px; infinity where far.
        radius: px, > 0.

    Returns:
        Path length divided by the diameter: 1 at most, 0 outside.
    """

    def area(t: Field) -> Field:
        bounded = np.clip(t, -radius, radius)
        root = np.sqrt(np.maximum(radius**2 - bounded**2, 0))
        return bounded * root + radius**2 * np.arcsin(bounded / radius)

    near = np.where(np.isfinite(distance), distance, radius + 1)
    return (area(near + 0.5) - area(near - 0.5)) / (2 * radius)


def tube(distance: Field, radius: float, inner_share: float) -> Field:
    """Integrate along the beam through the wall of a tube.

    Args:
        distance: From the axis, px; infinity where far.
        radius: Of the outside, px, > 0.
        inner_share: Radius of the lumen as a share of `radius`, between 0 and 1.

    Returns:
        Path length in the wall, scaled to 1 at the inner edge of a wide tube; less
        over the lumen, so that the edges stand out.
    """
    solid = cylinder(distance, radius)
    lumen = cylinder(distance, radius * inner_share) * inner_share
    return (solid - lumen) / np.sqrt(1 - inner_share**2)


def soft_step(distance: Field, width: float) -> Field:
    """Return 1 where a signed distance is negative, 0 where positive, smoothly.

    Args:
        distance: Signed distance from an edge, in any unit; negative = inside.
        width: Of the transition, in the same unit, > 0.

    Returns:
        Values between 0 and 1; 0.5 on the edge.
    """
    return 0.5 - 0.5 * np.tanh(distance / (2 * width))


def random_field(rng: np.random.Generator, cells: int, size: int) -> Field:
    """Draw a smooth random field whose shape does not depend on the image size.

    Args:
        rng: Source of randomness; `cells` squared numbers are drawn.
        cells: Number of independent values along a side, >= 2.
        size: Side of the image, px.

    Returns:
        (size, size), zero mean and a standard deviation of about 0.7.
    """
    coarse = rng.standard_normal((cells, cells))
    field = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return field - field.mean()
