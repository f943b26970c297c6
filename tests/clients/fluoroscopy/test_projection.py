"""Distances to curves and line integrals with known values."""

import numpy as np
import pytest

from clients.fluoroscopy.canvas import Canvas
from clients.fluoroscopy.projection import (
    Near,
    Segments,
    capsules,
    cylinder,
    join_segments,
    trace,
    tube,
)


def distances(near: Near, side: int) -> np.ndarray:
    """Return (side, side); infinity where no strand passes."""
    nearest = np.full(side * side, np.inf)
    np.minimum.at(nearest, near.pixel, near.distance)
    return nearest.reshape(side, side)


def by_hand(curve: np.ndarray, side: int) -> np.ndarray:
    """Return (side, side) px to the polyline, one segment and pixel at a time."""
    centres = np.arange(side) + 0.5
    x, y = np.meshgrid(centres, centres)
    found = np.full((side, side), np.inf)
    for begin, end in zip(curve[:-1] * side, curve[1:] * side, strict=True):
        step = end - begin
        share = ((x - begin[0]) * step[0] + (y - begin[1]) * step[1]) / (step @ step)
        share = share.clip(0, 1)
        away = np.hypot(x - begin[0] - share * step[0], y - begin[1] - share * step[1])
        found = np.minimum(found, away)
    return found


def circle(turns: float, points: int = 120) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi * turns, points)
    return 0.5 + 0.3 * np.stack((np.cos(angle), np.sin(angle)), axis=1)


def test_distances_to_a_diagonal_are_exact() -> None:
    line = np.array([[-0.5, -0.5], [0.4, 0.4], [1.5, 1.5]])
    found = distances(trace(line, Canvas(16), reach=3.0), 16)
    row, column = np.indices((16, 16))
    expected = np.abs(column - row) / np.sqrt(2)
    near = expected <= 3.0
    assert np.allclose(found[near], expected[near], atol=1e-5)
    assert np.isinf(found[~near]).all()


@pytest.mark.parametrize("turns", [0.3, 0.9, 1.0, 2.4])
def test_distances_to_curves_that_wind_are_those_of_every_single_piece(
    turns: float,
) -> None:
    found = distances(trace(circle(turns), Canvas(48), reach=4.0), 48)
    expected = by_hand(circle(turns), 48)
    near = expected < 3.99
    assert np.allclose(found[near], expected[near], atol=1e-4)
    assert np.isinf(found[expected > 4.01]).all()


def test_beyond_its_end_a_curve_is_as_far_as_its_last_point() -> None:
    line = np.array([[0.0, 0.5], [0.5, 0.5]])  # ends at (4, 4) px
    found = distances(trace(line, Canvas(8), reach=4.0), 8)
    assert found[4, 6] == pytest.approx(np.hypot(2.5, 0.5))


def test_positions_count_the_points_that_were_passed() -> None:
    line = np.array([[0.0, 0.5], [0.25, 0.5], [0.75, 0.5]])
    near = trace(line, Canvas(64), reach=1.0)
    on_line = near.pixel // 64 == 32
    column = near.pixel[on_line] % 64 + 0.5
    expected = np.where(column < 16, column / 16, 1 + (column - 16) / 32)
    inside = column < 48
    assert near.position[on_line][inside] == pytest.approx(expected[inside], abs=1e-4)


def test_a_pixel_is_named_once_for_each_strand_that_passes_it() -> None:
    # A figure of eight crosses itself once, in the middle.
    angle = np.linspace(0.25, 2 * np.pi + 0.2, 240)
    eight = 0.5 + 0.35 * np.stack((np.sin(angle), np.sin(2 * angle) / 1.5), axis=1)
    near = trace(eight, Canvas(96), reach=2.0)
    times = np.bincount(near.pixel, minlength=96 * 96).reshape(96, 96)
    assert times[47:49, 47:49].min() == 2
    # Away from the crossing and from the ends each pixel is named once.
    row, column = np.indices(times.shape)
    ends = [np.hypot(column - p[0] * 96, row - p[1] * 96) for p in eight[[0, -1]]]
    far = (np.hypot(row - 48, column - 48) > 12) & (ends[0] > 6) & (ends[1] > 6)
    assert times[far].max() == 1


def test_a_winding_body_has_no_gap_where_its_curve_is_cut() -> None:
    near = trace(circle(0.95), Canvas(96), reach=3.0)
    total = np.zeros(96 * 96)
    np.add.at(total, near.pixel, cylinder(near.distance, 2.0))
    along = 0.5 + 0.3 * np.stack(
        [f(np.linspace(0.1, 5.5, 400)) for f in (np.cos, np.sin)], axis=1
    )
    column, row = (along * 96).astype(int).T
    on_axis = total.reshape(96, 96)[row, column]
    assert on_axis.min() > 0.8 and on_axis.max() < 1.1


@pytest.mark.parametrize("radius", [0.3, 1.0, 4.0])
def test_a_cylinder_holds_the_area_of_its_cross_section(radius: float) -> None:
    across = np.arange(-10, 11, dtype=np.float32) + np.float32(0.37)
    total = cylinder(np.abs(across), radius).sum() * 2 * radius
    assert total == pytest.approx(np.pi * radius**2, rel=1e-4)


def test_the_beam_through_the_axis_of_a_wide_cylinder_is_its_diameter() -> None:
    found = cylinder(np.array([0.0, 51.0], np.float32), 50.0)
    assert found[0] == pytest.approx(1, abs=1e-4) and found[1] == 0


def test_a_tube_is_densest_at_the_edge_of_its_lumen() -> None:
    profile = tube(np.arange(0.0, 60.0, dtype=np.float32), 50.0, 0.6)
    assert profile.argmax() in (30, 31)  # averaged over a pixel
    # Chords: 2 (R - r) over the axis, 2 sqrt(R² - r²) at the inner edge: 0.4 : 0.8.
    assert profile[0] / profile.max() == pytest.approx(0.5, rel=0.03)
    assert profile[52:].max() == 0


def test_a_capsule_has_the_volume_of_a_rod_with_round_ends() -> None:
    line = np.array([[0.3, 0.5], [0.7, 0.5]])
    path, _ = capsules(Segments.along(line, 0.05), Canvas(200))
    # pi r² l of the rod; the ends are as flat as the beam sees a cylinder's: two half
    # discs, each integrating a chord around its centre like half a ball.
    volume = np.pi * 0.05**2 * 0.4 + 4 / 3 * np.pi * 0.05**3
    assert float(path.sum()) / 200**2 == pytest.approx(volume, rel=0.01)
    assert float(path.max()) == pytest.approx(0.1, rel=0.01)


def test_joined_bodies_are_not_darker_at_their_joint() -> None:
    halves = [
        Segments.along(np.array([[0.1, 0.5], [0.5, 0.5]]), 0.04, 1.0),
        Segments.along(np.array([[0.5, 0.5], [0.9, 0.5]]), 0.04, 2.0),
    ]
    path, value = capsules(join_segments(halves), Canvas(64))
    assert np.ptp(path[32, 10:54]) < 1e-6
    assert value[32, 10] == 1.0 and value[32, 54] == 2.0


def test_no_bodies_leave_the_beam_alone() -> None:
    path, value = capsules(join_segments([]), Canvas(8))
    assert not path.any() and not value.any() and path.shape == (8, 8)
