"""How a patient moves while being looked at: breath and heartbeat.

Both move points of the field smoothly. The anatomy is warped by the displacement, the
devices follow it in part. Waveforms: breath as cos⁴, with a rest after expiration
[Lujan et al., Medical Physics 26, 1999]; heart as a quick contraction and a slow
filling.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.fluoroscopy.geometry import Curve, Range

Coordinates = NDArray[np.floating]
Modes = tuple[tuple[Coordinates, Coordinates], tuple[Coordinates, Coordinates]]
"""Displacements along x and y by a full breath, and by a full heartbeat."""


@dataclass(frozen=True)
class MotionRanges:
    """How much patients of one kind move; lengths in units of the field."""

    breath: Range = (0.004, 0.02)  # amplitude at the diaphragm
    beat: Range = (0.004, 0.014)  # amplitude at the edge of the heart
    breath_s: Range = (3.0, 5.5)  # period
    beat_s: Range = (0.65, 1.1)  # period


@dataclass(frozen=True)
class Motion:
    """The motion of one patient."""

    breath: float  # amplitude, fields
    breath_s: float
    breath_phase: float  # share of a period
    downwards: Curve  # (2,), unit vector towards the feet
    spine: Curve  # (2,), a point on the spine, which stands still
    beat: float  # amplitude, fields
    beat_s: float
    beat_phase: float  # share of a period
    heart: Curve  # (2,)
    heart_radius: float  # fields

    @property
    def moves(self) -> bool:
        """Tell whether anything moves at all."""
        return self.breath > 0 or self.beat > 0

    def displacement(
        self, x: Coordinates, y: Coordinates, time_s: float
    ) -> tuple[Coordinates, Coordinates]:
        """Return by how much points have moved.

        Args:
            x: Of the points at rest, any shape, in units of the field.
            y: Of the points at rest, of the same shape.
            time_s: Since the first frame.

        Returns:
            Displacements along x and y, of the same shape and unit.
        """
        (breath_x, breath_y), (beat_x, beat_y) = self.modes(x, y)
        breath, beat = self.amplitudes(time_s)
        return breath * breath_x + beat * beat_x, breath * breath_y + beat * beat_y

    def amplitudes(self, time_s: float) -> tuple[float, float]:
        """Return breath and beat at a time, 0 to 1 each."""
        breath = np.cos(np.pi * (time_s / self.breath_s + self.breath_phase)) ** 4
        phase = (time_s / self.beat_s + self.beat_phase) % 1.0
        # A third of the period to contract and relax, then rest.
        beat = np.sin(np.pi * min(phase / 0.45, 1.0)) ** 2
        return float(breath), float(beat)

    def modes(self, x: Coordinates, y: Coordinates, scale: float = 1.0) -> Modes:
        """Return the displacements of a full breath and of a full beat.

        Breath moves everything towards the feet, the more the nearer to them; the
        heart shrinks towards its middle and twists a little.

        Args:
            x: Of the points at rest, any shape, in units of the field.
            y: Of the points at rest, of the same shape.
            scale: The displacements are multiplied by it.

        Returns:
            Displacements along x and y by breath, then by heartbeat.
        """
        kind = np.result_type(x, np.float32)
        along = (x - self.spine[0]) * self.downwards[0]
        along = along + (y - self.spine[1]) * self.downwards[1]
        strength = scale * self.breath * np.clip(0.6 + 0.8 * along, 0.15, 1.4)
        dx, dy = x - self.heart[0], y - self.heart[1]
        near = np.exp(-(dx * dx + dy * dy) / self.heart_radius**2)
        pull = (-scale * self.beat / self.heart_radius) * near
        breath_x, breath_y, beat_x, beat_y = (
            values.astype(kind)
            for values in (
                strength * self.downwards[0],
                strength * self.downwards[1],
                pull * (dx + 0.5 * dy),
                pull * (dy - 0.5 * dx),
            )
        )
        return (breath_x, breath_y), (beat_x, beat_y)


NO_MOTION = Motion(
    breath=0.0,
    breath_s=1.0,
    breath_phase=0.0,
    downwards=np.array([0.0, 1.0]),
    spine=np.array([0.5, 0.5]),
    beat=0.0,
    beat_s=1.0,
    beat_phase=0.0,
    heart=np.array([0.5, 0.5]),
    heart_radius=1.0,
)
"""Nothing moves."""


def draw_motion(
    rng: np.random.Generator,
    ranges: MotionRanges,
    *,
    downwards: Curve,
    spine: Curve,
    heart: Curve,
    heart_radius: float,
) -> Motion:
    """Draw the motion of a patient.

    Args:
        rng: Source of randomness of this patient.
        ranges: What is usual.
        downwards: (2,), unit vector towards the feet.
        spine: (2,), a point on the spine, in units of the field.
        heart: (2,), centre of the heart, in units of the field.
        heart_radius: In units of the field, > 0.

    Returns:
        Motion with phases drawn at random.
    """
    return Motion(
        breath=rng.uniform(*ranges.breath),
        breath_s=rng.uniform(*ranges.breath_s),
        breath_phase=rng.random(),
        downwards=downwards,
        spine=spine,
        beat=rng.uniform(*ranges.beat),
        beat_s=rng.uniform(*ranges.beat_s),
        beat_phase=rng.random(),
        heart=heart,
        heart_radius=heart_radius,
    )
