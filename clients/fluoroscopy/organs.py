"""Soft parts of a trunk: flesh, lungs of air, heart, diaphragm, gas.

A chest is an elliptical cylinder of soft tissue that holds lungs of air, a heart and
great vessels, closed below by the diaphragm.
"""

import cv2
import numpy as np

from clients.fluoroscopy.anatomy import View
from clients.fluoroscopy.canvas import (
    Canvas,
    chord,
    radius_share,
    soft_step,
    texture,
)
from clients.fluoroscopy.geometry import Curve, Field
from clients.fluoroscopy.projection import Segments, capsules, join_segments
from clients.fluoroscopy.species import HUMAN, Trunk
from clients.fluoroscopy.vessels import TreeStyle, grow_trees

LUNG_AIR = 0.72  # share of a lung's volume
WIDE_FIELD_MM = 220  # wider views show neck, shoulders and arms


def draw_flesh(canvas: Canvas, x: Field, y: Field, trunk: Trunk, view: View) -> Field:
    """Draw the body as if it were solid.

    Args:
        canvas: The pixels.
        x: (side, side), mm of the body.
        y: (side, side), mm of the body.
        trunk: The kind of body.
        view: Where the system looks.

    Returns:
        (side, side), mm of soft tissue.
    """
    wide, deep = trunk.cage.half_width + trunk.wall, trunk.cage.half_depth + trunk.wall
    edge = np.hypot(wide * np.cos(view.oblique), deep * np.sin(view.oblique))
    solid = 2 * wide * deep / edge * chord(x * np.float32(1 / edge))
    if trunk is not HUMAN or view.field_mm < WIDE_FIELD_MM:
        return solid
    solid *= soft_step(-182 + 0.0022 * x * x - y, 16)
    # Neck, shoulders and arms, as round as a wide view shows them.
    shapes = [(np.array([(0, -330), (0, -150)]), (60.0, 56.0))]
    for side in (-1.0, 1.0):
        shoulder = np.array([(20, -188), (100, -172), (158, -150)]) * (side, 1)
        arm = np.array([(165, -140), (190, -60), (206, 40), (214, 140)]) * (side, 1)
        shapes += [(shoulder, (30.0, 48.0)), (arm, (52.0, 40.0))]
    pieces = [
        Segments.along(
            view.to_field(points), np.linspace(*radius, len(points)) / view.field_mm
        )
        for points, radius in shapes
    ]
    limbs, _ = capsules(join_segments(pieces), canvas)
    return np.maximum(solid, limbs * np.float32(view.field_mm))


def draw_air(
    rng: np.random.Generator,
    canvas: Canvas,
    x: Field,
    y: Field,
    trunk: Trunk,
    view: View,
) -> tuple[Field, Curve]:
    """Draw what the lungs take away: air around heart, vessels and diaphragm.

    Args:
        rng: Source of randomness.
        canvas: The pixels.
        x: (side, side), mm of the body.
        y: (side, side), mm of the body.
        trunk: The kind of body.
        view: Where the system looks.

    Returns:
        (side, side), mm of tissue that is missing, and (2,) the middle of the heart,
        mm of the body.
    """
    cage, turn = trunk.cage, view.oblique
    edge = float(
        np.hypot(cage.half_width * np.cos(turn), cage.half_depth * np.sin(turn))
    )
    longest = 2 * cage.half_width * cage.half_depth / edge
    apex = np.sqrt(np.clip((y - trunk.lung_top) * np.float32(1 / 95), 0, 1))
    lungs = longest * chord(x / np.maximum(edge * (0.35 + 0.65 * apex), 1))
    middle = trunk.heart + rng.normal(0, 6, 3)
    heart_x = middle[0] * np.cos(turn) + middle[2] * np.sin(turn)
    heart = np.array([heart_x, middle[1]])
    radii = trunk.heart_radii * rng.uniform(0.9, 1.15, 2)
    share = radius_share(x, y, heart, radii, 0.6 * np.cos(turn))
    filled = 1.5 * radii[1] * np.minimum(1.5 * chord(share), 1)
    between = 0.4 * cage.half_depth * np.sin(turn)
    half = 30 + 8 * np.sin(y / 28 + rng.uniform(0, 6)) + 12 * soft_step(y + 110, 60)
    middle_part = 85 * soft_step(np.abs(x - np.float32(between)) - half, 5)
    filled = np.maximum(filled, middle_part) + 0.2 * np.minimum(filled, middle_part)
    knob = radius_share(x, y, np.array([between + 30, -62.0]), np.array([20.0, 22.0]))
    filled += 30 * chord(knob)
    air = np.maximum(lungs - filled, 0) * _above_diaphragm(rng, x, y, trunk, between)
    marks = _lung_vessels(rng, canvas, view, between) * (air > 8)
    mottle = 1 + 0.05 * texture(rng, canvas, cells=12, octaves=3, decay=0.8)
    return LUNG_AIR * air * mottle - marks, heart


def _above_diaphragm(
    rng: np.random.Generator, x: Field, y: Field, trunk: Trunk, middle: float
) -> Field:
    """Return the share of the lung's depth that is above its half of the dome."""
    wide = trunk.cage.half_width
    right, left = (float(v) for v in trunk.dome + rng.normal(0, 8, 2) + (-6, 8))
    side = soft_step(x - np.float32(middle), 6)  # 1 on the right side of the body
    height = side * right + (1 - side) * left
    from_top = (np.abs(x - np.float32(middle)) - 0.5 * wide) / (0.5 * wide)
    height = (
        height
        + np.where(from_top < 0, np.float32(0.1), np.float32(0.34)) * wide * from_top**2
    )
    behind = soft_step(y - height - 32, 16)
    return 0.84 * soft_step(y - height, 1.6) + 0.16 * behind


def _lung_vessels(
    rng: np.random.Generator, canvas: Canvas, view: View, middle: float
) -> Field:
    """Draw the vessels that leave the roots of both lungs, mm."""
    side = np.repeat([-1.0, 1.0], 4)
    out = np.tile([-1.1, -0.3, 0.5, 1.15], 2) + rng.normal(0, 0.15, 8)
    x, y = middle + side * rng.uniform(26, 38, 8), rng.uniform(-25, 15, 8)
    vessels = grow_trees(
        rng,
        view.to_field(np.stack((x, y), axis=1)),
        np.where(side > 0, out, np.pi - out) + view.turn,
        rng.uniform(3.2, 4.6, 8) / view.field_mm,
        TreeStyle(0.85 / view.field_mm, length=9, wander=0.2, fork=0.8),
    )
    thickness, _ = capsules(vessels, canvas)
    return thickness * np.float32(1.3 * view.field_mm)


def draw_gas(rng: np.random.Generator, x: Field, y: Field, view: View) -> Field:
    """Draw gas in stomach and bowel.

    Args:
        rng: Source of randomness.
        x: (side, side), mm of the body.
        y: (side, side), mm of the body.
        view: Where the system looks.

    Returns:
        (side, side), mm of tissue that is missing.
    """
    total = np.zeros_like(x)
    for _ in range(rng.integers(3, 8)):
        centre = view.centre_mm + rng.uniform(-0.6, 0.6, 2) * view.field_mm
        radii = rng.uniform(7, 24, 2)
        wave = 1 + 0.12 * np.sin(x / rng.uniform(5, 9)) * np.sin(y / rng.uniform(5, 9))
        share = radius_share(x, y, centre, radii, rng.uniform(0, np.pi)) * wave
        total = np.maximum(total, 1.4 * radii.min() * chord(share))
    return cv2.GaussianBlur(total, (0, 0), 1.0)
