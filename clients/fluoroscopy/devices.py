"""Catheters and guidewires: what they are made of and where they lie.

A strand is one route with a catheter over its first part and a guidewire that runs
inside the catheter and out of its tip. From frame to frame both are pushed and
pulled, the wire is turned, and both follow heart and breath in part.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from clients.fluoroscopy.geometry import (
    Curve,
    Range,
    arc,
    arc_length,
    cut_curve,
    sample_spline,
    spline_basis,
)
from clients.fluoroscopy.motion import Motion
from clients.fluoroscopy.routes import (
    draw_arm_route,
    draw_hook,
    draw_route,
    draw_side_route,
    draw_tip,
)

REFERENCE_PX = 128
"""Image size for which widths of devices and blurs are stated."""
SAMPLE_STEP = 1 / 96  # fields, between points of a centreline
TIP_STEP = 1 / 256  # fields, between points of its curled end
ENTRY_S = 0.8  # how long it takes to push a device into the field


@dataclass(frozen=True)
class DeviceRanges:
    """What the devices of one kind of hospital are like; drawn once per patient.

    Widths are in px of a 128 px image. That is up to twice as wide as in reality, so
    that small images can show them.
    """

    wire_width_px: Range = (1.2, 1.8)
    catheter_width_px: Range = (3.0, 4.6)
    wire_steel_mm: Range = (0.6, 1.1)
    catheter_polymer_mm: Range = (1.2, 2.1)  # along the beam through its wall
    density: float = 0.45  # how much depth grows where a device runs along the beam
    bands: float = 0.3  # chance of marker bands at the catheter's tip
    filled: float = 0.1  # chance that the catheter is full of contrast agent
    filling_mm: Range = (1.2, 2.4)
    second: float = 0.15  # chance of a second strand
    side_strands: tuple[int, int] = (0, 0)  # fewest and most strands on side branches
    hook: float = 0.3  # chance of a route that comes from above and hooks
    steering: float = 0.45  # rad of change in heading per knot
    loop: float = 0.1  # chance that a route crosses itself
    arm: float = 0.0  # chance of a route from an arm to the heart
    inside: float = 0.0  # chance that a route begins inside the field
    tips: tuple[float, float, float] = (0.3, 0.35, 0.35)  # straight, bent, J
    late: float = 0.06  # chance that the field is empty at first
    shown: tuple[float, float, float] = (0.72, 0.15, 0.13)  # both, wire, catheter


class Catheter(NamedTuple):
    """How a catheter is built; lengths in units of the field."""

    radius: float
    polymer_mm: float
    filling_mm: float  # contrast agent across the lumen; 0 = empty
    bands: Curve  # (bands, 2), begin and end from the tip


class Guidewire(NamedTuple):
    """How a guidewire is built; lengths in units of the field."""

    radius: float
    steel_mm: float
    coil: float  # length of the radiopaque tip
    tip_radius: float
    tip_angle: float  # rad, signed


@dataclass(frozen=True)
class Strand:
    """One route with its devices, and how they are handled."""

    knots: Curve
    basis: Curve = field(repr=False)  # (points, knots), from knots to the route
    sway: Curve = field(repr=False)  # (knots, 2), rad, phases of small movements
    sway_size: float  # fields
    coupling: Range  # share of the anatomy's motion at the beginning and the end
    reach: float  # mean share of the route that the wire has covered
    push: float  # share of the route, amplitude of pushing and pulling
    push_s: float  # period
    push_phase: float  # rad
    turn_rate: float  # rad/s
    turn_phase: float  # rad
    gap: float  # share of the route between the tips
    delay_s: float  # nothing is seen before
    density: Curve = field(repr=False)  # (points,), foreshortening along the route
    catheter: Catheter | None = None
    guidewire: Guidewire | None = None

    @property
    def devices(self) -> dict[str, Catheter | Guidewire]:
        """Return the devices that there are, by the name of their class."""
        both = {"catheter": self.catheter, "guidewire": self.guidewire}
        return {name: device for name, device in both.items() if device is not None}

    def centrelines(self, time_s: float, motion: Motion) -> dict[str, Curve]:
        """Return where the devices lie.

        Args:
            time_s: Since the first frame.
            motion: Of the patient.

        Returns:
            Class name -> (points, 2) in units of the field, from the entry to the
            tip; empty before the devices are inserted.
        """
        entered = np.clip((time_s - self.delay_s) / ENTRY_S, 0, 1)
        if entered <= 0:
            return {}
        route = self.route(time_s, motion)
        push = self.push * np.sin(2 * np.pi * time_s / self.push_s + self.push_phase)
        wire_end = float(np.clip(self.reach + push, 0.2, 1.0) * entered)
        slip = 0.3 * self.push * np.sin(1.7 * time_s + self.push_phase)
        catheter_end = float(np.clip(wire_end - self.gap + slip, 0.1 * entered, 0.95))
        lines = {}
        if self.catheter is not None:
            lines["catheter"] = cut_curve(route, 0, catheter_end)
        if self.guidewire is not None:
            wire = cut_curve(route, 0, wire_end)
            tip = self._tip(self.guidewire, wire, time_s)
            lines["guidewire"] = np.concatenate((wire, tip))
        return lines

    def scaled(self, scale: float) -> "Strand":
        """Return the strand with devices of another width, thinner ones fainter."""
        catheter, wire, fainter = self.catheter, self.guidewire, np.sqrt(scale)
        return replace(
            self,
            catheter=catheter
            and catheter._replace(
                radius=scale * catheter.radius,
                polymer_mm=fainter * catheter.polymer_mm,
                filling_mm=fainter * catheter.filling_mm,
            ),
            guidewire=wire
            and wire._replace(
                radius=scale * wire.radius, steel_mm=fainter * wire.steel_mm
            ),
        )

    def route(self, time_s: float, motion: Motion) -> Curve:
        """Return the whole route at a time, devices or not."""
        weight = np.linspace(0.2, 1.0, len(self.knots))[:, None]
        sway = self.sway_size * weight * np.sin(self.sway + 2.1 * time_s)
        line = self.basis @ (self.knots + sway)
        moved = np.stack(motion.displacement(line[:, 0], line[:, 1], time_s), axis=1)
        share = np.linspace(*self.coupling, len(line))[:, None]
        return line + share * moved

    def _tip(self, device: Guidewire, wire: Curve, time_s: float) -> Curve:
        """Return the wire's last, shaped part as its rotation shows it."""
        last = wire[-1] - wire[max(-4, -len(wire))]
        return arc(
            wire[-1],
            float(np.arctan2(last[1], last[0])),
            device.tip_radius,
            device.tip_angle,
            flat=float(np.cos(self.turn_phase + self.turn_rate * time_s)),
            step=TIP_STEP,
        )


