"""Curves with known lengths, bodies with known line integrals."""

import numpy as np
import pytest

from clients.fluoroscopy.geometry import (
    add_arc,
    arc_length,
    cut_curve,
    cylinder,
    distance_map,
    pixel_centres,
    random_field,
    sample_spline,
    soft_step,
    tube,
)

STRAIGHT = np.array([[0.0, 0.5], [0.25, 0.5], [1.0, 0.5]])


def test_a_spline_passes_through_its_knots() -> None:
    knots = np.array([[0.0, 0.0], [0.3, 0.4], [0.6, 0.1], [0.9, 0.5]])
    curve = sample_spline(knots, 0.001)
    nearest = np.hypot(*(curve[:, None] - knots).transpose(2, 0, 1)).min(axis=0)
    assert nearest.max() < 0.001


def test_half_a_straight_line_is_half_as_long() -> None:
    middle = cut_curve(STRAIGHT, 0.25, 0.75)
    assert middle[0].tolist() == [0.25, 0.5] and middle[-1].tolist() == [0.75, 0.5]
    assert arc_length(middle)[-1] == pytest.approx(0.5)


@pytest.mark.parametrize(("angle", "end"), [(np.pi, [1, 0.7]), (-np.pi, [1, 0.3])])
def test_half_a_turn_ends_one_diameter_aside(angle: float, end: list[float]) -> None:
    bent = add_arc(STRAIGHT, radius=0.1, angle=angle, step=0.001)
    assert bent[-1] == pytest.approx(end)
    assert arc_length(bent)[-1] == pytest.approx(1 + 0.1 * np.pi, abs=1e-4)


def test_distances_to_a_diagonal_are_exact() -> None:
    size = 16
    line = np.array([[-0.5, -0.5], [0.4, 0.4], [1.5, 1.5]])
    found = distance_map(line, size, reach=3.0)
    x, y = pixel_centres(size)
    expected = np.abs(x - y) * size / np.sqrt(2)
    near = expected <= 3.0
    assert np.allclose(found[near], expected[near])
    assert np.isinf(found[~near]).all()


def test_beyond_its_end_a_curve_is_as_far_as_its_last_point() -> None:
    line = np.array([[0.0, 0.5], [0.5, 0.5]])  # ends at (4, 4) px
    found = distance_map(line, 8, reach=4.0)
    assert found[4, 6] == pytest.approx(np.hypot(2.5, 0.5))


def test_a_repeated_point_does_no_harm() -> None:
    line = np.array([[0.5, 0.5], [0.5, 0.5]])
    assert distance_map(line, 4, reach=2.0)[1, 1] == pytest.approx(np.sqrt(0.5))


@pytest.mark.parametrize("radius", [0.3, 1.0, 4.0])
def test_a_cylinder_holds_the_area_of_its_cross_section(radius: float) -> None:
    across = np.arange(-10, 11) + 0.37
    total = cylinder(np.abs(across), radius).sum() * 2 * radius
    assert total == pytest.approx(np.pi * radius**2)


def test_the_beam_through_the_axis_of_a_wide_cylinder_is_its_diameter() -> None:
    assert cylinder(np.zeros(1), 50.0)[0] == pytest.approx(1, abs=1e-4)
    assert cylinder(np.array([51.0, np.inf]), 50.0).tolist() == [0, 0]


def test_a_tube_is_densest_at_the_edge_of_its_lumen() -> None:
    profile = tube(np.arange(0.0, 60.0), 50.0, 0.6)
    assert profile.argmax() in (30, 31)  # averaged over a pixel
    # Chords: 2 (R - r) over the axis, 2 sqrt(R² - r²) at the inner edge: 0.4 : 0.8.
    assert profile[0] / profile.max() == pytest.approx(0.5, rel=0.03)
    assert profile[52:].max() == 0


def test_a_soft_step_is_one_inside_and_half_on_the_edge() -> None:
    step = soft_step(np.array([-1.0, 0.0, 1.0]), 0.05)
    assert step == pytest.approx([1, 0.5, 0], abs=1e-6)


def test_a_random_field_has_the_same_shape_at_any_size() -> None:
    small, large = (
        random_field(np.random.default_rng(0), 4, size) for size in (64, 128)
    )
    halved = large.reshape(64, 2, 64, 2).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), halved.ravel())[0, 1] > 0.999
    assert abs(large.mean()) < 1e-9
