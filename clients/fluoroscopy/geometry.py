"""Curves in units of the field.

Lengths are in units of the field: x to the right and y downwards, both from 0 to 1
across the image, whatever its size in pixels.
"""

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]  # (side, side)
Flags = NDArray[np.bool_]  # (side, side)
Curve = NDArray[np.float64]  # (points, 2), x and y
Range = tuple[float, float]  # smallest and largest value that may be drawn


def sample_spline(knots: Curve, step: float) -> Curve:
    """Draw a smooth curve through points.

    Args:
        knots: (points, 2), at least two, no two neighbours equal.
        step: Wanted distance between samples, in units of the field.

    Returns:
        Samples of a cubic spline, parameterised by the distance between the knots.
    """
    return spline_basis(knots, step) @ knots


def spline_basis(knots: Curve, step: float) -> NDArray[np.float64]:
    """Return what every knot adds to the samples of a spline.

    Args:
        knots: (knots, 2), where the spline is when nothing has moved.
        step: Wanted distance between samples, in units of the field.

    Returns:
        (samples, knots): times the knots, moved or not, it gives the samples.
    """
    position = arc_length(knots)
    count = int(np.ceil(position[-1] / step)) + 2
    # A tenth of a second to import, which a real hospital need not wait for.
    from scipy.interpolate import CubicSpline

    units = CubicSpline(position, np.eye(len(knots)))
    return units(np.linspace(0, position[-1], count))


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


def turning(curve: Curve) -> NDArray[np.float64]:
    """Return how far a curve has turned up to each of its points, rad, signed."""
    steps = np.diff(curve, axis=0)
    steps = steps[np.hypot(*steps.T) > 0] if len(steps) > 1 else steps
    heading = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
    padded = np.concatenate((heading[:1], heading, heading[-1:]))
    padded = np.interp(
        np.linspace(0, 1, len(curve)), np.linspace(0, 1, len(padded)), padded
    )
    return padded - padded[0]


def arc(
    start: Curve,
    heading: float,
    radius: float,
    angle: float,
    *,
    flat: float,
    step: float,
) -> Curve:
    """Draw a circular arc that leaves a point, seen from a tilted side.

    Args:
        start: (2,), where the arc begins; not part of the result.
        heading: Direction in which it begins, rad.
        radius: Of the arc, in units of the field.
        angle: How far the arc turns, rad; the sign is its side.
        flat: Cosine of its rotation about the heading, -1 to 1: 1 shows the arc as it
            is, 0 edge-on, -1 mirrored.
        step: Wanted distance between samples, in units of the field.

    Returns:
        (points, 2), at least two points.
    """
    count = max(2, int(np.ceil(radius * abs(angle) / step)))
    turned = np.linspace(0, abs(angle), count + 1)[1:]
    along = radius * np.sin(turned)
    across = radius * (1 - np.cos(turned)) * np.sign(angle) * flat
    x = along * np.cos(heading) - across * np.sin(heading)
    y = along * np.sin(heading) + across * np.cos(heading)
    return start + np.stack((x, y), axis=1)
