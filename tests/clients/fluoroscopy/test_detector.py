"""Attenuation, noise and grey of the imaging chain."""

from dataclasses import replace

import numpy as np
import pytest

from clients.fluoroscopy.detector import Detector, Exposure, draw_exposure, expose

SIZE = 64
IDEAL = Detector(
    photons=(1e9, 1e9),
    scatter_share=0.0,
    focal_blur_px=0.0,
    screen_blur_px=0.0,
    logarithmic=True,
    bright_devices=False,
    collimators=("open",),
)
OPEN = Exposure(
    photons=1e9,
    gamma=1.0,
    margins=(0.0, 0.0),
    transmission=np.ones((SIZE, SIZE)),
    field_of_view=np.ones((SIZE, SIZE), bool),
)


def take(
    depth: np.ndarray, detector: Detector, exposure: Exposure = OPEN
) -> np.ndarray:
    return expose(np.random.default_rng(0), depth, exposure, detector)


def steps(*depths: float) -> np.ndarray:
    """Return vertical bands of equal width."""
    return np.repeat(np.repeat(depths, SIZE // len(depths))[None], SIZE, axis=0)


def test_a_logarithmic_detector_shows_optical_depth_linearly() -> None:
    grey = take(steps(0.0, 1.0, 2.0, 4.0), IDEAL)
    assert grey[0, [0, 16, 32, 63]] == pytest.approx([255, 191, 128, 0], abs=1)


def test_a_linear_detector_shows_what_beer_and_lambert_let_through() -> None:
    grey = take(steps(0.0, 1.0, 2.0, 40.0), replace(IDEAL, logarithmic=False))
    expected = 255 * np.exp([-0.0, -1.0, -2.0, -40.0])
    assert grey[0, [0, 16, 32, 63]] == pytest.approx(expected, abs=1)


def test_depths_add_up_so_a_device_is_as_dark_on_bone_as_beside_it() -> None:
    bone, device = steps(0.0, 0.0, 2.0, 2.0), steps(0.0, 0.5, 0.0, 0.5)
    grey = take(bone + device, IDEAL)[0, [0, 16, 32, 48]]
    assert grey[0] - grey[1] == pytest.approx(grey[2] - grey[3], abs=1)


def test_the_inverted_display_shows_dense_things_bright() -> None:
    depth = steps(0.0, 1.0)
    inverted = take(depth, replace(IDEAL, bright_devices=True))
    assert np.array_equal(inverted, 255 - take(depth, IDEAL))


def test_grey_values_are_whole_numbers_of_eight_bits() -> None:
    depth = np.random.default_rng(1).random((SIZE, SIZE))
    grey = take(depth, IDEAL, replace(OPEN, photons=100.0, margins=(-0.1, -0.1)))
    assert np.array_equal(grey, np.round(grey))
    assert grey.min() == 0 and grey.max() == 255


def test_a_quarter_of_the_dose_doubles_the_relative_noise() -> None:
    linear = replace(IDEAL, logarithmic=False)
    # Both bands lie on one grey scale, set by an opaque band and the open beam.
    noise = []
    for photons in (40_000.0, 10_000.0):
        grey = take(steps(0.5, 40.0), linear, replace(OPEN, photons=photons))
        noise.append(grey[:, : SIZE // 2].std() / grey[:, : SIZE // 2].mean())
    assert noise[1] / noise[0] == pytest.approx(2, rel=0.15)


def test_scatter_lowers_contrast() -> None:
    linear = replace(IDEAL, logarithmic=False, scatter_share=0.5)
    plain = take(steps(0.0, 0.0, 3.0, 3.0), replace(linear, scatter_share=0.0))
    veiled = take(steps(0.0, 0.0, 3.0, 3.0), linear)
    edge = slice(SIZE // 2 - 1, SIZE // 2 + 1)
    assert np.ptp(veiled[10, edge]) < 0.7 * np.ptp(plain[10, edge])


@pytest.mark.parametrize("shape", ["octagon", "circle", "blades"])
def test_behind_the_collimator_it_is_dark(shape: str) -> None:
    detector = replace(IDEAL, collimators=(shape,), photons=(1000, 1000))
    exposure = draw_exposure(np.random.default_rng(2), detector, 128)
    hidden = ~exposure.field_of_view
    assert 0.02 < hidden.mean() < 0.5
    depth = np.random.default_rng(3).uniform(0, 0.5, (128, 128))
    grey = expose(np.random.default_rng(4), depth, exposure, detector)
    assert grey[hidden & (exposure.transmission < 0.03)].max() < 30
    assert np.median(grey[~hidden]) > 80


def test_an_octagon_cuts_the_corners() -> None:
    detector = replace(IDEAL, collimators=("octagon",))
    view = draw_exposure(np.random.default_rng(5), detector, 128).field_of_view
    rows, columns = np.nonzero(view)
    assert not view[rows.min() + 1, columns.min() + 1]
    assert view[64, columns.min() + 1] and view[rows.min() + 1, 64]
