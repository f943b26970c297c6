"""Rods and hoses along curves, added to what is in the beam already."""

import numpy as np

from clients.fluoroscopy.canvas import Canvas
from clients.fluoroscopy.geometry import Curve, Field
from clients.fluoroscopy.projection import Near, Values, cylinder, trace, tube


def add_rod(
    total: Field, canvas: Canvas, curve: Curve, radius: float, amount: float
) -> None:
    """Add a solid rod.

    Args:
        total: (side, side), changed in place.
        canvas: Its pixels.
        curve: (points, 2), in units of the field.
        radius: In units of the field.
        amount: What is added on the axis of a wide rod, in the unit of `total`.
    """
    wide = radius * canvas.resolution
    near = trace(curve, canvas, wide + 1)
    add_traced(total, near, np.float32(amount) * cylinder(near.distance, wide))


def add_hose(
    total: Field,
    canvas: Canvas,
    curve: Curve,
    radius: float,
    amount: float,
    *,
    inner_share: float,
) -> None:
    """Add a hollow rod.

    Args:
        total: (side, side), changed in place.
        canvas: Its pixels.
        curve: (points, 2), in units of the field.
        radius: Of the outside, in units of the field.
        amount: What is added at the inner edge of the wall of a wide hose.
        inner_share: Radius of the inside as a share of `radius`.
    """
    wide = radius * canvas.resolution
    near = trace(curve, canvas, wide + 1)
    add_traced(total, near, np.float32(amount) * tube(near.distance, wide, inner_share))


def add_traced(total: Field, near: Near, values: Values) -> None:
    """Add a value for every pixel that is named beside a curve, in place."""
    np.add.at(total.reshape(-1), near.pixel, values.astype(np.float32, copy=False))
