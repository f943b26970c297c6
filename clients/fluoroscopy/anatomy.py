"""What lies behind the devices: optical depth of bodies and phantoms.

Each background is built from bodies with a physical meaning (vertebrae, ribs, a heart
shadow, the walls of a tube) whose sizes and places are drawn once per patient. They
are cartoons in two dimensions: right in contrast, scale and clutter, not in anatomy.
All return the optical depth, the line integral of attenuation, dimensionless.
"""

from collections.abc import Callable

import numpy as np

from clients.fluoroscopy.geometry import (
    Curve,
    Field,
    cylinder,
    distance_map,
    pixel_centres,
    random_field,
    sample_spline,
    soft_step,
    tube,
)

Anatomy = Callable[[np.random.Generator, int, Curve], Field]
"""(source of randomness, size in px, route of the devices) -> (size, size)."""


def build_human(rng: np.random.Generator, size: int, route: Curve) -> Field:
    """Build a chest: spine, ribs, heart, diaphragm, lung vessels."""
    x, y = pixel_centres(size)
    depth = 2.1 + 0.15 * random_field(rng, 4, size) + _slope(rng, x, y, 0.35)
    spine = rng.uniform(0.3, 0.7)
    depth += _spine(rng, x, y, spine, half_width=0.085, period=0.27, dense=0.3)
    for first in np.arange(rng.uniform(-0.3, -0.1), 0.9, rng.uniform(0.2, 0.26)):
        depth += _rib(x, y, spine, first, slope=0.45, width=0.024, dense=0.2)
    heart = rng.uniform(0.4, 0.6, 2), rng.uniform((0.24, 0.3), (0.32, 0.4))
    depth += 0.45 * _ellipse(x, y, *heart, rng.uniform(0.3, 0.9), 0.012)
    dome = y - rng.uniform(0.75, 1.0) - 0.6 * (x - rng.uniform(0.2, 0.8)) ** 2
    depth += rng.uniform(0.2, 0.5) * soft_step(dome, 0.01)
    return depth + _vessels(rng, size, count=6, width=(0.008, 0.025), dense=0.16)


def build_animal(rng: np.random.Generator, size: int, route: Curve) -> Field:
    """Build a pig's trunk: many thin steep ribs, small oblique spine, gas, bristles."""
    x, y = pixel_centres(size)
    turn = rng.normal(0, 0.35) + rng.choice([0.0, np.pi / 2])
    u = 0.5 + (x - 0.5) * np.cos(turn) + (y - 0.5) * np.sin(turn)
    v = 0.5 - (x - 0.5) * np.sin(turn) + (y - 0.5) * np.cos(turn)
    depth = 2.3 + 0.22 * random_field(rng, 6, size) + _slope(rng, x, y, 0.4)
    spine = rng.uniform(0.15, 0.85)
    depth += _spine(rng, u, v, spine, half_width=0.055, period=0.15, dense=0.4)
    for first in np.arange(rng.uniform(-0.6, -0.5), 1.0, rng.uniform(0.13, 0.19)):
        place = first + rng.normal(0, 0.012)
        dense = rng.uniform(0.08, 0.22)
        depth += _rib(u, v, spine, place, slope=0.8, width=0.016, dense=dense)
    for _ in range(rng.integers(1, 4)):
        radii = rng.uniform(0.05, 0.14, 2)
        depth -= 0.35 * _ellipse(u, v, rng.random(2), radii, rng.random(), 0.008)
    return depth + 0.03 * random_field(rng, 48, size)


def build_phantom(rng: np.random.Generator, size: int, route: Curve) -> Field:
    """Build a silicone vessel phantom: tubes on a flat plate, with its connectors."""
    x, y = pixel_centres(size)
    depth = 0.9 + 0.02 * random_field(rng, 3, size)
    low, high = rng.uniform(0.06, 0.16, 2), rng.uniform(0.84, 0.94, 2)
    box = np.maximum.reduce([low[0] - x, x - high[0], low[1] - y, y - high[1]])
    depth += 0.12 * soft_step(box, 0.003) + 0.16 * _rim(box, 0.003)
    wall = rng.uniform(0.16, 0.3)
    for line, radius in _branches(rng, route, radius=rng.uniform(0.028, 0.045)):
        near = distance_map(line, size, radius * size + 1)
        depth += wall * tube(near, radius * size, 0.86)
    for _ in range(rng.integers(2, 5)):  # connectors and their hoses
        ends = rng.uniform(0.1, 0.9, 2) + np.array([[0, 0], rng.normal(0, 0.12, 2)])
        radius = rng.uniform(0.012, 0.02) * size
        near = distance_map(ends, size, radius + 1)
        depth += rng.uniform(0.1, 0.35) * cylinder(near, radius)
    return depth


def build_simulation(rng: np.random.Generator, size: int, route: Curve) -> Field:
    """Build what a renderer shows: a filled vessel tree before even, smooth organs."""
    x, y = pixel_centres(size)
    depth = 0.8 + _slope(rng, x, y, 0.15)
    dense = rng.uniform(0.12, 0.3)
    for line, radius in _branches(rng, route, radius=rng.uniform(0.035, 0.055)):
        near = distance_map(line, size, radius * size + 1)
        depth += dense * cylinder(near, radius * size)
    for _ in range(2):
        organ = rng.uniform(0.1, 0.9, 2), rng.uniform(0.12, 0.35, 2)
        dense = rng.uniform(0.06, 0.2)
        depth += dense * _ellipse(x, y, *organ, 3 * rng.random(), 0.004)
    return depth