def draw_strands(rng: np.random.Generator, ranges: DeviceRanges) -> tuple[Strand, ...]:
    """Draw the routes and devices of a patient.

    Args:
        rng: Source of randomness of this patient.
        ranges: What is usual in this kind of hospital.

    Returns:
        The main strand first; others cross it or leave it sideways.
    """
    knots = _draw_knots(rng, ranges)
    delay = rng.uniform(0.02, 0.5) if rng.random() < ranges.late else -10.0
    strands = [_draw_strand(rng, ranges, knots, delay)]
    if rng.random() < ranges.second:
        strands.append(_draw_strand(rng, ranges, _draw_knots(rng, ranges), delay))
    fewest, most = ranges.side_strands
    main = sample_spline(knots, 0.01)
    for _ in range(int(rng.integers(fewest, most + 1))):
        side = _draw_strand(rng, ranges, draw_side_route(rng, main), delay)
        strands.append(side)
    return tuple(strands)


def _draw_knots(rng: np.random.Generator, ranges: DeviceRanges) -> Curve:
    if rng.random() < ranges.arm:
        return draw_arm_route(rng)
    if rng.random() < ranges.hook:
        return draw_hook(rng)
    inside = bool(rng.random() < ranges.inside)
    return draw_route(rng, steering=ranges.steering, loop=ranges.loop, inside=inside)


def _draw_strand(
    rng: np.random.Generator, ranges: DeviceRanges, knots: Curve, delay_s: float
) -> Strand:
    kind = int(rng.choice(3, p=ranges.shown))
    length = arc_length(knots)[-1]
    return Strand(
        knots=knots,
        basis=spline_basis(knots, SAMPLE_STEP),
        sway=rng.uniform(0, 2 * np.pi, knots.shape),
        sway_size=rng.uniform(0.001, 0.004),
        coupling=(rng.uniform(0.1, 0.4), rng.uniform(0.6, 0.95)),
        reach=rng.uniform(0.62, 0.86),
        push=rng.uniform(0.04, 0.11) / max(length, 0.5),
        push_s=rng.uniform(2.5, 6.0),
        push_phase=rng.uniform(0, 2 * np.pi),
        turn_rate=rng.uniform(-1.6, 1.6),
        turn_phase=rng.uniform(-0.9, 0.9),
        gap=rng.uniform(0.12, 0.45),
        delay_s=delay_s,
        density=_draw_density(rng, ranges.density),
        catheter=_draw_catheter(rng, ranges) if kind != 1 else None,
        guidewire=_draw_guidewire(rng, ranges) if kind != 2 else None,
    )


def _draw_density(rng: np.random.Generator, spread: float) -> Curve:
    """Draw how much a device's depth grows where it runs towards the beam."""
    knots = np.stack((np.linspace(0, 1, 7), rng.uniform(0, 1, 7)), axis=1)
    slope = np.clip(sample_spline(knots, 0.01)[:, 1], 0, 1)
    return 1 + spread * slope**2


def _draw_catheter(rng: np.random.Generator, ranges: DeviceRanges) -> Catheter:
    radius = rng.uniform(*ranges.catheter_width_px) / 2 / REFERENCE_PX
    filling = rng.uniform(*ranges.filling_mm)
    filled = rng.random() < ranges.filled
    starts = np.array([0.0, rng.uniform(0.04, 0.09)])[: rng.integers(1, 3)] + 0.004
    bands = np.stack((starts, starts + radius * rng.uniform(0.8, 1.4)), axis=1)
    banded = rng.random() < ranges.bands
    return Catheter(
        radius=radius,
        polymer_mm=rng.uniform(*ranges.catheter_polymer_mm),
        filling_mm=filling if filled else 0.0,
        bands=bands if banded else np.zeros((0, 2)),
    )


def _draw_guidewire(rng: np.random.Generator, ranges: DeviceRanges) -> Guidewire:
    tip_radius, tip_angle = draw_tip(rng, ranges.tips)
    return Guidewire(
        radius=rng.uniform(*ranges.wire_width_px) / 2 / REFERENCE_PX,
        steel_mm=rng.uniform(*ranges.wire_steel_mm),
        coil=rng.uniform(0.08, 0.18),
        tip_radius=tip_radius,
        tip_angle=tip_angle,
    )
