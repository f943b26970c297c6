"""Grey ranges, squares, and wires that survive shrinking."""

import cv2
import numpy as np
import pytest
from scipy.ndimage import label

from clients.data.errors import DataError
from clients.data.preprocessing import normalise_frame, resize_frame, resize_mask

EIGHT_NEIGHBOURS = np.ones((3, 3))


def draw_line(size: int, degrees: float, offset: float, width: float) -> np.ndarray:
    """Return the pixels whose centre is at most width / 2 from a straight line."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    angle = np.deg2rad(degrees)
    away = np.abs(x * np.sin(angle) - y * np.cos(angle) - offset)
    inside = np.hypot(x, y) < 0.45 * size
    return ((away <= width / 2) & inside).astype(np.uint8)


def test_a_ramp_is_stretched_between_its_percentiles() -> None:
    ramp = np.tile(np.arange(1001, dtype=np.uint16), (3, 1))
    grey = normalise_frame(ramp)
    # 0.5 % of 0..1000 is 5 and 99.5 % is 995, so 500 lies in the middle.
    assert grey.dtype == np.float32
    assert grey[0, [0, 5, 500, 995, 1000]].tolist() == [0, 0, 0.5, 1, 1]


def test_one_hot_pixel_does_not_darken_the_frame() -> None:
    frame = np.random.default_rng(0).uniform(100, 200, (64, 64))
    clean = normalise_frame(frame)
    frame[10, 10] = 1e6
    hot = normalise_frame(frame)
    assert hot[10, 10] == 1
    assert np.abs(np.delete(hot - clean, 10 * 64 + 10)).max() < 0.01


def test_scale_and_offset_of_the_detector_do_not_matter() -> None:
    frame = np.random.default_rng(1).normal(size=(32, 32))
    expected = normalise_frame(frame)
    assert np.allclose(normalise_frame(4095 * frame + 700), expected, atol=1e-5)


def test_a_constant_image_becomes_zeros() -> None:
    assert not normalise_frame(np.full((8, 8), 137)).any()


def test_a_thin_wire_on_a_perfectly_flat_ground_is_kept() -> None:
    frame = np.full((1000, 1000), 200)
    frame[500, :900] = 20  # 0.09 % of the pixels
    grey = normalise_frame(frame)
    assert grey[500, 0] == 0 and grey[0, 0] == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_pixels_that_are_not_finite_are_refused(bad: float) -> None:
    frame = np.ones((4, 4))
    frame[1, 1] = bad
    with pytest.raises(DataError, match="not finite"):
        normalise_frame(frame)


def test_only_two_dimensional_frames_are_taken() -> None:
    with pytest.raises(DataError, match="height and width"):
        normalise_frame(np.zeros((4, 4, 3)))


def test_shrinking_averages_areas() -> None:
    pixels = np.array([[0, 4, 1, 1], [8, 4, 1, 1], [2, 2, 0, 0], [2, 2, 0, 6]])
    assert resize_frame(pixels, 2).tolist() == [[4, 1], [2, 1.5]]


def test_a_wide_frame_is_padded_evenly_with_its_edge() -> None:
    pixels = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    expected = [[1, 2, 3, 4], [1, 2, 3, 4], [5, 6, 7, 8], [5, 6, 7, 8]]
    assert resize_frame(pixels, 4).tolist() == expected


def test_the_padding_of_a_mask_holds_no_device() -> None:
    mask = np.ones((2, 4))
    assert resize_mask(mask, 4).tolist() == [[0] * 4, [1] * 4, [1] * 4, [0] * 4]


@pytest.mark.parametrize("size", [7, 64, 100, 128, 300])
def test_no_resized_pixel_leaves_the_range_of_the_frame(size: int) -> None:
    frame = np.random.default_rng(2).random((90, 130)).astype(np.float32)
    resized = resize_frame(frame, size)
    assert resized.shape == (size, size)
    assert frame.min() <= resized.min() and resized.max() <= frame.max()


@pytest.mark.parametrize("degrees", range(0, 180, 15))
@pytest.mark.parametrize("offset", [0.0, 0.7, 1.3, 2.0])
def test_a_two_pixel_wire_at_512_stays_in_one_piece_at_128(
    degrees: float, offset: float
) -> None:
    wire = draw_line(512, degrees, offset, width=2)
    assert label(wire, EIGHT_NEIGHBOURS)[1] == 1
    small = resize_mask(wire, 128)
    assert label(small, EIGHT_NEIGHBOURS)[1] == 1
    # It keeps its length: about 0.9 of the side, in pixels along the longer axis.
    rows, columns = np.nonzero(small)
    assert np.hypot(np.ptp(rows) + 1, np.ptp(columns) + 1) > 0.87 * 128


def test_coverage_of_a_half_alone_would_tear_that_wire() -> None:
    wire = draw_line(512, 30, 0.7, width=2).astype(np.float32)
    half = cv2.resize(wire, (128, 128), interpolation=cv2.INTER_AREA) >= 0.5
    assert label(half, EIGHT_NEIGHBOURS)[1] > 1


def test_a_wire_survives_even_a_sixteenfold_reduction() -> None:
    wire = draw_line(2048, 37, 3.0, width=2)
    assert label(resize_mask(wire, 128), EIGHT_NEIGHBOURS)[1] == 1


def test_a_wide_catheter_keeps_its_area() -> None:
    catheter = draw_line(512, 20, 1.0, width=20)
    small = resize_mask(catheter, 128)
    area = 16 * int(small.sum())
    assert area == pytest.approx(int(catheter.sum()), rel=0.02)


def test_frame_and_mask_share_their_geometry() -> None:
    disc = np.zeros((300, 200), np.uint8)
    cv2.circle(disc, (120, 210), 40, 1, -1)
    frame = resize_frame(disc.astype(np.float32), 128)
    mask = resize_mask(disc, 128)
    assert ((frame > 0.5) & (mask == 0)).sum() == 0
    assert ((frame < 0.5) & (mask == 1)).sum() < 0.02 * mask.sum()


def test_growing_keeps_every_marked_pixel() -> None:
    mask = np.zeros((3, 3))
    mask[1, 2] = 255
    grown = resize_mask(mask, 6)
    assert np.argwhere(grown).tolist() == [[2, 4], [2, 5], [3, 4], [3, 5]]
