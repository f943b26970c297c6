"""Trees that branch by Murray's law, and agent that flows through them."""

import numpy as np
import pytest

from clients.fluoroscopy.canvas import Canvas
from clients.fluoroscopy.projection import Segments
from clients.fluoroscopy.vessels import (
    MAX_GENERATIONS,
    Inflow,
    TreeStyle,
    draw_inflow,
    grow_trees,
    vessel_along,
)

STYLE = TreeStyle(least_radius=0.002, taper=0.0, wander=0.2)
ROOT = np.array([[0.1, 0.5]])


def grow(seed: int = 0, radius: float = 0.012, style: TreeStyle = STYLE) -> Segments:
    rng = np.random.default_rng(seed)
    return grow_trees(rng, ROOT, np.zeros(1), np.array([radius]), style)


def test_the_cubes_of_the_radii_are_kept_at_every_fork() -> None:
    tree = grow(style=TreeStyle(least_radius=1e-4, taper=0.0))
    starts: dict[tuple[float, ...], list[float]] = {}
    for point, radius in zip(tree.begin, tree.radius[:, 0], strict=True):
        starts.setdefault(tuple(np.round(point, 9)), []).append(radius)
    forks = 0
    for point, radius in zip(tree.end, tree.radius[:, 1], strict=True):
        daughters = starts.get(tuple(np.round(point, 9)), [])
        if len(daughters) == 2:
            forks += 1
            assert sum(r**3 for r in daughters) == pytest.approx(radius**3)
    assert forks > 20


def test_branches_hang_together_and_get_thinner_with_the_way() -> None:
    tree = grow()
    ends = {tuple(np.round(point, 9)) for point in tree.end}
    loose = [p for p in tree.begin if tuple(np.round(p, 9)) not in ends]
    assert np.allclose(loose, ROOT)
    assert tree.radius.max() == 0.012 and tree.radius.min() >= 0.002
    order = np.argsort(tree.value[:, 0])
    first, last = np.array_split(tree.radius[order, 0], 2)
    assert first.mean() > last.mean()
    assert (tree.value[:, 1] > tree.value[:, 0]).all()


def test_growth_ends_even_if_branches_never_get_thin() -> None:
    tree = grow(style=TreeStyle(least_radius=1e-9, taper=0.0))
    assert len(tree.begin) < 70 * 7 * MAX_GENERATIONS + 1


def test_side_trees_leave_from_the_vessel() -> None:
    curve = np.stack((np.linspace(0.1, 0.9, 40), np.full(40, 0.5)), axis=1)
    vessels = vessel_along(np.random.default_rng(1), curve, 0.015, STYLE, count=5)
    assert np.array_equal(vessels.begin[:39], curve[:-1])
    others = vessels.begin[39:]
    on_vessel = (
        np.hypot(*(others[:, None] - curve).transpose(2, 0, 1)).min(axis=1) < 1e-9
    )
    assert len(np.unique(others[on_vessel], axis=0)) >= 3
    assert vessels.radius[39:].max() < 0.015


def inflow() -> Inflow:
    rng = np.random.default_rng(2)
    return draw_inflow(rng, grow(), Canvas(256), 130.0, (1.0, 1.0))


def test_agent_arrives_near_the_root_first() -> None:
    flow = inflow()
    half = flow.start_s + 0.5 * flow.rise_s + 0.5 * float(flow.arrival_s.max())
    filled = flow.at(half) > 0
    assert 0 < filled.sum() < (flow.lumen_mm > 0).sum()
    empty = (flow.lumen_mm > 0) & ~filled
    assert flow.arrival_s[filled].max() < flow.arrival_s[empty].min() + 1e-6


def test_agent_fills_the_lumen_and_is_washed_out() -> None:
    flow = inflow()
    full = flow.start_s + flow.rise_s + float(flow.arrival_s.max()) + 0.01
    assert flow.at(flow.start_s).max() == 0
    assert np.allclose(flow.at(full), flow.lumen_mm, rtol=0.05)
    assert flow.at(full + 20).max() < 0.01 * flow.lumen_mm.max()
    # A vessel of 1.2 % of a field of 130 mm has this diameter.
    assert float(flow.lumen_mm.max()) == pytest.approx(2 * 0.012 * 130, rel=0.05)
