"""Bones of the trunk as thickness of cortical bone, in mm."""

from dataclasses import dataclass

import numpy as np

from clients.fluoroscopy.anatomy import View
from clients.fluoroscopy.canvas import Canvas, radius_share, ridge, soft_step, texture
from clients.fluoroscopy.geometry import Curve, Field, Range
from clients.fluoroscopy.projection import trace, tube
from clients.fluoroscopy.rods import add_hose, add_traced


@dataclass(frozen=True)
class Cage:
    """A rib cage and its spine; lengths in mm."""

    half_width: float
    half_depth: float
    ribs: int
    rib_spacing: float
    rib_half_width: float
    rib_drop: float  # from the spine to the front end of a rib
    first_rib: float  # height at the spine
    vertebra_half_width: float
    vertebra_period: float
    vertebra_bone: float  # thickness of a vertebral body


def draw_spine(
    rng: np.random.Generator,
    canvas: Canvas,
    across: Field,
    along: Field,
    cage: Cage,
    *,
    scale: float = 1.0,
) -> Field:
    """Stack vertebrae with end plates, pedicles, processes and disc spaces.

    Args:
        rng: Source of randomness.
        canvas: The pixels.
        across: (side, side), mm from the middle of the spine.
        along: (side, side), mm along it.
        cage: Sizes.
        scale: Of the vertebrae, 1 in the chest, more in the loins.

    Returns:
        (side, side), mm of bone.
    """
    period, wide = cage.vertebra_period * scale, cage.vertebra_half_width * scale
    shifted = along + np.float32(rng.uniform(0, period))
    number = np.floor(shifted * np.float32(1 / period))
    place = shifted - (number + np.float32(0.5)) * np.float32(period)
    # Vertebrae differ: a little to the side, a little denser.
    jitter = rng.normal(0, 1, (64, 2)).astype(np.float32)
    own = jitter[np.abs(number).astype(np.int64) % 64]
    across = across + own[..., 0] * np.float32(0.04 * wide)
    lens = np.clip(1 - (across / wide) ** 2, 0, 1)
    tall = 0.435 * period * (1 - 0.11 * lens)  # end plates are hollow
    waist = 0.1 * wide * (1 - (place / (0.45 * period)) ** 2)
    body = np.maximum(np.abs(across) - (wide - waist), np.abs(place) - tall)
    inside = soft_step(body, 0.07 * wide)
    grain = 1 + 0.1 * texture(rng, canvas, cells=24, octaves=3, decay=0.8)
    bone = inside * (0.36 + 0.05 * own[..., 1]) * grain
    bone += 0.26 * inside * ridge(np.abs(place) - tall + 0.04 * period, 0.045 * period)
    bone += (
        0.16 * inside * ridge(np.abs(across) - wide + waist + 0.08 * wide, 0.1 * wide)
    )
    # Arches and joints lie behind bodies and discs alike.
    arches = soft_step(np.abs(across) - 0.8 * wide, 0.3 * wide)
    bone += arches * (0.3 + 0.06 * np.cos(2 * np.pi / period * (place - 0.3 * period)))
    beside = np.abs(across)
    bone += _pedicles(beside, place, wide, period)
    bone += _processes(across, beside, place, wide, period)
    return np.maximum(bone, 0) * np.float32(cage.vertebra_bone)


def draw_ribs(
    rng: np.random.Generator, canvas: Canvas, view: View, cage: Cage, bone_mm: Range
) -> Field:
    """Draw both rows of ribs from the spine around to the front.

    Args:
        rng: Source of randomness.
        canvas: The pixels.
        view: Where the system looks.
        cage: Sizes.
        bone_mm: Bone along the beam at the edge of a rib.

    Returns:
        (side, side), mm of bone.
    """
    total = canvas.blank()
    reach = canvas.resolution / view.field_mm
    dense = rng.uniform(*bone_mm)
    for rib in range(cage.ribs):
        height = cage.first_rib + cage.rib_spacing * (rib + rng.normal(0, 0.04))
        for side in (-1.0, 1.0):
            curve = view.project(_rib(cage, rib, height, side, rng))
            if not is_shown(curve):
                continue
            radius = cage.rib_half_width * rng.uniform(0.85, 1.15) * reach
            near = trace(curve, canvas, radius + 1)
            share = near.position / np.float32(len(curve) - 1)
            # Bone turns to cartilage at the front end.
            solid = np.clip((1 - share) * 5, 0.0, 1.0) * (1 - 0.35 * share)
            wall = tube(near.distance, radius, 0.72)
            add_traced(total, near, np.float32(dense) * wall * solid)
    return total


def add_bone(
    total: Field, canvas: Canvas, curve: Curve, half_width: float, bone_mm: float
) -> None:
    """Add a long bone, a collar bone or a thin wall: a tube of cortex along a curve.

    Args:
        total: (side, side), mm of bone, changed in place.
        canvas: Its pixels.
        curve: (points, 2), in units of the field.
        half_width: In units of the field.
        bone_mm: Bone along the beam at the inner edge of its wall.
    """
    if is_shown(curve):
        add_hose(total, canvas, curve, half_width, bone_mm, inner_share=0.7)


def _rib(
    cage: Cage, rib: int, height: float, side: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the middle line (points, 3) of a rib, mm."""
    size = 0.72 + 0.28 * min(1.0, rib / 5)  # the cage is narrower at the top
    angle = np.linspace(0.03 * np.pi, rng.uniform(0.76, 0.84) * np.pi, 26)
    x = side * size * cage.half_width * np.sin(angle)
    z = size * cage.half_depth * np.cos(angle)
    fall = (1 - np.cos(angle)) / 2
    rise = 0.1 * np.sin(2 * angle) * (angle < np.pi / 2)
    y = height + cage.rib_drop * (fall - rise) * rng.uniform(0.92, 1.08)
    return np.stack((x, y, z), axis=1)


def is_shown(curve: Curve) -> bool:
    """Tell whether a curve, in units of the field, comes near the field at all."""
    low, high = curve.min(axis=0), curve.max(axis=0)
    return bool((low < 1.15).all() and (high > -0.15).all())


def _pedicles(beside: Field, place: Field, wide: float, period: float) -> Field:
    """Draw the ring shadows of the arch's roots."""
    centre, radii = np.array([0.62 * wide, -0.1 * period]), (0.2 * wide, 0.17 * period)
    share = radius_share(beside, place, centre, np.array(radii))
    return 0.2 * ridge(share - 1, 0.35) + 0.08 * soft_step(share - 1, 0.3)


def _processes(
    across: Field, beside: Field, place: Field, wide: float, period: float
) -> Field:
    """Draw spinous and transverse processes and the joints between arches."""
    tip = radius_share(
        across,
        place,
        np.array([0, 0.24 * period]),
        np.array([0.13 * wide, 0.2 * period]),
    )
    spinous = 0.14 * ridge(tip - 0.9, 0.4) + 0.12 * soft_step(tip - 1, 0.3)
    bar = np.maximum(np.abs(place + 0.12 * period) - 0.1 * period, beside - 1.75 * wide)
    transverse = 0.17 * soft_step(np.maximum(bar, 0.7 * wide - beside), 0.08 * wide)
    joint = radius_share(
        beside,
        place,
        np.array([0.55 * wide, 0.38 * period]),
        np.array([0.2 * wide, 0.2 * period]),
    )
    return spinous + transverse + 0.22 * soft_step(joint - 1, 0.4)
