"""The ways that devices take through the field, and the shapes of their tips."""

import numpy as np

from clients.fluoroscopy.geometry import Curve

STEP = 0.2  # usual distance between the knots of a route, fields
LOOP_KNOTS = 6


def draw_route(
    rng: np.random.Generator,
    *,
    steering: float = 0.45,
    loop: float = 0.0,
    inside: bool = False,
) -> Curve:
    """Walk from outside one side of the field to its inside, turning smoothly.

    Args:
        rng: Source of randomness.
        steering: How strongly the way winds, rad of change in heading per knot.
        loop: Chance that the device crosses itself in a loop.
        inside: Begin inside the field, as a piece that lies on a bench does.

    Returns:
        (knots, 2), in units of the field; the first knot lies outside the field,
        unless `inside`.
    """
    side = rng.integers(4)
    heading = side * np.pi / 2 + rng.normal(0, 0.3)
    direction = np.array([np.cos(side * np.pi / 2), np.sin(side * np.pi / 2)])
    across = np.array([-direction[1], direction[0]]) * rng.uniform(-0.3, 0.3)
    begin = rng.uniform(0.26, 0.38) if inside else 0.58
    step = 0.7 * STEP if inside else STEP
    knots = [0.5 - begin * direction + across]
    loop_at = rng.integers(2, 5) if rng.random() < loop else -1
    bend = rng.normal(0, 0.8 * steering)
    for index, length in enumerate(rng.uniform(0.8 * step, 1.2 * step, 6)):
        knots.append(knots[-1] + length * _towards(heading))
        if index == loop_at:
            knots += _loop(rng, knots[-1], heading)
        bend = 0.4 * bend + rng.normal(0, steering)
        # Steer back before the route leaves the field.
        to_centre = np.arctan2(*(0.5 - knots[-1])[::-1]) - heading
        to_centre = (to_centre + np.pi) % (2 * np.pi) - np.pi
        edge = np.clip((np.abs(knots[-1] - 0.5).max() - 0.22) / 0.2, 0, 1)
        heading += (1 - edge) * bend + edge * 0.55 * to_centre
    return np.stack(knots)


def draw_hook(rng: np.random.Generator) -> Curve:
    """Come down from above and hook into an artery, as over the arch of the aorta.

    Args:
        rng: Source of randomness.

    Returns:
        (knots, 2), in units of the field; the first knot lies outside the field.
    """
    side = rng.choice([-1.0, 1.0])
    top = 0.5 + side * rng.uniform(0.02, 0.22)
    low = rng.uniform(0.3, 0.48)
    knots = [(top + 0.02 * side, -0.08), (top, 0.08), (top - 0.01 * side, low - 0.1)]
    turn = (top - side * rng.uniform(0.05, 0.09), low)
    knots += [turn]
    heading = np.arctan2(rng.uniform(-0.35, 0.3), -side)
    point, bend = np.array(turn), 0.0
    for length in rng.uniform(0.1, 0.16, 4):
        point = point + length * _towards(heading)
        knots.append(tuple(point))
        bend = 0.5 * bend + rng.normal(0, 0.4) - 0.22 * side
        heading += bend
    return np.array(knots)


def draw_arm_route(rng: np.random.Generator) -> Curve:
    """Come through an arm and a collar vein and turn down to the heart.

    Args:
        rng: Source of randomness.

    Returns:
        (knots, 2), in units of the field of a whole chest; the first lies outside.
    """
    side = rng.choice([-1.0, 1.0])
    top = rng.uniform(0.2, 0.32)
    knots = np.array(
        [
            (0.58, rng.uniform(0.4, 0.6)),
            (0.46, rng.uniform(0.3, 0.42)),
            (0.3, top + rng.uniform(0.0, 0.05)),
            (0.14, top - rng.uniform(0.0, 0.02)),
            (0.04 * side, top + 0.09),
            (0.0, rng.uniform(0.42, 0.5)),
            (0.01, rng.uniform(0.55, 0.65)),
        ]
    )
    knots[:5, 0] *= side
    knots[:, 0] += 0.46 + rng.normal(0, 0.02)
    return knots + rng.normal(0, 0.01, knots.shape)


def draw_side_route(rng: np.random.Generator, main: Curve) -> Curve:
    """Leave another route sideways and go on gently, as a branch of a phantom does.

    Args:
        rng: Source of randomness.
        main: (points, 2), the route that is left, in units of the field.

    Returns:
        (knots, 2); the first knot lies on `main`.
    """
    inside = np.flatnonzero((np.abs(main - 0.5) < 0.36).all(axis=1))
    if len(inside) == 0:
        inside = np.arange(len(main))
    index = min(int(rng.choice(inside)), len(main) - 2)
    along = main[index + 1] - main[index]
    heading = np.arctan2(along[1], along[0])
    heading += rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.5)
    if (_towards(heading) * (0.5 - main[index])).sum() < -0.12:
        heading += np.pi
    point, knots, bend = main[index], [main[index]], rng.normal(0, 0.25)
    for length in rng.uniform(0.07, 0.13, 4):
        point = point + length * _towards(heading)
        knots.append(point)
        bend = 0.6 * bend + rng.normal(0, 0.16)
        heading += bend
    return np.stack(knots)


def draw_tip(
    rng: np.random.Generator, shapes: tuple[float, float, float]
) -> tuple[float, float]:
    """Draw a straight, bent or J-shaped tip.

    Args:
        rng: Source of randomness.
        shapes: Chances of straight, bent and J.

    Returns:
        Radius (fields) and signed angle (rad) of the arc in which a wire ends.
    """
    kinds = ((0.25, 0.35), (0.06, 1.0), (0.032, 3.0))
    radius, angle = kinds[rng.choice(3, p=shapes)]
    side = rng.choice([-1.0, 1.0])
    return radius * rng.uniform(0.8, 1.25), side * angle * rng.uniform(0.75, 1.2)


def _loop(rng: np.random.Generator, start: Curve, heading: float) -> list[Curve]:
    """Return knots of a full turn that drifts along the heading."""
    radius, side = rng.uniform(0.05, 0.09), rng.choice([-1.0, 1.0])
    angles = np.linspace(0, 2 * np.pi, LOOP_KNOTS + 1)[1:]
    centre = start + radius * _towards(heading + side * np.pi / 2)
    drift = np.linspace(0, 0.4, LOOP_KNOTS + 1)[1:] * radius
    return [
        centre
        + radius * _towards(heading + side * (angle - np.pi / 2))
        + far * _towards(heading)
        for angle, far in zip(angles, drift, strict=True)
    ]


def _towards(heading: float) -> Curve:
    return np.array([np.cos(heading), np.sin(heading)])
