"""Pixels over the field and shapes on them."""

import numpy as np
import pytest

from clients.fluoroscopy.canvas import (
    Canvas,
    chord,
    radius_share,
    ridge,
    soft_step,
    texture,
)


def test_a_margin_lies_outside_the_field() -> None:
    canvas = Canvas(10, margin=2)
    x, y = canvas.coordinates()
    assert canvas.side == 14 and x.shape == (14, 14)
    # Centres: half a pixel from the border of the field, and beyond it.
    assert x[0, [0, 2, 11, 13]] == pytest.approx([-0.15, 0.05, 0.95, 1.15])
    assert np.array_equal(y, x.T)
    assert canvas.to_pixels(np.array([[0.0, 1.0]])).tolist() == [[2.0, 12.0]]


def test_a_soft_step_is_one_inside_and_half_on_the_edge() -> None:
    step = soft_step(np.array([-1.0, 0.0, 1.0], np.float32), 0.05)
    assert step.tolist() == [1.0, 0.5, 0.0]


def test_a_ridge_is_one_on_its_line_and_falls_to_1_over_e_at_its_width() -> None:
    found = ridge(np.array([0.0, 0.2], np.float32), 0.2)
    assert found == pytest.approx([1, np.exp(-1)])


def test_a_chord_is_the_path_through_a_ball() -> None:
    x, y = Canvas(100).coordinates()
    share = radius_share(x, y, np.array([0.5, 0.5]), np.array([0.3, 0.3]))
    # The volume of a ball is 4/3 pi r^3; the longest path is 2 r.
    volume = float((2 * 0.3 * chord(share)).sum()) / 100**2
    assert volume == pytest.approx(4 / 3 * np.pi * 0.3**3, rel=0.01)


def test_a_turned_ellipse_reaches_its_long_radius_along_its_axis() -> None:
    angle = 0.6
    point = 0.4 * np.array([np.cos(angle), np.sin(angle)])
    share = radius_share(
        np.array([point[0]], np.float32),
        np.array([point[1]], np.float32),
        np.zeros(2),
        np.array([0.4, 0.1]),
        angle,
    )
    assert share[0] == pytest.approx(1, abs=1e-6)


def test_texture_has_one_shape_at_any_size_and_unit_spread() -> None:
    small, large = (
        texture(np.random.default_rng(0), Canvas(size), cells=4, octaves=2)
        for size in (64, 128)
    )
    halved = large.reshape(64, 2, 64, 2).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), halved.ravel())[0, 1] > 0.99
    assert 0.6 < float(large.std()) < 1.5
