"""Borders are found; anatomy is never cut off."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from clients.data.errors import DataError
from clients.data.valid_region import find_valid_region

SIZE = 256


def grid() -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of the pixel centres, from -0.5 to 0.5."""
    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE - 0.5
    return x, y


def anatomy(seed: int) -> np.ndarray:
    """Return soft tissue with a dark spine and a wire, without any border; 0 to 1."""
    rng = np.random.default_rng(seed)
    x, y = grid()
    cloud = cv2.GaussianBlur(rng.normal(size=(SIZE, SIZE)), (0, 0), 25)
    tissue = 0.6 + 0.15 * cloud / np.abs(cloud).max()
    spine = np.clip(1.5 - np.abs(x - rng.uniform(-0.3, 0.3)) / 0.06, 0, 1)
    vertebrae = 0.75 + 0.25 * np.clip(4 * np.cos(y * 40) + 3, 0, 1)
    wire = np.abs(y - 0.1 * np.sin(8 * x)) < 1.5 / SIZE
    return tissue - 0.3 * spine * vertebrae - 0.15 * wire


def expose(
    scene: np.ndarray, opened: np.ndarray, seed: int, *, bits: int = 8, dark: int = 6
) -> np.ndarray:
    """Close a collimator, blur its edge a little, add quantum noise; round."""
    rng = np.random.default_rng(seed)
    most = 2**bits - 1
    blurred = cv2.GaussianBlur(opened.astype(float), (0, 0), 1.0)
    level = dark / 255 + (scene - dark / 255) * blurred
    grey = rng.normal(level, 0.06 * np.sqrt(level))
    return np.clip(np.round(most * grey), 0, most).astype(
        np.uint8 if bits == 8 else np.uint16
    )


OPENINGS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "two blades": lambda x, y: np.abs(x + 0.02) < 0.38,
    "one blade": lambda x, y: y > -0.4,
    "four blades": lambda x, y: np.maximum(np.abs(x), np.abs(y) + 0.05) < 0.43,
    "turned blades": lambda x, y: np.maximum(np.abs(x - y), np.abs(x + y)) < 0.6,
    "octagon": lambda x, y: (
        np.maximum(np.maximum(np.abs(x), np.abs(y)), 0.75 * (np.abs(x) + np.abs(y)))
        < 0.47
    ),
    "round": lambda x, y: np.hypot(x - 0.01, y + 0.01) < 0.48,
    "wide round": lambda x, y: np.hypot(x, y) < 0.54,
}


def check(found: np.ndarray, opened: np.ndarray, *, kept: int = 4) -> None:
    """No pixel inside may be cut; few outside may be kept, in a rim `kept` wide."""
    edge = np.ones((3, 3), np.uint8)
    rim = cv2.dilate(opened.astype(np.uint8), edge, iterations=kept) > 0
    core = cv2.erode(opened.astype(np.uint8), edge) > 0
    assert not (core & ~found).any()
    assert (found & ~rim).mean() < 0.001


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", OPENINGS)
def test_every_collimator_is_found_and_nothing_inside_is_cut(
    name: str, seed: int
) -> None:
    opened = OPENINGS[name](*grid())
    check(find_valid_region(expose(anatomy(seed), opened, seed)), opened)


@pytest.mark.parametrize("name", OPENINGS)
def test_the_border_of_an_inverted_display_is_found(name: str) -> None:
    opened = OPENINGS[name](*grid())
    check(find_valid_region(255 - expose(anatomy(3), opened, 3)), opened)


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("name", ["four blades", "round"])
def test_more_bits_and_an_offset_change_nothing(name: str, bits: int) -> None:
    opened = OPENINGS[name](*grid())
    frame = expose(anatomy(4), opened, 4, bits=bits)
    expected = find_valid_region(frame)
    check(expected, opened)
    shifted = 3 * frame.astype(np.int32) - 1024  # as Hounsfield-like rescaling does
    assert np.array_equal(find_valid_region(shifted), expected)
    unit = frame.astype(np.float32) / (2**bits - 1)
    assert (find_valid_region(unit) == expected).mean() > 0.999


def test_a_black_border_without_noise_is_found() -> None:
    # Bars of a video: exactly 0 beside a picture that may be dark.
    frame = expose(0.4 * anatomy(5), np.ones((SIZE, SIZE), bool), 5)
    frame[:, :30] = frame[:, -26:] = 0
    opened = np.zeros((SIZE, SIZE), bool)
    opened[:, 30:-26] = True
    check(find_valid_region(frame), opened, kept=2)


def test_text_burned_into_the_border_does_not_open_it() -> None:
    opened = OPENINGS["four blades"](*grid())
    frame = expose(anatomy(6), opened, 6)
    cv2.putText(frame, "R 12:04", (60, 10), cv2.FONT_HERSHEY_PLAIN, 0.7, 255)
    check(find_valid_region(frame), opened)


def test_scattered_light_behind_the_blades_does_not_hide_them() -> None:
    x, y = grid()
    opened = OPENINGS["four blades"](x, y)
    frame = expose(anatomy(7), opened, 7).astype(float)
    glow = 55 * np.exp(-((x / 0.5) ** 2) - (y / 0.5) ** 2)
    frame = np.where(opened, frame, frame + glow)
    check(find_valid_region(frame), opened)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("inverted", [False, True])
