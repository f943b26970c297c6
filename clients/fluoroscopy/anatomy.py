"""What an anatomy is: thicknesses of materials that stand still or move.

Builders of anatomies (trunk, head, bench) all have the type `Builder`. They know
anatomy in millimetres; a `View` decides which part of it fills the field.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clients.fluoroscopy.canvas import Canvas
from clients.fluoroscopy.geometry import Curve, Field, Range
from clients.fluoroscopy.projection import Segments


@dataclass(frozen=True)
class View:
    """Where the X-ray system looks.

    Attributes:
        field_mm: Side of the field.
        centre_mm: (2,), point of the body in the middle of the field.
        turn: Rotation of the body in the image plane, rad.
        oblique: Rotation about the long axis of the body, rad.
    """

    field_mm: float
    centre_mm: Curve
    turn: float = 0.0
    oblique: float = 0.0

    def to_field(self, points: Curve) -> Curve:
        """Return points (points, 2), given in mm of the body, in units of the field."""
        x, y = (points - self.centre_mm).T / self.field_mm
        cosine, sine = np.cos(self.turn), np.sin(self.turn)
        return np.stack((x * cosine - y * sine, x * sine + y * cosine), axis=1) + 0.5

    def body(self, canvas: Canvas) -> tuple[Field, Field]:
        """Return x and y in mm of the body for every pixel, (side, side) each."""
        x, y = (axis - np.float32(0.5) for axis in canvas.coordinates())
        cosine = np.float32(self.field_mm * np.cos(self.turn))
        sine = np.float32(self.field_mm * np.sin(self.turn))
        across, along = (np.float32(value) for value in self.centre_mm)
        return x * cosine + y * sine + across, y * cosine - x * sine + along

    def project(self, points: NDArray[np.float64]) -> Curve:
        """Project points (points, 3) of the body, mm; z to the back."""
        x = points[:, 0] * np.cos(self.oblique) + points[:, 2] * np.sin(self.oblique)
        return self.to_field(np.stack((x, points[:, 1]), axis=1))


class Technique(NamedTuple):
    """How a view is taken, relative to the fluoroscopy of its domain."""

    device_scale: float  # widths of devices in units of the field; less in wide views
    dose: float  # quanta of a frame
    blur: float  # of focal spot and screen, in units of the field


FLUOROSCOPY = Technique(device_scale=1.0, dose=1.0, blur=1.0)


@dataclass(frozen=True)
class Anatomy:
    """A body or bench in the beam, without devices.

    Attributes:
        field_mm: Side of the field.
        tissue: (side, side), mm of soft tissue that stands still.
        bone: (side, side), mm of bone that stands still.
        moving_tissue: (side, side), mm that move with breath and heart; negative where
            a moving organ holds air.
        moving_bone: (side, side), mm.
        moving_steel: (side, side), mm of implants.
        agent: (side, side), mm of contrast agent in every frame, but not yet there when
            the mask of a digital subtraction is taken.
        vessels: Are filled with contrast agent; values are the way from the injection.
        concentration: Of the agent when it has filled them.
        technique: How such a view is taken.
        heart: (2,), centre of the beating, in units of the field.
        heart_radius: In units of the field.
        spine: (2,), a point that breath does not move, in units of the field.
        downwards: (2,), unit vector towards the feet.
    """

    field_mm: float
    tissue: Field
    bone: Field
    moving_tissue: Field
    moving_bone: Field
    moving_steel: Field
    agent: Field | None = None
    vessels: Segments | None = None
    concentration: Range = (0.55, 1.1)
    technique: Technique = FLUOROSCOPY
    heart: Curve = field(default_factory=lambda: np.array([0.5, 0.5]))
    heart_radius: float = 0.3
    spine: Curve = field(default_factory=lambda: np.array([0.5, 0.5]))
    downwards: Curve = field(default_factory=lambda: np.array([0.0, 1.0]))


Routes = Sequence[Curve]
"""Each (points, 2), in units of the field; the main one first."""
Builder = Callable[[np.random.Generator, Canvas, Routes], Anatomy]
"""(source of randomness, pixels, routes of the devices) -> anatomy."""
