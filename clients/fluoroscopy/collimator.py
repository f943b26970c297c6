"""The outline of the field of view: blades, diaphragms and round intensifiers."""

from collections.abc import Callable, Mapping

import numpy as np

from clients.fluoroscopy.canvas import Canvas
from clients.fluoroscopy.geometry import Field

Outline = Callable[[np.random.Generator, Field, Field], Field]
"""(randomness, x, y from the middle, in fields) -> signed distance, outside > 0."""


def draw_collimator(
    rng: np.random.Generator, shape: str, canvas: Canvas, turn: float
) -> Field:
    """Draw the edge of the field of view.

    Args:
        rng: Source of randomness.
        shape: A name in `OUTLINES`.
        canvas: The pixels.
        turn: Rotation, rad; the outline shrinks so that its corners stay visible.

    Returns:
        (side, side), signed distance from the edge in units of the field; > 0 outside.
    """
    x, y = (axis - np.float32(0.5) for axis in canvas.coordinates())
    shift = np.clip(rng.normal(0, 0.006, 2), -0.006, 0.006).astype(np.float32)
    cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    x, y = x - shift[0], y - shift[1]
    return OUTLINES[shape](rng, x * cosine + y * sine, y * cosine - x * sine)


def _open(rng: np.random.Generator, x: Field, y: Field) -> Field:
    return np.full_like(x, -1.0)


def _circle(rng: np.random.Generator, x: Field, y: Field) -> Field:
    """Return the round field of an image intensifier; the square cuts it a little."""
    return np.hypot(x, y) - np.float32(rng.uniform(0.48, 0.53))


def _octagon(rng: np.random.Generator, x: Field, y: Field) -> Field:
    half = rng.uniform(0.46, 0.49)
    sides = np.maximum(np.abs(x), np.abs(y)) - np.float32(half)
    corner = np.abs(x) + np.abs(y) - np.float32(rng.uniform(1.5, 1.7) * half)
    return np.maximum(sides, corner / np.float32(np.sqrt(2)))


def _chamfered(rng: np.random.Generator, x: Field, y: Field) -> Field:
    """Return nearly the whole square with its corners cut, as flat detectors show."""
    half = rng.uniform(0.476, 0.489)
    sides = np.maximum(np.abs(x), np.abs(y)) - np.float32(half)
    cut = rng.uniform(0.03, 0.075)
    corner = np.abs(x) + np.abs(y) - np.float32(2 * half - cut)
    return np.maximum(sides, corner / np.float32(np.sqrt(2)))


def _rounded(rng: np.random.Generator, x: Field, y: Field) -> Field:
    half = rng.uniform((0.36, 0.42), (0.49, 0.49)).astype(np.float32)
    corner = np.float32(rng.uniform(0.03, 0.12))
    dx, dy = np.abs(x) - half[0] + corner, np.abs(y) - half[1] + corner
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    return outside + np.minimum(np.maximum(dx, dy), 0) - corner


def _blades(rng: np.random.Generator, x: Field, y: Field) -> Field:
    """Return two blades closed from opposite sides, each at its own place."""
    across = (x, y)[rng.integers(2)]
    near, far = rng.uniform(0.36, 0.47, 2).astype(np.float32)
    return np.maximum(across - near, -far - across)


OUTLINES: Mapping[str, Outline] = {
    "blades": _blades,
    "chamfered": _chamfered,
    "circle": _circle,
    "octagon": _octagon,
    "open": _open,
    "rounded": _rounded,
}
"""Shape -> how to draw it."""