def build_neuro(rng: np.random.Generator, size: int, route: Curve) -> Field:
    """Build a skull: bony arc, base, orbit, sutures, and air outside."""
    x, y = pixel_centres(size)
    centre = rng.uniform((0.4, 0.5), (0.6, 0.62))
    radii = rng.uniform((0.46, 0.44), (0.56, 0.54))
    outer = _radius_share(x, y, centre, radii, rng.normal(0, 0.2))
    around = np.arctan2(y - centre[1], x - centre[0])
    outer *= 1 + 0.03 * np.sin(3 * around + rng.random() * 6)
    shell = np.sqrt(np.clip(1 - outer**2, 0, 1))
    inner = np.sqrt(np.clip(1 - (outer / 0.9) ** 2, 0, 1))
    depth = 0.9 + 0.9 * inner + 2.6 * (shell - 0.9 * inner)
    depth += 0.15 * random_field(rng, 5, size) * soft_step(outer - 1, 0.03)
    base = y - rng.uniform(0.74, 0.86) - 0.25 * (x - 0.5) * rng.choice([-1.0, 1.0])
    depth += 0.7 * np.exp(-((base / rng.uniform(0.05, 0.08)) ** 2)) * (outer < 1)
    orbit = rng.uniform((0.2, 0.62), (0.8, 0.72)), rng.uniform(0.07, 0.11, 2)
    depth += 0.5 * _rim(_radius_share(x, y, *orbit, 0.0) - 1, 0.09)
    seams = _vessels(rng, size, count=5, width=(0.006, 0.014), dense=-0.18)
    return depth + seams * (outer < 0.97)


def _slope(rng: np.random.Generator, x: Field, y: Field, strength: float) -> Field:
    tilt = rng.normal(0, strength, 2)
    return tilt[0] * (x - 0.5) + tilt[1] * (y - 0.5)


def _rim(distance: Field, width: float) -> Field:
    return np.exp(-((distance / width) ** 2))


def _radius_share(
    x: Field, y: Field, centre: Curve, radii: Curve, turn: float
) -> Field:
    """Return 1 on an ellipse, less inside, more outside."""
    across = (x - centre[0]) * np.cos(turn) + (y - centre[1]) * np.sin(turn)
    along = (y - centre[1]) * np.cos(turn) - (x - centre[0]) * np.sin(turn)
    return np.hypot(across / radii[0], along / radii[1])


def _ellipse(
    x: Field, y: Field, centre: Curve, radii: Curve, turn: float, edge: float
) -> Field:
    """Return the normalised depth of an ellipsoid with a slightly soft edge."""
    share = _radius_share(x, y, centre, radii, turn)
    body = np.sqrt(np.clip(1 - share**2, 0, 1))
    return 0.5 * body + 0.5 * soft_step(share - 1, edge / radii.min())


def _spine(
    rng: np.random.Generator,
    x: Field,
    y: Field,
    centre: float,
    *,
    half_width: float,
    period: float,
    dense: float,
) -> Field:
    """Stack vertebrae with dense end plates, pedicles and a spinous process."""
    tilt = rng.normal(0, 0.12)
    across = x - centre - tilt * (y - 0.5) - 0.04 * np.sin(3 * y + rng.random() * 6)
    along = (y + rng.random()) % period - period / 2
    body = np.maximum(np.abs(across) - half_width, np.abs(along) - 0.41 * period)
    pedicle = np.hypot(np.abs(across) - 0.6 * half_width, along + 0.1 * period)
    process = np.hypot(across / 0.35, along - 0.15 * period) - 0.22 * period
    depth = soft_step(body, 0.006) + 0.45 * _rim(body, 0.012)
    depth += 0.45 * _rim(pedicle - 0.22 * half_width, 0.01)
    return dense * (depth + 0.4 * soft_step(process, 0.008))


def _rib(
    x: Field,
    y: Field,
    spine: float,
    height: float,
    *,
    slope: float,
    width: float,
    dense: float,
) -> Field:
    """Bend a band with dense edges away from both sides of the spine."""
    away = np.abs(x - spine)
    middle = height + slope * away + 0.35 * np.sin(2.5 * away) ** 2
    edge = np.abs(y - middle) - width
    band = soft_step(edge, 0.004) + 0.6 * _rim(edge, 0.007)
    return dense * band * soft_step(0.04 - away, 0.02)


def _vessels(
    rng: np.random.Generator,
    size: int,
    *,
    count: int,
    width: tuple[float, float],
    dense: float,
) -> Field:
    """Draw short winding tubes: lung vessels, or sutures when `dense` is negative."""
    depth = np.zeros((size, size))
    for _ in range(count):
        steps = rng.normal(0, 0.05, (5, 2)) + rng.normal(0, 0.1, 2)
        knots = rng.random(2) + np.cumsum(steps, axis=0)
        radius = rng.uniform(*width) / 2 * size
        near = distance_map(sample_spline(knots, 2 / size), size, radius + 1)
        depth += dense * rng.uniform(0.5, 1.0) * cylinder(near, radius)
    return depth


def _branches(
    rng: np.random.Generator, route: Curve, *, radius: float
) -> list[tuple[Curve, float]]:
    """Return the vessel along the route and thinner ones that leave it."""
    lines = [(route, radius)]
    for start in rng.uniform(0.25, 0.85, rng.integers(2, 5)):
        root = route[int(start * (len(route) - 1))]
        out = rng.uniform(0, 2 * np.pi)
        steps = 0.13 * np.array([[np.cos(out), np.sin(out)]])
        steps = np.vstack(([[0, 0]], steps + rng.normal(0, 0.045, (4, 2))))
        line = sample_spline(root + np.cumsum(steps, axis=0), 0.008)
        lines.append((line, radius * rng.uniform(0.5, 0.8)))
    return lines
