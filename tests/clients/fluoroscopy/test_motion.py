"""Breath and heartbeat."""

import numpy as np
import pytest

from clients.fluoroscopy.motion import NO_MOTION, Motion, MotionRanges, draw_motion

UP_RIGHT = np.array([[0.2, 0.2], [0.8, 0.8], [0.5, 0.9]])


def draw(seed: int = 0, **ranges: tuple[float, float]) -> Motion:
    return draw_motion(
        np.random.default_rng(seed),
        MotionRanges(**ranges),
        downwards=np.array([0.0, 1.0]),
        spine=np.array([0.5, 0.5]),
        heart=np.array([0.6, 0.6]),
        heart_radius=0.25,
    )


def moved(motion: Motion, time_s: float) -> np.ndarray:
    return np.stack(motion.displacement(*UP_RIGHT.T, time_s), axis=1)


@pytest.mark.parametrize("seed", range(5))
def test_displacements_are_small_and_smooth_in_time(seed: int) -> None:
    motion = draw(seed)
    path = np.stack([moved(motion, time) for time in np.arange(0, 6, 0.033)])
    assert np.abs(path).max() < 0.06
    assert np.abs(np.diff(path, axis=0)).max() < 0.004
    assert np.ptp(path, axis=0).max() > 0.002


def test_breath_comes_back_after_its_period() -> None:
    motion = draw(1, beat=(0.0, 0.0))
    assert moved(motion, 0.7) == pytest.approx(moved(motion, 0.7 + motion.breath_s))
    assert np.abs(moved(motion, 0.7) - moved(motion, 1.7)).max() > 1e-4


def test_breath_moves_towards_the_feet_and_most_near_the_diaphragm() -> None:
    motion = draw(2, beat=(0.0, 0.0))
    (x, y), _ = motion.modes(*UP_RIGHT.T)
    assert not x.any() and (y > 0).all()
    assert y[0] < y[1] < y[2]


def test_the_heart_shrinks_towards_its_middle() -> None:
    motion = draw(3, breath=(0.0, 0.0))
    angle = np.linspace(0, 2 * np.pi, 9)[:-1]
    ring = np.stack((np.cos(angle), np.sin(angle)), axis=1)
    edge = motion.heart + 0.2 * ring
    _, (x, y) = motion.modes(*edge.T)
    inwards = -(np.stack((x, y), axis=1) * ring).sum(axis=1)
    assert (inwards > 0).all() and np.ptp(inwards) < 1e-9
    _, far = motion.modes(np.array([-1.0]), np.array([0.6]))
    assert abs(float(far[0][0])) < 1e-6


def test_who_does_not_move_does_not_move() -> None:
    assert not NO_MOTION.moves and draw().moves
    assert not moved(NO_MOTION, 1.3).any()


def test_amplitudes_lie_between_rest_and_full() -> None:
    values = np.array([draw(4).amplitudes(time) for time in np.arange(0, 10, 0.01)])
    assert values.min() >= 0 and values.max() <= 1
    assert values.min(axis=0).max() < 0.01 and values.max(axis=0).min() > 0.99
