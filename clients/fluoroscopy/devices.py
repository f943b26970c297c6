"""Catheters and guidewires: where they lie, what they absorb, which pixels they are.

A patient has one route, from outside the field towards a target. The catheter covers
its first part; the guidewire runs inside the catheter and out of its tip. From frame
to frame both are pushed forward a little and sway with heart and breath.

A mask is exact in this sense: a pixel is 1 when its centre is not further from the
device's centreline than the device's radius, that is, the geometric projection of the
device before any blur. Devices thinner than a pixel are one pixel wide in the mask.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from clients.fluoroscopy.geometry import (
    Curve,
    Field,
    Flags,
    add_arc,
    arc_length,
    cut_curve,
    cylinder,
    distance_map,
    sample_spline,
    tube,
)

REFERENCE_PX = 128
"""Image size for which the widths of devices and blurs are stated."""
MIN_MASK_RADIUS_PX = 0.5
SAMPLE_STEP_PX = 0.5
LUMEN_SHARE = 0.62

Range = tuple[float, float]


@dataclass(frozen=True)
class DeviceRanges:
    """What the devices of one kind of hospital are like; drawn once per patient."""

    wire_width_px: Range = (1.2, 2.4)  # at 128 px
    catheter_width_px: Range = (3.0, 5.0)  # at 128 px
    wire_depth: Range = (0.6, 1.1)  # optical depth across the wire's body
    catheter_depth: Range = (0.35, 0.6)  # optical depth of the catheter's wall
    sway: Range = (0.008, 0.02)  # amplitude of heart and breath, in fields


class Device(NamedTuple):
    """One device in one frame."""

    depth: Field  # (size, size), optical depth
    mask: Flags  # (size, size)


@dataclass(frozen=True)
class Devices:
    """The route and the devices of one patient."""

    knots: Curve
    phases: Curve  # (knots, 2), rad
    sway: float
    pulse: float  # rad per frame
    wire_radius: float  # in fields
    catheter_radius: float  # in fields
    wire_depth: float
    catheter_depth: float
    tip_radius: float  # in fields
    tip_angle: float  # rad, signed
    shown: frozenset[str]  # which classes this patient has
    first_frame: int  # devices are not yet inserted before it
    reach: float  # share of the route that the wire has covered in its first frame
    advance: float  # share of the route per frame
    gap: float  # share of the route between the tips

    def centrelines(self, frame: int, size: int) -> dict[str, Curve]:
        """Return where the devices lie in a frame.

        Args:
            frame: Number of the frame, from 0.
            size: Side of the image, px; decides how densely curves are sampled.

        Returns:
            Class name -> curve; empty before the devices are inserted.
        """
        if frame < self.first_frame:
            return {}
        route = self.route(frame, size)
        wire_end = min(1.0, self.reach + self.advance * frame)
        slip = 0.03 * np.sin(self.pulse * frame)
        catheter_end = max(0.15, wire_end - self.gap + slip)
        step = SAMPLE_STEP_PX / size
        wire = add_arc(
            cut_curve(route, 0, wire_end), self.tip_radius, self.tip_angle, step
        )
        lines = {"guidewire": wire, "catheter": cut_curve(route, 0, catheter_end)}
        return {name: lines[name] for name in sorted(self.shown)}

    def route(self, frame: int, size: int) -> Curve:
        """Return the whole route in a frame, devices or not."""
        weight = np.linspace(0.2, 1.0, len(self.knots))[:, None]
        sway = self.sway * weight * np.sin(self.phases + self.pulse * frame)
        return sample_spline(self.knots + sway, SAMPLE_STEP_PX / size)

    def render(self, frame: int, size: int) -> dict[str, Device]:
        """Project the devices of a frame.

        Args:
            frame: Number of the frame, from 0.
            size: Side of the image, px.

        Returns:
            Class name -> optical depth and exact mask; only devices that are there.
        """
        draw = {"guidewire": self._draw_wire, "catheter": self._draw_catheter}
        lines = self.centrelines(frame, size)
        return {name: draw[name](line, size) for name, line in lines.items()}

    def _draw_wire(self, line: Curve, size: int) -> Device:
        radius = self.wire_radius * size
        distance = distance_map(line, size, radius + 1)
        depth = self.wire_depth * cylinder(distance, radius)
        # The last centimetres carry a coil of denser metal.
        coil = cut_curve(line, max(0.0, 1 - 0.14 / arc_length(line)[-1]), 1)
        denser = cylinder(distance_map(coil, size, radius + 1), radius)
        depth = np.maximum(depth, 1.5 * self.wire_depth * denser)
        return Device(depth, distance <= max(radius, MIN_MASK_RADIUS_PX))

    def _draw_catheter(self, line: Curve, size: int) -> Device:
        radius = self.catheter_radius * size
        distance = distance_map(line, size, radius + 1)
        depth = self.catheter_depth * tube(distance, radius, LUMEN_SHARE)
        return Device(depth, distance <= max(radius, MIN_MASK_RADIUS_PX))


def draw_devices(rng: np.random.Generator, ranges: DeviceRanges) -> Devices:
    """Draw the route and the devices of a patient.

    Args:
        rng: Source of randomness of this patient.
        ranges: What is usual in this kind of hospital.

    Returns:
        Devices: usually both, sometimes only one; rarely none in the first frame.
    """
    knots = _draw_route(rng)
    tip_radius, tip_angle = _draw_tip(rng)
    shown = rng.choice(["both", "guidewire", "catheter"], p=[0.72, 0.15, 0.13])
    return Devices(
        knots=knots,
        phases=rng.uniform(0, 2 * np.pi, knots.shape),
        sway=rng.uniform(*ranges.sway),
        pulse=rng.uniform(0.4, 1.1),
        wire_radius=rng.uniform(*ranges.wire_width_px) / 2 / REFERENCE_PX,
        catheter_radius=rng.uniform(*ranges.catheter_width_px) / 2 / REFERENCE_PX,
        wire_depth=rng.uniform(*ranges.wire_depth),
        catheter_depth=rng.uniform(*ranges.catheter_depth),
        tip_radius=tip_radius,
        tip_angle=tip_angle,
        shown=frozenset(("catheter", "guidewire") if shown == "both" else (shown,)),
        first_frame=int(rng.random() < 0.15),
        reach=rng.uniform(0.6, 0.85),
        advance=rng.uniform(0.01, 0.03),
        gap=rng.uniform(0.12, 0.45),
    )


def _draw_route(rng: np.random.Generator) -> Curve:
    """Walk from outside one side of the field to its inside, turning smoothly."""
    side = rng.integers(4)
    heading = side * np.pi / 2 + rng.normal(0, 0.3)
    direction = np.array([np.cos(side * np.pi / 2), np.sin(side * np.pi / 2)])
    across = np.array([-direction[1], direction[0]]) * rng.uniform(-0.3, 0.3)
    knots = [0.5 - 0.58 * direction + across]
    bend = rng.normal(0, 0.35)
    for length in rng.uniform(0.16, 0.24, 6):
        knots.append(knots[-1] + length * np.array([np.cos(heading), np.sin(heading)]))
        bend = 0.4 * bend + rng.normal(0, 0.45)
        # Steer back before the route leaves the field.
        to_centre = np.arctan2(*(0.5 - knots[-1])[::-1]) - heading
        to_centre = (to_centre + np.pi) % (2 * np.pi) - np.pi
        edge = np.clip((np.abs(knots[-1] - 0.5).max() - 0.22) / 0.2, 0, 1)
        heading += (1 - edge) * bend + edge * 0.55 * to_centre
    return np.stack(knots)


def _draw_tip(rng: np.random.Generator) -> tuple[float, float]:
    """Return radius (fields) and signed angle (rad) of a straight, bent or J tip."""
    kinds = ((0.25, 0.35), (0.06, 1.0), (0.035, 3.0))
    radius, angle = kinds[rng.choice(3, p=[0.3, 0.35, 0.35])]
    side = rng.choice([-1.0, 1.0])
    return radius * rng.uniform(0.8, 1.25), side * angle * rng.uniform(0.75, 1.2)
