"""Heads, from the front and from the side: vault, base, orbits, air cells, brain."""

import numpy as np

from clients.fluoroscopy.anatomy import Anatomy, Routes, View
from clients.fluoroscopy.canvas import (
    Canvas,
    chord,
    radius_share,
    ridge,
    soft_step,
    texture,
)
from clients.fluoroscopy.geometry import Curve, Field, sample_spline
from clients.fluoroscopy.projection import Segments, capsules
from clients.fluoroscopy.skeleton import add_bone
from clients.fluoroscopy.vessels import TreeStyle, grow_trees, vessel_along

SIDE_RADII = np.array([92.0, 76.0])  # mm, of the vault seen from the side
FRONT_RADII = np.array([74.0, 86.0])
TABLE_MM = 6.5  # of bone across the vault
BASE = 34.0  # mm below the middle of the vault


def build_neuro(rng: np.random.Generator, canvas: Canvas, routes: Routes) -> Anatomy:
    """Build a part of a head; see `anatomy.Builder`."""
    lateral = rng.random() < 0.55
    view = View(
        field_mm=rng.uniform(105, 155),
        centre_mm=rng.uniform((-32, -28), (32, 26)),
        turn=rng.normal(0, 0.1),
    )
    x, y = view.body(canvas)
    x = x * np.float32(rng.choice([-1.0, 1.0]))
    radii = (SIDE_RADII if lateral else FRONT_RADII) * rng.uniform(0.95, 1.06, 2)
    outer = radius_share(x, y, np.zeros(2), radii)
    around = np.arctan2(y, x)
    outer *= 1 + 0.02 * np.sin(2 * around + rng.uniform(0, 6))
    outer *= 1 + 0.012 * np.sin(5 * around + rng.uniform(0, 6))
    head = soft_step(outer - 1.0, 0.012)
    face = _side_face(rng, x, y) if lateral else _front_face(rng, x, y)
    low = soft_step(BASE - 14 - y, 14)
    bone = _vault(rng, canvas, outer, radii) + head * face
    bone += head * _struts(rng, canvas, view)
    cells = np.maximum(texture(rng, canvas, cells=14, octaves=3, decay=0.7) - 0.4, 0)
    bone *= 1 - 0.35 * low * np.minimum(cells, 1)
    tissue = 138 * chord(outer * np.float32(0.97)) + 24 * soft_step(outer - 1.1, 0.02)
    tissue += 3 * texture(rng, canvas, cells=6, octaves=4) - 5 * low * cells
    tissue -= _sinuses(rng, x, y)
    return Anatomy(
        field_mm=view.field_mm,
        tissue=np.maximum(tissue, 0) + 70 * soft_step(60 - y, 12) * (outer > 1),
        bone=np.maximum(bone, 0),
        moving_tissue=canvas.blank(),
        moving_bone=canvas.blank(),
        moving_steel=canvas.blank(),
        vessels=_arteries(rng, routes[0]) if rng.random() < 0.55 else None,
        concentration=(1.2, 2.4),
        heart_radius=0.4,
    )


def _vault(
    rng: np.random.Generator, canvas: Canvas, outer: Field, radii: Curve
) -> Field:
    """Return the bone of the vault with its sutures and vessel grooves, mm."""
    inner = outer * np.float32(1 / (1 - TABLE_MM / radii.mean()))
    shell = 2 * radii.mean() * (chord(outer) - chord(inner) * (1 - 0.055))
    shell = np.clip(shell, 0, 42) * 0.6
    grain = 1 + 0.13 * texture(rng, canvas, cells=10, octaves=4, decay=0.75)
    count = int(rng.integers(3, 7))
    twigs = grow_trees(
        rng,
        rng.uniform(0.05, 0.95, (count, 2)),
        rng.uniform(0, 2 * np.pi, count),
        rng.uniform(0.003, 0.006, count),
        TreeStyle(0.0024, length=20, wander=0.4, fork=0.7),
    )
    grooves, _ = capsules(twigs, canvas)
    return np.maximum(shell * grain - 150 * grooves, 0)


