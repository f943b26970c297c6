"""Trees of vessels, and contrast agent that flows into them.

Radii at a fork follow Murray's law, r³ = r1³ + r2³ [Murray, PNAS 12, 1926], and the
thinner branch leaves at the larger angle. Branches wander and taper.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.fluoroscopy.canvas import Canvas
from clients.fluoroscopy.geometry import Curve, Field, Range, arc_length
from clients.fluoroscopy.projection import Segments, capsules, join_segments

MAX_BRANCHES = 70  # of a tree that are carried on to the next generation
MAX_GENERATIONS = 9
PIECES = 7  # straight pieces of a branch
BENDS = 4  # places of a branch where its heading changes at random

Values = NDArray[np.float64]


@dataclass(frozen=True)
class TreeStyle:
    """How a tree grows."""

    least_radius: float  # fields; thinner branches are not drawn
    length: float = 16.0  # of a branch between forks, as a multiple of its radius
    least_length: float = 0.03  # fields
    wander: float = 0.35  # rad of change in heading per bend of a branch
    taper: float = 0.12  # share of the radius lost along a branch
    fork: float = 0.75  # rad between the two branches of an even fork
    side_branches: float = 0.35  # chance that a fork is a thin twig and a stem


@dataclass(frozen=True)
class _Buds:
    """Where the branches of a generation begin; each array has one row a branch."""

    start: Curve
    heading: Values
    radius: Values
    travelled: Values

    def chosen(self, which: NDArray[np.bool_] | slice) -> "_Buds":
        return _Buds(
            self.start[which],
            self.heading[which],
            self.radius[which],
            self.travelled[which],
        )


def grow_trees(
    rng: np.random.Generator,
    roots: Curve,
    headings: Values,
    radii: Values,
    style: TreeStyle,
    *,
    travelled: Values | float = 0.0,
) -> Segments:
    """Grow trees of vessels.

    Args:
        rng: Source of randomness.
        roots: (trees, 2), in units of the field.
        headings: (trees,), directions of the first branches, rad.
        radii: (trees,), of the first branches, in units of the field.
        style: How they grow.
        travelled: (trees,), way of the blood before the roots, in units of the field.

    Returns:
        Straight pieces of all branches; their values are the way from the root.
    """
    far = np.broadcast_to(np.asarray(travelled, float), headings.shape)
    buds = _Buds(np.asarray(roots, float), headings, radii, far)
    parts = []
    for _ in range(MAX_GENERATIONS):
        buds = buds.chosen(buds.radius >= style.least_radius)
        if len(buds.radius) == 0:
            break
        pieces, ends = _grow(rng, buds.chosen(slice(MAX_BRANCHES)), style)
        parts.append(pieces)
        buds = _fork(rng, ends, style)
    return join_segments(parts)


def vessel_along(
    rng: np.random.Generator,
    curve: Curve,
    radius: float,
    style: TreeStyle,
    *,
    count: int,
) -> Segments:
    """Make a vessel of a given curve and let trees grow from its sides.

    Args:
        rng: Source of randomness.
        curve: (points, 2), in units of the field.
        radius: At its beginning, in units of the field; halved at its end.
        style: How the side trees grow.
        count: Number of side trees.

    Returns:
        Straight pieces; their values are the way from the beginning.
    """
    travelled = arc_length(curve)
    radii = radius * (1 - 0.5 * travelled / travelled[-1])
    places = np.sort(rng.uniform(0.08, 0.98, count))
    index = np.minimum((places * (len(curve) - 1)).astype(int), len(curve) - 2)
    along = curve[index + 1] - curve[index]
    # Most branches leave on the other side than the one before.
    sides = rng.choice([-1.0, 1.0]) * np.cumprod(rng.choice([-1, -1, 1], count))
    headings = np.arctan2(along[:, 1], along[:, 0])
    headings += sides * rng.uniform(0.5, 1.1, count)
    twigs = grow_trees(
        rng,
        curve[index],
        headings,
        radii[index] * rng.uniform(0.5, 0.8, count),
        style,
        travelled=travelled[index],
    )
    return join_segments([Segments.along(curve, radii, travelled), twigs])


@dataclass(frozen=True)
class Inflow:
    """Contrast agent on its way through a tree.

    Attributes:
        lumen_mm: (side, side), path through the vessels.
        arrival_s: (side, side), when the agent gets there, after the injection.
        start_s: When it is injected; may be before the first frame.
        rise_s: From nothing to the full concentration.
        plateau_s: How long the injection lasts.
        decay_s: Time constant of the wash-out.
        concentration: Largest, as a share of the agent of `spectrum.CONTRAST`.
    """

    lumen_mm: Field
    arrival_s: Field
    start_s: float
    rise_s: float
    plateau_s: float
    decay_s: float
    concentration: float

    def at(self, time_s: float) -> Field:
        """Return (side, side) the mm of contrast agent in the beam."""
        since = np.float32(time_s - self.start_s) - self.arrival_s
        filled = np.clip(since * np.float32(1 / self.rise_s), 0, 1)
        late = np.maximum(since - np.float32(self.rise_s + self.plateau_s), 0)
        filled *= np.exp(late * np.float32(-1 / self.decay_s))
        return self.lumen_mm * filled * np.float32(self.concentration)


def draw_inflow(
    rng: np.random.Generator,
    vessels: Segments,
    canvas: Canvas,
    field_mm: float,
    concentration: Range,
) -> Inflow:
    """Inject contrast agent into a tree.

    Args:
        rng: Source of randomness.
        vessels: Pieces whose values are the way from the injection.
        canvas: Where to draw.
        field_mm: Size of the field.
        concentration: Of the agent when it has filled the vessels.

    Returns:
        An injection that is on its way or has filled the tree when the frames begin.
    """
    lumen, travelled = capsules(vessels, canvas)
    speed = rng.uniform(120, 300)  # mm/s
    return Inflow(
        lumen_mm=lumen * np.float32(field_mm),
        arrival_s=travelled * np.float32(field_mm / speed),
        start_s=float(rng.uniform(-1.6, 0.1)),
        rise_s=float(rng.uniform(0.15, 0.4)),
        plateau_s=float(rng.uniform(1.0, 3.0)),
        decay_s=float(rng.uniform(0.6, 1.5)),
        concentration=float(rng.uniform(*concentration)),
    )


def _grow(
    rng: np.random.Generator, buds: _Buds, style: TreeStyle
) -> tuple[Segments, _Buds]:
    """Return the wandering branches of a generation, and their ends."""
    count = len(buds.radius)
    length = style.length * buds.radius * rng.uniform(0.7, 1.4, count)
    length = np.maximum(length, style.least_length)
    bends = rng.normal(0, style.wander, (count, BENDS))
    spread = np.stack(
        [
            np.interp(np.linspace(0, 1, PIECES), np.linspace(0, 1, BENDS), unit)
            for unit in np.eye(BENDS)
        ]
    )
    turned = np.cumsum(bends @ spread, axis=1) * (BENDS / PIECES)
    heading = buds.heading[:, None] + turned
    step = np.stack((np.cos(heading), np.sin(heading)), axis=2)
    step *= (length / PIECES)[:, None, None]
    ends = buds.start[:, None] + np.cumsum(step, axis=1)
    points = np.concatenate((buds.start[:, None], ends), axis=1)
    share = np.linspace(0, 1, PIECES + 1)
    radii = buds.radius[:, None] * (1 - style.taper * share)
    travelled = buds.travelled[:, None] + length[:, None] * share
    pieces = Segments(
        points[:, :-1].reshape(-1, 2),
        points[:, 1:].reshape(-1, 2),
        np.stack((radii[:, :-1].ravel(), radii[:, 1:].ravel()), axis=1),
        np.stack((travelled[:, :-1].ravel(), travelled[:, 1:].ravel()), axis=1),
    )
    return pieces, _Buds(ends[:, -1], heading[:, -1], radii[:, -1], travelled[:, -1])


def _fork(rng: np.random.Generator, ends: _Buds, style: TreeStyle) -> _Buds:
    """Return where the next generation begins: two branches for every end."""
    count = len(ends.radius)
    uneven = rng.random(count) < style.side_branches
    share = np.where(
        uneven, rng.uniform(0.06, 0.2, count), rng.uniform(0.3, 0.5, count)
    )
    thin, wide = ends.radius * np.cbrt(share), ends.radius * np.cbrt(1 - share)
    spread = style.fork * rng.uniform(0.7, 1.3, count)
    side = rng.choice([-1.0, 1.0], count)
    # The angles are in the ratio of the other branch's cross-section.
    turn = spread * wide**2 / (wide**2 + thin**2)
    return _Buds(
        np.concatenate((ends.start, ends.start)),
        np.concatenate(
            (ends.heading - side * (spread - turn), ends.heading + side * turn)
        ),
        np.concatenate((wide, thin)),
        np.concatenate((ends.travelled, ends.travelled)),
    )
