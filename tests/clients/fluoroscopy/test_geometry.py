"""Curves with known lengths and turns."""

import numpy as np
import pytest

from clients.fluoroscopy.geometry import (
    arc,
    arc_length,
    cut_curve,
    sample_spline,
    turning,
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


@pytest.mark.parametrize(
    ("angle", "flat", "end"),
    [
        (np.pi, 1.0, [1, 0.7]),
        (-np.pi, 1.0, [1, 0.3]),
        (np.pi, -1.0, [1, 0.3]),  # turned to the other side
        (np.pi, 0.0, [1, 0.5]),  # seen edge-on: out and back
        (np.pi / 2, 0.5, [1.1, 0.55]),
    ],
)
def test_a_turned_arc_ends_where_its_projection_does(
    angle: float, flat: float, end: list[float]
) -> None:
    bent = arc(np.array([1, 0.5]), 0.0, 0.1, angle, flat=flat, step=0.001)
    assert bent[-1] == pytest.approx(end)


def test_an_arc_as_it_is_has_the_length_of_its_radius_times_its_angle() -> None:
    bent = arc(np.array([0, 0]), 0.7, 0.1, 2.0, flat=1.0, step=0.001)
    assert arc_length(np.vstack(([0, 0], bent)))[-1] == pytest.approx(0.2, rel=1e-4)


def test_a_circle_turns_once_around() -> None:
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = np.stack((np.cos(angle), np.sin(angle)), axis=1)
    assert turning(circle)[-1] == pytest.approx(2 * np.pi, rel=0.01)
    assert turning(circle[::-1])[-1] == pytest.approx(-2 * np.pi, rel=0.01)
