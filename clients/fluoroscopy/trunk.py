"""Chests and bellies of people and pigs.

Ribs, spine and the edge of the heart are placed in three dimensions, so that oblique
views fan out as they do in patients. Shapes are simplified.
"""

from dataclasses import replace

import numpy as np

from clients.fluoroscopy.anatomy import Anatomy, Routes, Technique, View
from clients.fluoroscopy.canvas import Canvas, soft_step, texture
from clients.fluoroscopy.geometry import Curve, Field, sample_spline
from clients.fluoroscopy.organs import draw_air, draw_flesh, draw_gas
from clients.fluoroscopy.projection import Segments, join_segments
from clients.fluoroscopy.skeleton import (
    add_bone,
    draw_ribs,
    draw_spine,
    is_shown,
)
from clients.fluoroscopy.species import HUMAN, PIG, Trunk
from clients.fluoroscopy.vessels import TreeStyle, grow_trees, vessel_along

LITTLE = 0.05  # of the field that is belly: its gas is not drawn
_GIRDLE_BONES = (  # middle line of the right side, half width, bone in its wall; mm
    (np.array([(18, -128), (70, -146), (120, -150), (155, -168)]), 6.0, 5.0),  # collar
    (np.array([(163, -140), (188, -50), (206, 60), (212, 150)]), 11.0, 14.0),  # arm
    (
        np.array([(38, 395), (70, 335), (118, 300), (140, 330), (132, 390)]),
        9.0,
        6.0,
    ),  # hip
    # The edge of the shoulder blade.
    (np.array([(150, -158), (136, -120), (128, -60), (104, -18), (88, -60)]), 3.5, 5.0),
)


def build_human(rng: np.random.Generator, canvas: Canvas, routes: Routes) -> Anatomy:
    """Build a patient's chest or belly; see `anatomy.Builder`."""
    return build_trunk(rng, canvas, routes, HUMAN)


def build_animal(rng: np.random.Generator, canvas: Canvas, routes: Routes) -> Anatomy:
    """Build a pig's chest, narrow and deep with many steep ribs."""
    return build_trunk(rng, canvas, routes, PIG)


def build_chest_film(
    rng: np.random.Generator, canvas: Canvas, routes: Routes
) -> Anatomy:
    """Build a whole chest from the front, as on a plain film."""
    view = View(
        field_mm=rng.uniform(300, 390),
        centre_mm=rng.normal((0.0, -25.0), 12),
        turn=rng.normal(0, 0.03),
        oblique=rng.normal(0, 0.04),
    )
    film = _build(rng, canvas, routes, HUMAN, view)
    # A film is one exposure of a large detector: sharp, and with far less noise.
    technique = Technique(
        device_scale=float(np.exp(rng.uniform(np.log(0.18), np.log(0.5)))),
        dose=rng.uniform(10, 60),
        blur=rng.uniform(0.2, 0.4),
    )
    return replace(film, technique=technique, vessels=None)


def build_trunk(
    rng: np.random.Generator, canvas: Canvas, routes: Routes, trunk: Trunk
) -> Anatomy:
    """Build a body of a kind in one of its usual views.

    Args:
        rng: Source of randomness of this patient.
        canvas: The pixels.
        routes: Where devices will lie, in units of the field, the main one first.
        trunk: The kind of body.

    Returns:
        The anatomy; vessels that can be filled follow the main route.
    """
    low, high = trunk.views[rng.integers(len(trunk.views))]
    view = View(
        field_mm=rng.uniform(*trunk.field),
        centre_mm=rng.uniform(low, high),
        turn=float(rng.choice(trunk.turns)) + rng.normal(0, trunk.wobble),
        oblique=rng.uniform(*trunk.obliques) * rng.choice([-1.0, 1.0]),
    )
    return _build(rng, canvas, routes, trunk, view)


def _build(
    rng: np.random.Generator, canvas: Canvas, routes: Routes, trunk: Trunk, view: View
) -> Anatomy:
    x, y = view.body(canvas)
    spine_x = 0.88 * trunk.cage.half_depth * np.sin(view.oblique)
    air, heart = draw_air(rng, canvas, x, y, trunk, view)
    clutter = 5 * texture(rng, canvas, cells=5, octaves=5, decay=0.62)
    belly = soft_step(trunk.dome + 20 - y, 30)
    if belly.mean() > LITTLE:
        air = air + belly * draw_gas(rng, x, y, view)
    scale = 1 + 0.3 * float(np.clip((view.centre_mm[1] - 60) / 150, 0, 1))
    bend = 6 * np.sin(y / 90 + rng.uniform(0, 6)) + rng.normal(0, 0.04) * y
    bone = draw_spine(
        rng, canvas, x - np.float32(spine_x) - bend, y, trunk.cage, scale=scale
    )
    ribs = draw_ribs(rng, canvas, view, trunk.cage, trunk.rib_bone)
    body = draw_flesh(canvas, x, y, trunk, view)
    inside = np.minimum(body * np.float32(1 / 25), 1)
    return Anatomy(
        field_mm=view.field_mm,
        tissue=np.maximum(body + clutter * inside, 0),
        bone=bone + _girdles(canvas, view, trunk),
        moving_tissue=-air,
        moving_bone=ribs,
        moving_steel=canvas.blank(),
        vessels=_arteries(rng, routes[0]) if rng.random() < trunk.contrast else None,
        concentration=(1.0, 2.2),
        heart=view.to_field(heart[None])[0],
        heart_radius=float(trunk.heart_radii[0] / view.field_mm),
        spine=view.to_field(np.array([(spine_x, 0)]))[0],
        downwards=np.array([-np.sin(view.turn), np.cos(view.turn)]),
    )


def _girdles(canvas: Canvas, view: View, trunk: Trunk) -> Field:
    """Draw collar bones, upper arms and the wings of the pelvis, mm."""
    total = canvas.blank()
    if trunk is not HUMAN:
        return total
    for knots, half_width, bone in _GIRDLE_BONES:
        for side in (-1.0, 1.0):
            ends = view.to_field(knots * (side, 1))
            if is_shown(ends):
                line = sample_spline(ends, 4.0 / view.field_mm)
                add_bone(total, canvas, line, half_width / view.field_mm, bone)
    return total


def _arteries(rng: np.random.Generator, route: Curve) -> Segments:
    """Grow arteries along the route of the devices, and one beside it."""
    first = int(rng.uniform(0.25, 0.5) * len(route))
    style = TreeStyle(0.0022, length=14, wander=0.35, fork=0.8)
    radius, count = rng.uniform(0.012, 0.02), int(rng.integers(5, 9))
    main = vessel_along(rng, route[first::3], radius, style, count=count)
    root = route[first] + rng.normal(0, 0.02, (1, 2))
    heading, radii = rng.uniform(0, 2 * np.pi, 1), np.array([radius])
    return join_segments([main, grow_trees(rng, root, heading, radii, style)])
