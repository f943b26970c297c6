"""Whether devices are dark or bright, found on lines whose answer is known."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from clients.data.polarity import MIN_SCORE, judge_polarity, measure_polarity

SIZE = 256


def draw_line(width: int, *, shift: int = 0) -> NDArray[np.uint8]:
    """Draw a curved line across a frame, moved down by some px."""
    x = np.linspace(12, SIZE - 12, 100)
    y = SIZE / 2 + 60 * np.sin(x / 60) + shift
    canvas = np.zeros((SIZE, SIZE), np.uint8)
    points = np.stack([x, y], axis=1).round().astype(np.int32)
    return cv2.polylines(canvas, [points], False, 1, width)


def make_ground(seed: int = 0) -> NDArray[np.float64]:
    """Return a steep slope with a wide shadow and noise; lines add 12 to it."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    shadow = 40 * np.exp(-(((columns - 90) / 40) ** 2))
    noise = np.random.default_rng(seed).normal(0, 4, (SIZE, SIZE))
    return 100 + 0.3 * rows - 0.2 * columns - shadow + noise


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("width", [1, 3, 8, 14])
def test_a_tight_mask_gives_the_sign_of_the_device(width: int, sign: int) -> None:
    line = draw_line(width)
    found = measure_polarity(make_ground() + sign * 12.0 * line, line)
    assert found is not None
    assert sign * found > 0.9


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_mask_six_times_as_wide_and_beside_the_device_gives_its_sign(
    sign: int,
) -> None:
    pixels = make_ground() + sign * 12.0 * draw_line(3)
    found = measure_polarity(pixels, draw_line(18, shift=4))
    assert found is not None
    assert sign * found > MIN_SCORE


def test_bright_anatomy_under_a_wide_mask_does_not_hide_a_dark_line() -> None:
    """Mean inside minus mean outside has the wrong sign here."""
    wide = draw_line(18)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    bone = 80 * np.exp(-((columns - 94) ** 2 + (rows - 188) ** 2) / 18**2)
    pixels = make_ground() + bone - 12.0 * draw_line(3)
    assert pixels[wide > 0].mean() > pixels[draw_line(40) > wide].mean()
    found = measure_polarity(pixels, wide)
    assert found is not None
    assert found < -MIN_SCORE


def test_a_catheter_with_two_dark_walls_and_a_bright_lumen_is_dark() -> None:
    catheter, lumen = draw_line(9), draw_line(5)
    pixels = make_ground() - 12.0 * catheter + 8.0 * lumen
    found = measure_polarity(pixels, catheter)
    assert found is not None
    assert found < -0.9


def test_inverted_and_rescaled_grey_values_change_the_sign_only() -> None:
    line = draw_line(4)
    pixels = make_ground() - 12 * line
    found = measure_polarity(pixels, line)
    inverted = measure_polarity(40000 - 100 * pixels, line)
    assert found is not None
    assert inverted == pytest.approx(-found, abs=1e-3)


def test_a_mask_without_a_device_under_it_is_unclear() -> None:
    found = [measure_polarity(make_ground(seed), draw_line(4)) for seed in range(12)]
    assert judge_polarity(found) == "unclear"


@pytest.mark.parametrize("pixels", [np.zeros((64, 64)), np.full((64, 64), 7, np.uint8)])
def test_a_flat_frame_has_no_polarity(pixels: NDArray) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[30:33] = 1
    assert measure_polarity(pixels, mask) is None


def test_an_empty_mask_and_a_dot_have_no_polarity() -> None:
    dot = np.zeros((SIZE, SIZE), np.uint8)
    assert measure_polarity(make_ground(), dot) is None
    dot[40:44, 40:44] = 1
    assert measure_polarity(make_ground() - 50 * dot, dot) is None


def test_a_straight_line_along_the_border_of_the_frame_is_measured() -> None:
    line = np.zeros((SIZE, SIZE), np.uint8)
    line[:3] = 1
    found = measure_polarity(make_ground() - 12 * line, line)
    assert found is not None
    assert found < -MIN_SCORE


@pytest.mark.parametrize(
    ("scores", "word"),
    [
        ([], ""),
        ([None, None], ""),
        ([-0.9, -0.8, None, -0.7], "dark"),
        ([0.6, 0.7, 0.9, -0.1], "bright"),
        ([0.9, 0.9, -0.9], "unclear"),
        ([0.1, 0.2, 0.15], "unclear"),
    ],
)
def test_a_word_needs_strength_and_agreement(
    scores: list[float | None], word: str
) -> None:
    assert judge_polarity(scores) == word


def read_pair(folder: Path, name: str) -> list[NDArray[np.uint8]]:
    return [
        cv2.imread(str(folder / part / name), cv2.IMREAD_GRAYSCALE)
        for part in ("images", "masks")
    ]


@pytest.mark.parametrize("view", ["IM1_02", "IM2_05", "IM3_06", "IM4_03", "IM5_10"])
def test_the_vessels_of_every_real_phantom_view_are_dark(
    phantom_xa: Path, view: str
) -> None:
    found = measure_polarity(*read_pair(phantom_xa, f"{view}.png"))
    assert found is not None
    assert found < -0.9


@pytest.mark.parametrize("case", ["case1", "case2", "case3"])
def test_the_catheters_of_real_chest_images_are_bright_though_masks_are_wide(
    picc_cxr: Path,
    case: str,
) -> None:
    found = measure_polarity(*read_pair(picc_cxr, f"{case}.png"))
    assert found is not None
    assert found > MIN_SCORE