def _side_face(rng: np.random.Generator, x: Field, y: Field) -> Field:
    """Return the bone of base and face seen from the side, mm; the nose to +x."""
    floor = y - BASE - 0.32 * x + 8 * np.tanh(x / 16) + 3 * np.sin(x / 9)
    petrous = radius_share(x, y, np.array([-16, BASE + 4]), np.array([27, 15]), 0.3)
    saddle = radius_share(x, y, np.array([13, BASE - 9]), np.array([8, 6]))
    orbit = _wobbly(rng, x, y, np.array([58, BASE + 4]), np.array([21, 18]))
    bone = 9 * ridge(floor, 3.5) + 17 * chord(petrous) + 7 * ridge(saddle - 1, 0.25)
    bone += 8 * soft_step(floor - 4, 6) * soft_step(-floor - 30, 10)
    return bone + 6 * ridge(orbit - 1, 0.1)


def _front_face(rng: np.random.Generator, x: Field, y: Field) -> Field:
    """Return the bone of base and face seen from the front, mm."""
    bone = 6 * ridge(y - BASE + 6 * np.cos(x / 27), 5)
    for side in (-1.0, 1.0):
        orbit = np.array([side * 32, BASE + rng.normal(0, 2)])
        rim = _wobbly(rng, x, y, orbit, np.array([21, 18]))
        around = np.arctan2(y - orbit[1], x - orbit[0])
        bone += (6 + 3 * np.sin(around + rng.uniform(0, 6))) * ridge(rim - 1, 0.11)
        petrous = np.array([side * 36, BASE + 10])
        share = _wobbly(rng, x, y, petrous, np.array([30, 9]), -side * 0.3)
        bone += 11 * chord(share)
        slope = y - BASE + 12 - side * 0.7 * (x - side * 24)  # greater wing
        bone += 5 * ridge(slope, 2.5) * soft_step(np.abs(x - side * 33) - 20, 5)
    return bone + 4 * ridge(x - 2 * np.sin(y / 9), 2) * soft_step(BASE - 4 - y, 8)


def _wobbly(
    rng: np.random.Generator,
    x: Field,
    y: Field,
    centre: Curve,
    radii: Curve,
    turn: float = 0.0,
) -> Field:
    """Return the radius share of an ellipse that is not quite one."""
    share = radius_share(x, y, centre, radii * rng.uniform(0.9, 1.1, 2), turn)
    around = np.arctan2(y - np.float32(centre[1]), x - np.float32(centre[0]))
    share *= 1 + 0.07 * np.sin(2 * around + rng.uniform(0, 6))
    return share * (1 + 0.05 * np.sin(3 * around + rng.uniform(0, 6)))


def _struts(rng: np.random.Generator, canvas: Canvas, view: View) -> Field:
    """Draw walls of sinuses and other thin bones that are seen edge-on, mm."""
    total = canvas.blank()
    for _ in range(int(rng.integers(10, 18))):
        start = rng.uniform((-62, BASE - 16), (62, BASE + 36))
        heading, bend = rng.uniform(-0.7, 0.7), rng.normal(0, 0.5)
        knots = [start]
        for _ in range(4):
            step = rng.uniform(5, 12)
            knots.append(
                knots[-1] + step * np.array([np.cos(heading), np.sin(heading)])
            )
            heading += bend + rng.normal(0, 0.25)
        curve = view.to_field(sample_spline(np.stack(knots), 1.5))
        half_width = rng.uniform(0.6, 1.6) / view.field_mm
        add_bone(total, canvas, curve, half_width, rng.uniform(2, 6))
    return total


def _sinuses(rng: np.random.Generator, x: Field, y: Field) -> Field:
    """Return the air of the sinuses, mm."""
    air = np.zeros_like(x)
    for _ in range(4):
        centre = rng.uniform((-10, BASE + 4), (55, BASE + 30))
        share = _wobbly(rng, x, y, centre, rng.uniform(7, 15, 2), rng.uniform(0, 3))
        air = np.maximum(air, 22 * chord(share))
    return air


def _arteries(rng: np.random.Generator, route: Curve) -> Segments:
    """Grow cerebral arteries along the route of the devices."""
    style = TreeStyle(0.0016, length=22, wander=0.42, fork=0.75, side_branches=0.5)
    first = int(rng.uniform(0.1, 0.35) * len(route))
    count = int(rng.integers(5, 9))
    radius = rng.uniform(0.01, 0.016)
    return vessel_along(rng, route[first::3], radius, style, count=count)
