"""What lies on a bench: phantoms of silicone and plastic, and rendered scenes."""

import cv2
import numpy as np

from clients.fluoroscopy.anatomy import Anatomy, Routes
from clients.fluoroscopy.canvas import (
    Canvas,
    chord,
    radius_share,
    ridge,
    soft_step,
    texture,
)
from clients.fluoroscopy.geometry import Curve, Field, cut_curve, sample_spline
from clients.fluoroscopy.projection import capsules, cylinder, trace
from clients.fluoroscopy.rods import add_hose, add_rod, add_traced
from clients.fluoroscopy.vessels import TreeStyle, vessel_along


def build_phantom(rng: np.random.Generator, canvas: Canvas, routes: Routes) -> Anatomy:
    """Build a phantom of vessels: hoses and connectors on a flat plate of plastic."""
    field_mm = rng.uniform(150, 200)
    x, y = canvas.coordinates()
    low = rng.uniform(0.05, 0.2, 2).astype(np.float32)
    high = rng.uniform(0.8, 0.95, 2).astype(np.float32)
    box = np.maximum.reduce([low[0] - x, x - high[0], low[1] - y, y - high[1]])
    tissue = 42 + 4 * soft_step(box, 0.003) + 6 * ridge(box, 0.003)
    tissue += 0.6 * texture(rng, canvas, cells=3, octaves=2)
    wall = rng.uniform(3, 7)
    hoses = _hoses(rng, routes, radius=rng.uniform(0.006, 0.01))
    for line, radius in hoses:
        add_hose(tissue, canvas, line, radius, wall, inner_share=0.8)
    for _ in range(int(rng.integers(3, 7))):
        _add_connector(rng, tissue, canvas, routes[0])
    agent = canvas.blank()
    for line, radius in hoses:
        piece = cut_curve(line, rng.uniform(0, 0.5), rng.uniform(0.7, 1.0))
        filled = rng.choice([0.0, 1.0, 1.0]) * rng.uniform(0.8, 2.2)
        add_rod(agent, canvas, piece, radius, filled)
        if rng.random() < 0.6:
            agent += rng.uniform(3.0, 7.0) * _leak(rng, line, 1.5 * radius, canvas)
    return Anatomy(
        field_mm=field_mm,
        tissue=tissue,
        bone=canvas.blank(),
        moving_tissue=canvas.blank(),
        moving_bone=canvas.blank(),
        moving_steel=canvas.blank(),
        agent=agent,
    )


def build_simulation(
    rng: np.random.Generator, canvas: Canvas, routes: Routes
) -> Anatomy:
    """Build what a renderer shows: a filled vessel tree before even, smooth organs."""
    x, y = canvas.coordinates()
    slope = rng.normal(0, 7, 2)
    tissue = 60 + slope[0] * (x - 0.5) + slope[1] * (y - 0.5)
    style = TreeStyle(0.008, length=9, wander=0.16, fork=0.9, taper=0.06)
    radius = rng.uniform(0.032, 0.05)
    tree = vessel_along(
        rng, routes[0][::3], radius, style, count=int(rng.integers(3, 6))
    )
    lumen, _ = capsules(tree, canvas)
    tissue += rng.uniform(9, 17) * lumen / (2 * radius)
    for _ in range(2):
        share = radius_share(
            x,
            y,
            rng.uniform(0.1, 0.9, 2),
            rng.uniform(0.12, 0.35, 2),
            rng.uniform(0, 3),
        )
        tissue += rng.uniform(2, 7) * (chord(share) + 0.4 * soft_step(share - 1, 0.01))
    return Anatomy(
        field_mm=rng.uniform(110, 160),
        tissue=tissue,
        bone=canvas.blank(),
        moving_tissue=canvas.blank(),
        moving_bone=canvas.blank(),
        moving_steel=canvas.blank(),
    )


def _hoses(
    rng: np.random.Generator, routes: Routes, *, radius: float
) -> list[tuple[Curve, float]]:
    """Return the hoses in which devices lie, and thinner ones that leave them."""
    route = routes[0]
    lines = [(one[::3], radius) for one in routes]
    for start in rng.uniform(0.2, 0.9, int(rng.integers(1, 4))):
        root = route[int(start * (len(route) - 1))]
        out = rng.uniform(0, 2 * np.pi)
        steps = 0.13 * np.array([[np.cos(out), np.sin(out)]])
        steps = np.vstack(([[0, 0]], steps + rng.normal(0, 0.03, (4, 2))))
        line = sample_spline(root + np.cumsum(steps, axis=0), 0.01)
        lines.append((line, radius * rng.uniform(0.6, 1.0)))
    return lines


def _leak(
    rng: np.random.Generator, line: Curve, radius: float, canvas: Canvas
) -> Field:
    """Return agent that crept under the ragged sleeve around a piece of a hose."""
    total, wide = canvas.blank(), radius * canvas.resolution
    begin = rng.uniform(0, 0.6)
    piece = cut_curve(line, begin, begin + rng.uniform(0.1, 0.4))
    near = trace(piece, canvas, wide + 1)
    slow, fast = rng.uniform(0.2, 0.6), rng.uniform(2, 4)
    x, y = near.pixel % canvas.side, near.pixel // canvas.side
    grain = np.sin(fast * near.position + 2.1 * near.distance + x) * np.sin(1.7 * y + x)
    ragged = np.sin(slow * near.position + rng.uniform(0, 6)) > -0.2
    rough = (grain > 0.25) * ragged * (near.distance > 0.35 * wide)
    add_traced(total, near, rough)
    return cv2.GaussianBlur(total, (0, 0), 0.7)


def _add_connector(
    rng: np.random.Generator, total: Field, canvas: Canvas, route: Curve
) -> None:
    """Add a plastic fitting: a short rod with ribs."""
    middle = route[rng.integers(len(route) // 4, len(route))] + rng.normal(0, 0.05, 2)
    angle = rng.uniform(0, np.pi)
    half = rng.uniform(0.02, 0.12) * np.array([np.cos(angle), np.sin(angle)])
    radius = rng.uniform(0.006, 0.014) * canvas.resolution
    near = trace(np.stack((middle - half, middle + half)), canvas, radius + 1)
    ribs = 1 + 0.3 * np.sign(np.sin(near.position * rng.uniform(20, 60)))
    add_traced(total, near, rng.uniform(2, 8) * cylinder(near.distance, radius) * ribs)