def test_a_frame_without_collimator_is_valid_everywhere(
    seed: int, inverted: bool
) -> None:
    frame = expose(anatomy(seed), np.ones((SIZE, SIZE), bool), seed)
    assert find_valid_region(255 - frame if inverted else frame).all()


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("depth", [0.3, 0.45, 0.55])
def test_a_dark_spine_along_the_edge_is_kept(depth: float, inverted: bool) -> None:
    x, y = grid()
    spine = np.clip(1.5 - np.abs(x + 0.5) / 0.08, 0, 1)
    vertebrae = 0.6 + 0.4 * np.clip(4 * np.cos(y * 40) + 3, 0, 1)
    scene = 0.65 - depth * spine * vertebrae
    frame = expose(scene, np.ones((SIZE, SIZE), bool), 8)
    assert find_valid_region(255 - frame if inverted else frame).all()


@pytest.mark.parametrize("inverted", [False, True])
def test_a_corner_that_darkens_slowly_is_kept(inverted: bool) -> None:
    x, y = grid()
    scene = 0.7 * np.clip(1.6 - 1.8 * np.hypot(x + 0.2, y + 0.2), 0.02, 1)
    frame = expose(scene, np.ones((SIZE, SIZE), bool), 9)
    assert find_valid_region(255 - frame if inverted else frame).all()


@pytest.mark.parametrize("inverted", [False, True])
def test_a_single_dark_corner_with_a_straight_edge_is_kept(inverted: bool) -> None:
    # The air beyond a shoulder; blades and octagons close on more than one side.
    x, y = grid()
    scene = np.where(x + y > 0.6, 0.03, 0.6)
    frame = expose(scene, np.ones((SIZE, SIZE), bool), 13)
    assert find_valid_region(255 - frame if inverted else frame).all()


@pytest.mark.parametrize("inverted", [False, True])
def test_the_air_around_a_head_is_kept(inverted: bool) -> None:
    x, y = grid()
    head = np.hypot((x - 0.06) / 0.42, (y - 0.1) / 0.5) < 1
    scene = 0.95 - 0.5 * cv2.GaussianBlur(head.astype(float), (0, 0), 2)
    frame = expose(scene, np.ones((SIZE, SIZE), bool), 10)
    assert find_valid_region(255 - frame if inverted else frame).all()


def test_a_bright_device_on_an_empty_ground_does_not_make_a_border() -> None:
    # A rendered frame, as of CathSim-like simulators: black but for the device.
    x, y = grid()
    scene = np.where(np.abs(y - 0.2 * np.sin(6 * x)) < 0.02, 0.9, 0.03)
    frame = expose(scene, np.ones((SIZE, SIZE), bool), 11)
    assert find_valid_region(frame).all()


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (15, 15), (16, 16), (40, 300)])
@pytest.mark.parametrize("value", [0, 137])
def test_constant_and_tiny_frames_are_valid_everywhere(
    shape: tuple[int, int], value: int
) -> None:
    found = find_valid_region(np.full(shape, value, np.uint8))
    assert found.shape == shape and found.all()


def test_a_large_oblong_frame_is_searched_at_its_own_place() -> None:
    frame = cv2.resize(anatomy(12), (1500, 1100))
    frame = (255 * frame).astype(np.uint8)
    frame[:90] = frame[1000:] = 4
    found = find_valid_region(frame)
    rows = np.flatnonzero(found.all(axis=1))
    assert found.shape == (1100, 1500)
    # Up to 1 % of the longer side may be kept.
    assert 75 <= rows[0] <= 90 and 999 <= rows[-1] <= 1014


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_pixels_that_are_not_finite_are_refused(bad: float) -> None:
    frame = np.ones((40, 40))
    frame[3, 4] = bad
    with pytest.raises(DataError, match="not finite"):
        find_valid_region(frame)


def test_only_two_dimensional_frames_are_taken() -> None:
    with pytest.raises(DataError, match="height and width"):
        find_valid_region(np.zeros((40, 40, 3)))


def test_the_octagon_of_real_frames_is_found_in_every_frame(phantom_xa: Path) -> None:
    for view in range(1, 6):
        regions = [
            find_valid_region(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE))
            for file in sorted((phantom_xa / "images").glob(f"IM{view}_*.png"))[:3]
        ]
        shares = [float(region.mean()) for region in regions]
        # Measured by eye: the border takes 2 to 5 % of the frame, in all corners.
        assert 0.94 < min(shares) and max(shares) < 0.985
        assert max(shares) - min(shares) < 0.005
        corners = [
            region[rows][:, columns]
            for region in regions
            for rows in (slice(2), slice(-2, None))
            for columns in (slice(2), slice(-2, None))
        ]
        assert not np.any(corners)


def test_no_marked_device_of_real_frames_is_cut_off(phantom_xa: Path) -> None:
    for file in sorted((phantom_xa / "images").glob("*.png"))[::10]:
        frame = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        mask = cv2.imread(str(phantom_xa / "masks" / file.name), cv2.IMREAD_GRAYSCALE)
        assert find_valid_region(frame)[mask > 0].all()


def test_chest_films_and_random_cuts_of_them_are_kept_whole(picc_cxr: Path) -> None:
    # Black air, bright mediastinum, straight shoulders; no collimator in sight.
    rng = np.random.default_rng(0)
    for file in sorted((picc_cxr / "images").glob("*.png")):
        film = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        assert find_valid_region(film).mean() > 0.995
        inner = film[250:2000, 30:2450]
        for _ in range(6):
            side = int(rng.integers(500, 1700))
            top = int(rng.integers(0, inner.shape[0] - side))
            left = int(rng.integers(0, inner.shape[1] - side))
            assert find_valid_region(inner[top : top + side, left : left + side]).all()
