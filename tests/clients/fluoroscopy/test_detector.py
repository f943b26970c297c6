"""Scatter, blur, quantum noise and the regulated dose."""

from dataclasses import replace

import numpy as np
import pytest

from clients.fluoroscopy.canvas import Canvas
from clients.fluoroscopy.detector import (
    Detector,
    Exposure,
    blur_widely,
    draw_exposure,
    expose,
    mean_signal,
)
from clients.fluoroscopy.spectrum import MATERIALS, TISSUE, Thickness, one_energy

SIZE = 64
IDEAL = Exposure(
    spectrum=one_energy(60),
    gain=np.ones((SIZE, SIZE), np.float32),
    opened=np.ones((SIZE, SIZE), np.float32),
    field_of_view=np.ones((SIZE, SIZE), bool),
    quanta=1e6,
    scatter=0.0,
    focal_blur=0.0,
    screen_blur=0.0,
    electronic=0.0,
    lag=0.0,
)
PER_MM = 0.02059  # of water at 60 keV


def bands(*depths: float) -> Thickness:
    """Return vertical bands of equal width with these optical depths."""
    thickness = np.zeros((len(MATERIALS), SIZE, SIZE), np.float32)
    thickness[TISSUE] = np.repeat(np.array(depths) / PER_MM, SIZE // len(depths))
    return thickness


def test_without_noise_the_signal_is_what_beer_and_lambert_let_through() -> None:
    signal = mean_signal(bands(0.0, 1.0, 2.0, 4.0), IDEAL)
    expected = np.exp([-0.0, -1.0, -2.0, -4.0])
    assert signal[0, [0, 16, 32, 63]] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("quanta", [8.0, 200.0])
def test_the_variance_of_the_quanta_is_their_number(quanta: float) -> None:
    signal = expose(np.random.default_rng(0), bands(0.0), replace(IDEAL, quanta=quanta))
    counts = signal * quanta
    assert counts.mean() == pytest.approx(quanta, rel=0.03)
    assert counts.var() == pytest.approx(quanta, rel=0.08)
    assert np.allclose(counts, np.rint(counts), atol=1e-3)


def test_electronic_noise_adds_to_the_noise_of_the_quanta() -> None:
    exposure = replace(IDEAL, quanta=100.0, electronic=20.0)
    counts = 100 * expose(np.random.default_rng(1), bands(0.0), exposure)
    assert counts.var() == pytest.approx(100 + 20**2, rel=0.08)


def test_the_screen_blurs_the_noise_so_that_neighbours_agree() -> None:
    def agreement(exposure: Exposure) -> float:
        signal = expose(np.random.default_rng(2), bands(0.0), exposure)
        return float(np.corrcoef(signal[:, :-1].ravel(), signal[:, 1:].ravel())[0, 1])

    exposure = replace(IDEAL, quanta=100.0)
    assert abs(agreement(exposure)) < 0.06
    assert agreement(replace(exposure, screen_blur=0.8)) > 0.5


def test_scatter_raises_the_floor_and_lowers_contrast() -> None:
    thickness = bands(0.0, 0.0, 6.0, 6.0)
    plain = mean_signal(thickness, IDEAL)
    veiled = mean_signal(thickness, replace(IDEAL, scatter=1.0))
    beside = slice(SIZE // 2 + 1, SIZE // 2 + 8)
    assert veiled[:, beside].min() > 10 * plain[:, beside].max()
    edge = slice(SIZE // 2 - 1, SIZE // 2 + 1)
    assert np.ptp(veiled[10, edge]) == pytest.approx(
        0.5 * np.ptp(plain[10, edge]), rel=0.05
    )


def test_scatter_comes_from_where_the_body_is_thick() -> None:
    # The same transmission everywhere, half of it through a thick, brightly lit body.
    thickness = bands(0.5, 2.5)
    lit = replace(IDEAL, gain=np.exp(PER_MM * thickness[TISSUE]), scatter=1.0)
    signal = mean_signal(thickness, lit)
    assert signal[:, -1].mean() > signal[:, 0].mean() * 1.1


def test_a_focal_spot_blurs_edges_but_makes_no_light() -> None:
    sharp = mean_signal(bands(0.0, 3.0), IDEAL)
    soft = mean_signal(bands(0.0, 3.0), replace(IDEAL, focal_blur=2.0))
    assert soft.mean() == pytest.approx(sharp.mean(), rel=0.01)
    middle = SIZE // 2
    assert sharp[5, middle - 1] - sharp[5, middle] > 0.9
    assert soft[5, middle - 1] - soft[5, middle] < 0.3


def test_a_wide_blur_on_a_coarse_grid_is_a_gaussian() -> None:
    point = np.zeros((128, 128), np.float32)
    point[60:68, 60:68] = 1
    found = blur_widely(point, 15.0)
    row = np.arange(128) - 63.5
    weight = found[64] / found[64].sum()
    assert np.sqrt((weight * row**2).sum()) == pytest.approx(15, rel=0.12)
    assert found.sum() == pytest.approx(point.sum(), rel=0.03)


@pytest.mark.parametrize("shape", ["octagon", "circle", "blades", "rounded"])
def test_behind_the_collimator_hardly_anything_arrives(shape: str) -> None:
    detector = Detector(
        kilovolt=(70, 70),
        filter_mm=(3, 3),
        quanta=(1000, 1000),
        scatter=(0, 0),
        focal_blur_px=(0, 0),
        screen_blur_px=(0, 0),
        collimators=(shape,),
    )
    exposure = draw_exposure(np.random.default_rng(2), detector, Canvas(128))
    hidden = ~exposure.field_of_view
    assert 0.02 < hidden.mean() < 0.5
    assert np.median(exposure.gain[hidden]) < 0.02
    assert np.median(exposure.gain[~hidden]) == pytest.approx(1)


def test_smaller_pixels_catch_fewer_quanta() -> None:
    detector = Detector(
        kilovolt=(70, 70),
        filter_mm=(3, 3),
        quanta=(1600, 1600),
        scatter=(0, 0),
        focal_blur_px=(1, 1),
        screen_blur_px=(1, 1),
    )
    at_128, at_256 = (
        draw_exposure(np.random.default_rng(0), detector, Canvas(size))
        for size in (128, 256)
    )
    assert at_128.quanta == pytest.approx(1600) and at_256.quanta == pytest.approx(400)
    assert at_256.focal_blur == 2 * at_128.focal_blur
