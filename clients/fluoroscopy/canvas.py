"""Grids of pixels over the field, and the shapes that are drawn on them."""

from typing import NamedTuple

import cv2
import numpy as np

from clients.fluoroscopy.geometry import Curve, Field


class Canvas(NamedTuple):
    """Square pixels over the field and a margin around it.

    The centre of pixel k lies at (k + 0.5 - margin) / resolution of the field.
    """

    resolution: int  # px across the field
    margin: int = 0  # px beyond each side of the field

    @property
    def side(self) -> int:
        """Return the number of pixels along a side, margins included."""
        return self.resolution + 2 * self.margin

    def coordinates(self) -> tuple[Field, Field]:
        """Return x and y of every pixel centre, (side, side), in units of the field."""
        centres = (np.arange(self.side) + 0.5 - self.margin) / self.resolution
        x, y = np.meshgrid(centres.astype(np.float32), centres.astype(np.float32))
        return x, y

    def to_pixels(self, points: Curve) -> Curve:
        """Return points of the field in px, the corner of the first pixel at 0."""
        return points * self.resolution + self.margin

    def blank(self) -> Field:
        """Return zeros, (side, side)."""
        return np.zeros((self.side, self.side), np.float32)


def soft_step(distance: Field, width: float) -> Field:
    """Return 1 where a signed distance is negative, 0 where positive, smoothly.

    Args:
        distance: Signed distance from an edge, in any unit; negative = inside.
        width: Of the transition, in the same unit, > 0.

    Returns:
        Values between 0 and 1; 0.5 on the edge.
    """
    # A clipped cubic: the tails of a logistic would cost an exponential per pixel.
    share = np.clip(0.5 - distance * np.float32(0.25 / width), 0, 1)
    return share * share * (3 - 2 * share)


def ridge(distance: Field, width: float) -> Field:
    """Return a bell of height 1 along the zero line of a distance."""
    scaled = distance * np.float32(1 / width)
    return np.exp(-scaled * scaled)


def radius_share(
    x: Field, y: Field, centre: Curve, radii: Curve, turn: float = 0.0
) -> Field:
    """Return 1 on an ellipse, less inside, more outside.

    Args:
        x: (side, side), in any unit.
        y: (side, side), in the same unit.
        centre: (2,), in the same unit.
        radii: (2,), in the same unit, > 0.
        turn: Rotation of the ellipse, rad.

    Returns:
        (side, side), the distance from the centre as a share of the radius there.
    """
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    across = (dx * cosine + dy * sine) * np.float32(1 / radii[0])
    along = (dy * cosine - dx * sine) * np.float32(1 / radii[1])
    return np.sqrt(across * across + along * along)


def chord(share: Field) -> Field:
    """Return the path through an ellipsoid, 1 in its middle and 0 outside.

    Args:
        share: As from `radius_share`.

    Returns:
        (side, side), as a share of the longest path.
    """
    return np.sqrt(np.clip(1 - share * share, 0, 1))


def texture(
    rng: np.random.Generator,
    canvas: Canvas,
    *,
    cells: int,
    octaves: int,
    decay: float = 0.6,
) -> Field:
    """Draw a random field with detail at several scales.

    Anatomical clutter has a power spectrum that falls with a power of frequency
    [Burgess, Medical Physics 26, 1999]; octaves with falling amplitude imitate it.

    Args:
        rng: Source of randomness. Neither the numbers drawn nor the shape depend on
            the resolution, only how much of the finest octaves can be seen.
        canvas: Where to draw.
        cells: Independent values along a side in the coarsest octave, >= 2.
        octaves: Number of octaves; each has twice the cells of the one before.
        decay: Ratio of the amplitudes of an octave and the one before it.

    Returns:
        (side, side), mean and standard deviation of about 0 and 1.
    """
    total, power = canvas.blank(), 0.0
    for octave in range(octaves):
        coarse = rng.standard_normal((cells << octave,) * 2, dtype=np.float32)
        how = cv2.INTER_CUBIC if len(coarse) < canvas.side else cv2.INTER_AREA
        total += decay**octave * cv2.resize(
            coarse, (canvas.side, canvas.side), interpolation=how
        )
        power += 0.6 * decay ** (2 * octave)
    return total / np.float32(np.sqrt(power))
