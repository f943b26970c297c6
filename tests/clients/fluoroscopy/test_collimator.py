"""Outlines of the field of view."""

import numpy as np
import pytest

from clients.fluoroscopy.canvas import Canvas
from clients.fluoroscopy.collimator import OUTLINES, draw_collimator

CANVAS = Canvas(128)


def view(shape: str, seed: int = 0, turn: float = 0.0) -> np.ndarray:
    outside = draw_collimator(np.random.default_rng(seed), shape, CANVAS, turn)
    return outside <= 0


@pytest.mark.parametrize("shape", sorted(OUTLINES))
@pytest.mark.parametrize("seed", range(4))
def test_most_of_the_field_is_seen(shape: str, seed: int) -> None:
    seen = view(shape, seed)
    assert seen[40:88, 50:78].all()
    assert 0.4 < seen.mean() <= 1
    assert seen.all() == (shape == "open")


def test_an_octagon_cuts_the_corners() -> None:
    seen = view("octagon")
    rows, columns = np.nonzero(seen)
    assert not seen[rows.min() + 1, columns.min() + 1]
    assert seen[64, columns.min() + 1] and seen[rows.min() + 1, 64]


def test_a_circle_is_as_wide_in_every_direction() -> None:
    distance = draw_collimator(np.random.default_rng(1), "circle", CANVAS, 0.0)
    row, column = np.unravel_index(distance.argmin(), distance.shape)
    y, x = np.indices(distance.shape)
    away = np.hypot(x - column, y - row) / 128
    edge = away[np.abs(distance) < 0.004]
    assert np.ptp(edge) < 0.025


def test_a_distance_is_in_units_of_the_field() -> None:
    for shape in ("blades", "rounded", "chamfered", "circle"):
        distance = draw_collimator(np.random.default_rng(2), shape, CANVAS, 0.0)
        slope = np.hypot(*np.gradient(distance * 128))
        assert np.median(slope) == pytest.approx(1, abs=0.05)


def test_a_turned_collimator_is_not_parallel_to_the_image() -> None:
    straight, turned = view("blades", 3), view("blades", 3, turn=0.2)
    assert min(len(np.unique(straight, axis=axis)) for axis in (0, 1)) <= 2
    assert min(len(np.unique(turned, axis=axis)) for axis in (0, 1)) > 10
