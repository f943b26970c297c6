"""Metal that is neither catheter nor guidewire, and must not be in any mask.

Stents, pacing leads, ECG cables, the wire loops of a closed breastbone, surgical clips,
valve rings and the coils of a treated aneurysm. Each function returns mm of steel on
the canvas; all lie still in the body and move with it.
"""

from collections.abc import Callable, Mapping

import numpy as np

from clients.fluoroscopy.canvas import Canvas
from clients.fluoroscopy.geometry import Curve, Field, arc_length, sample_spline
from clients.fluoroscopy.projection import (
    Segments,
    capsules,
    cylinder,
    join_segments,
    trace,
)
from clients.fluoroscopy.rods import add_rod, add_traced

Distractor = Callable[[np.random.Generator, Canvas, Curve], Field]
"""(source of randomness, pixels, route of the devices) -> mm of steel."""


def draw_distractors(
    rng: np.random.Generator,
    canvas: Canvas,
    route: Curve,
    chances: Mapping[str, float],
) -> Field:
    """Draw what a patient carries.

    Args:
        rng: Source of randomness.
        canvas: The pixels.
        route: (points, 2), where devices will lie; stents are set along it.
        chances: Name in `DISTRACTORS` -> chance that the patient has it.

    Returns:
        (side, side), mm of steel.
    """
    total = canvas.blank()
    for name in sorted(DISTRACTORS):
        own = np.random.default_rng(rng.integers(2**63))
        if own.random() < chances.get(name, 0.0):
            total += DISTRACTORS[name](own, canvas, route)
    return total


def draw_stent(rng: np.random.Generator, canvas: Canvas, route: Curve) -> Field:
    """Draw the crossing struts of one or two stents in the vessel of the route."""
    total = canvas.blank()
    for _ in range(rng.integers(1, 3)):
        total += _stent(rng, canvas, route)
    return total


def draw_lead(rng: np.random.Generator, canvas: Canvas, route: Curve) -> Field:
    """Draw one or two pacing leads: coils with electrodes at their ends."""
    total = canvas.blank()
    for _ in range(rng.integers(1, 3)):
        side = rng.choice([-1.0, 1.0])
        start = (0.5 + side * rng.uniform(0.15, 0.55), -0.1)
        knots = np.array([start, (0.5 + side * rng.uniform(0.05, 0.3), 0.2)])
        target = rng.uniform((0.3, 0.5), (0.75, 0.85))
        middle = (knots[-1] + target) / 2 + rng.normal(0, 0.07, 2)
        curve = sample_spline(np.vstack((knots, middle, target)), 0.006)
        _add_coil(rng, total, canvas, curve)
        tip = arc_length(curve)[-1] - arc_length(curve)
        for begin, end in ((0.0, 0.016), (0.05, 0.07)):
            part = curve[(tip >= begin) & (tip <= end)]
            if len(part) > 1:
                add_rod(total, canvas, part, rng.uniform(0.0065, 0.009), 1.6)
    return total


def draw_cable(rng: np.random.Generator, canvas: Canvas, route: Curve) -> Field:
    """Draw one to three ECG cables, some with the snap of an electrode."""
    total = canvas.blank()
    for _ in range(rng.integers(1, 4)):
        start, heading = _edge_point(rng)
        knots = [start]
        for _ in range(5):
            heading += rng.normal(0, 0.3)
            knots.append(knots[-1] + 0.25 * _towards(heading))
        curve = sample_spline(np.stack(knots), 0.01)
        snap = rng.random() < 0.6
        if snap:
            curve = curve[: max(4, int(len(curve) * rng.uniform(0.25, 0.6)))]
        add_rod(
            total, canvas, curve, rng.uniform(0.0018, 0.003), rng.uniform(0.2, 0.45)
        )
        if snap:
            _add_snap(rng, total, canvas, curve)
    return total


def draw_sternal_wires(rng: np.random.Generator, canvas: Canvas, route: Curve) -> Field:
    """Draw the twisted wire loops of a breastbone that was opened."""
    total = canvas.blank()
    x, slant = rng.uniform(0.25, 0.75), rng.normal(0, 0.08)
    height, wide = rng.uniform(-0.1, 0.15), rng.uniform(0.03, 0.055)
    thin, steel = rng.uniform(0.002, 0.003), rng.uniform(0.45, 0.8)
    while height < 1.05:
        centre = np.array([x + slant * height, height]) + rng.normal(0, 0.008, 2)
        angle = np.linspace(0, 2 * np.pi, 40) + rng.uniform(-0.3, 0.3)
        loop = np.stack((np.cos(angle), 0.42 * np.sin(angle)), axis=1)
        loop = loop * (1 + 0.1 * np.sin(3 * angle + rng.uniform(0, 6)))[:, None]
        add_rod(total, canvas, centre + wide * loop, thin, steel)
        knot = centre + np.array([rng.normal(0, 0.3), 0.42]) * wide
        twist = np.linspace(0, 1, 24)
        tail = np.stack((0.16 * np.sin(14 * twist), 0.75 * twist), axis=1) * wide
        add_rod(total, canvas, knot + tail, 1.2 * thin, steel)
        height += rng.uniform(0.15, 0.23)
    return total


