"""From signal to grey."""

from dataclasses import replace

import numpy as np
import pytest

from clients.fluoroscopy.canvas import Canvas
from clients.fluoroscopy.detector import Detector, draw_exposure
from clients.fluoroscopy.display import Display, develop, set_window
from clients.fluoroscopy.geometry import Field

SIZE = 64
EXPOSURE = draw_exposure(
    np.random.default_rng(0),
    Detector(
        kilovolt=(70, 70),
        filter_mm=(3, 3),
        quanta=(1000, 1000),
        scatter=(0, 0),
        focal_blur_px=(0, 0),
        screen_blur_px=(0, 0),
    ),
    Canvas(SIZE),
)
PLAIN = Display(
    logarithmic=True,
    subtraction=0.0,
    harmonisation=0.0,
    harmonisation_px=8.0,
    sharpening=0.0,
    sharpening_px=1.0,
    gamma=1.0,
    dark_margin=0.0,
    light_margin=0.0,
    black=0.0,
    bright_devices=False,
    black_border=True,
)


def bands(*values: float) -> Field:
    row = np.repeat(np.array(values, np.float32), SIZE // len(values))
    return np.repeat(row[None], SIZE, axis=0)


def show(signal: Field, display: Display, background: Field | None = None) -> Field:
    ready = set_window(display, signal, background, EXPOSURE)
    return develop(signal, ready, EXPOSURE)


def test_a_logarithmic_display_shows_optical_depth_linearly() -> None:
    grey = show(np.exp(-bands(0.0, 1.0, 2.0, 4.0)), PLAIN)
    assert grey[0, [0, 16, 32, 63]] == pytest.approx([255, 191, 128, 0], abs=1)


def test_a_linear_display_shows_the_signal_as_it_is() -> None:
    grey = show(bands(1.0, 0.5, 0.25, 0.0), replace(PLAIN, logarithmic=False))
    assert grey[0, [0, 16, 32, 63]] == pytest.approx([255, 128, 64, 0], abs=1)


def test_the_inverted_display_shows_dense_things_bright() -> None:
    signal = np.exp(-bands(0.0, 0.3, 0.6, 1.0))
    inverted = show(signal, replace(PLAIN, bright_devices=True))
    assert np.abs(inverted - (255 - show(signal, PLAIN))).max() <= 1


def test_grey_values_are_whole_numbers_of_eight_bits() -> None:
    signal = np.random.default_rng(1).random((SIZE, SIZE), dtype=np.float32)
    grey = show(signal, replace(PLAIN, sharpening=2.0, dark_margin=-0.2, gamma=0.7))
    assert np.array_equal(grey, np.rint(grey))
    assert grey.min() == 0 and grey.max() == 255


def test_a_black_level_lifts_the_darkest_pixels_only() -> None:
    grey = show(bands(1.0, 0.5, 0.25, 0.01), replace(PLAIN, black=0.2))
    assert grey.min() == 51 and grey.max() == 255


def test_subtraction_takes_the_background_away_and_leaves_the_device() -> None:
    anatomy = np.exp(-bands(0.0, 0.5, 1.0, 1.5))
    device = np.ones((SIZE, SIZE), np.float32)
    device[20:24] = np.exp(-0.4)
    grey = show(anatomy * device, replace(PLAIN, subtraction=1.0), anatomy)
    beside = np.delete(grey, np.arange(20, 24), axis=0)
    assert np.ptp(beside) <= 1
    assert grey[20:24].max() < beside.min() - 100


def test_harmonisation_lowers_coarse_contrast_more_than_fine() -> None:
    signal = np.exp(-bands(0.0, 2.0))
    signal[:, 10] *= np.exp(-0.3)

    def share_of_line(display: Display) -> float:
        grey = show(signal, display)
        return float((grey[:, 8] - grey[:, 10]).mean() / np.ptp(grey[:, [2, -2]]))

    assert share_of_line(replace(PLAIN, harmonisation=0.7)) > 1.3 * share_of_line(PLAIN)


def test_sharpening_overshoots_at_an_edge() -> None:
    ready = set_window(
        replace(PLAIN, dark_margin=0.5, light_margin=0.5),
        np.exp(-bands(0.0, 1.0)),
        None,
        EXPOSURE,
    )
    sharp = replace(ready, sharpening=1.0)
    signal = np.exp(-bands(0.0, 1.0))
    before, after = (develop(signal, one, EXPOSURE) for one in (ready, sharp))
    middle = SIZE // 2
    assert after[5, middle - 1] > before[5, middle - 1] + 10
    assert after[5, middle] < before[5, middle] - 10
    assert after[5, 4] == before[5, 4]