def draw_clips(rng: np.random.Generator, canvas: Canvas, route: Curve) -> Field:
    """Draw a few surgical clips in a row or scattered: short, dense, folded."""
    total = canvas.blank()
    middle, heading = rng.uniform(0.15, 0.85, 2), rng.uniform(0, 2 * np.pi)
    for _ in range(rng.integers(2, 9)):
        middle = middle + rng.uniform(0.03, 0.1) * _towards(heading)
        heading += rng.normal(0, 0.6)
        angle, half = rng.uniform(0, np.pi), rng.uniform(0.008, 0.016)
        open_angle = angle + rng.uniform(0.0, 0.5)
        ends = [middle + half * _towards(angle), middle - half * _towards(angle)]
        shape = np.stack([*ends, ends[1] + 2 * half * _towards(open_angle)])
        add_rod(total, canvas, shape, rng.uniform(0.002, 0.0035), rng.uniform(0.5, 1.1))
    return total


def draw_valve(rng: np.random.Generator, canvas: Canvas, route: Curve) -> Field:
    """Draw the ring of an artificial valve, seen at a slant, with its struts."""
    centre, turn = rng.uniform(0.35, 0.65, 2), rng.uniform(0, np.pi)
    wide = rng.uniform(0.06, 0.1)
    flat = wide * rng.uniform(0.15, 0.8)
    angle = np.linspace(0, 2 * np.pi, 60)
    cosine, sine = np.cos(turn), np.sin(turn)
    spin = np.array([[cosine, sine], [-sine, cosine]])
    ring = np.stack((wide * np.cos(angle), flat * np.sin(angle)), axis=1) @ spin
    total = canvas.blank()
    add_rod(total, canvas, centre + ring, rng.uniform(0.003, 0.005), 0.9)
    for place in rng.uniform(0, 2 * np.pi, 3):
        foot = np.array([wide * np.cos(place), flat * np.sin(place)]) @ spin
        strut = np.stack(
            (centre + foot, centre + foot + np.array([sine, -cosine]) * wide)
        )
        add_rod(total, canvas, strut, 0.002, 0.4)
    return total


def draw_coils(rng: np.random.Generator, canvas: Canvas, route: Curve) -> Field:
    """Draw the tangle of platinum that fills an aneurysm."""
    centre = route[int(rng.uniform(0.4, 0.8) * len(route))] + rng.normal(0, 0.05, 2)
    size = rng.uniform(0.02, 0.045)
    turns = rng.normal(0, 0.5, (26, 2))
    knots = centre + size * turns / np.maximum(1, np.hypot(*turns.T))[:, None]
    total = canvas.blank()
    add_rod(total, canvas, sample_spline(knots, 0.004), 0.0022, rng.uniform(0.3, 0.5))
    return total


DISTRACTORS: Mapping[str, Distractor] = {
    "cable": draw_cable,
    "clips": draw_clips,
    "coils": draw_coils,
    "lead": draw_lead,
    "stent": draw_stent,
    "sternal-wires": draw_sternal_wires,
    "valve": draw_valve,
}
"""Name -> what it draws."""


def _stent(rng: np.random.Generator, canvas: Canvas, route: Curve) -> Field:
    """Return struts: zigzag lines on a cylinder along a piece of the route."""
    length = rng.uniform(0.07, 0.14)
    first = rng.uniform(0.3, 0.75) * arc_length(route)[-1]
    place = arc_length(route)
    piece = route[(place >= first) & (place <= first + length)]
    if len(piece) < 4:
        return canvas.blank()
    radius = rng.uniform(0.009, 0.016)
    step = np.gradient(piece, axis=0)
    normal = np.stack((-step[:, 1], step[:, 0]), axis=1) / np.hypot(*step.T)[:, None]
    travelled = arc_length(piece)
    curves: list[Curve] = []
    for phase in np.arange(4) * np.pi / 2:
        across = radius * np.sin(travelled * (5.0 / radius) / 2 + phase)
        curves.append(piece + across[:, None] * normal)
    for end in (0, -1):
        curves.append(
            np.stack([piece[end] + s * radius * normal[end] for s in (-1, 1)])
        )
    struts, _ = capsules(
        join_segments([Segments.along(curve, 0.0013) for curve in curves]), canvas
    )
    return struts * np.float32(rng.uniform(0.16, 0.32) / 0.0026)


def _add_coil(
    rng: np.random.Generator, total: Field, canvas: Canvas, curve: Curve
) -> None:
    """Add a lead's conductor: a helix whose turns show as beads."""
    radius = rng.uniform(0.003, 0.0048) * canvas.resolution
    near = trace(curve, canvas, radius + 1)
    beads = 0.75 + 0.25 * np.sin(near.position * 2.2)
    steel = rng.uniform(0.25, 0.5) * cylinder(near.distance, radius) * beads
    add_traced(total, near, steel)


def _add_snap(
    rng: np.random.Generator, total: Field, canvas: Canvas, cable: Curve
) -> None:
    """Add the metal stud and ring of an ECG electrode with its clip."""
    place, back = cable[-1], cable[-3] - cable[-1]
    back = back / np.hypot(*back)
    angle = np.linspace(0, 2 * np.pi, 30)
    ring = np.stack((np.cos(angle), np.sin(angle)), axis=1)
    size = rng.uniform(0.012, 0.02)
    add_rod(total, canvas, place + size * ring, 0.2 * size, 0.5)
    add_rod(total, canvas, np.stack((place, place + 1e-3)), 0.45 * size, 1.2)
    clip = np.stack((place + size * back, place + 3 * size * back))
    add_rod(total, canvas, clip, 0.35 * size, 0.7)


def _edge_point(rng: np.random.Generator) -> tuple[Curve, float]:
    """Return a point outside the field and the direction into it."""
    heading = rng.uniform(0, 2 * np.pi)
    start = 0.5 - 0.75 * _towards(heading) + rng.normal(0, 0.15, 2)
    return start, heading


def _towards(heading: float) -> Curve:
    return np.array([np.cos(heading), np.sin(heading)])
