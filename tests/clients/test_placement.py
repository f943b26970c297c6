"""A prediction lands on the original frame, to the pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as draw

from clients.data.errors import DataError
from clients.data.placement import Box, Placement


@draw.composite
def placements(draws: draw.DrawFn, max_size: int = 40) -> Placement:
    height, width = (draws(draw.integers(1, 40)) for _ in range(2))
    top, left = draws(draw.integers(0, height - 1)), draws(draw.integers(0, width - 1))
    bottom = draws(draw.integers(top + 1, height))
    right = draws(draw.integers(left + 1, width))
    size = draws(draw.integers(1, max_size))
    return Placement(height, width, size, (top, left, bottom, right))


def unscaled(height: int, width: int, box: Box) -> Placement:
    side = Placement(height, width, 1, box).side
    return Placement(height, width, side, box)


def inside(box: Box, pixels: np.ndarray) -> np.ndarray:
    """Return the pixels in the box, zeros around it."""
    kept = np.zeros_like(pixels)
    rows, columns = slice(box[0], box[2]), slice(box[1], box[3])
    kept[rows, columns] = pixels[rows, columns]
    return kept


@given(placement=placements(), seed=draw.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_without_scaling_a_mask_comes_back_to_the_bit(
    placement: Placement, seed: int
) -> None:
    placement = unscaled(placement.height, placement.width, placement.box)
    mask = np.random.default_rng(seed).integers(
        0, 2, (placement.height, placement.width)
    )
    restored = placement.restore(placement.mask(mask))
    assert np.array_equal(restored, inside(placement.box, mask))


@given(placement=placements(), seed=draw.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_without_scaling_a_frame_and_a_region_come_back_to_the_bit(
    placement: Placement, seed: int
) -> None:
    placement = unscaled(placement.height, placement.width, placement.box)
    shape = (placement.height, placement.width)
    frame = np.random.default_rng(seed).random(shape, np.float32)
    restored = placement.restore(placement.frame(frame))
    assert np.array_equal(restored, inside(placement.box, frame))
    region = placement.restore(placement.valid(frame > 0.5))
    assert np.array_equal(region, inside(placement.box, frame > 0.5))


@given(
    placement=placements(),
    x=draw.floats(-100, 100),
    y=draw.floats(-100, 100),
)
@settings(max_examples=200, deadline=None)
def test_points_make_the_round_trip(placement: Placement, x: float, y: float) -> None:
    points = np.array([[x, y], [y, x]])
    there = placement.points(points)
    assert np.allclose(placement.restore_points(there), points, rtol=0, atol=1e-9)


@given(placement=placements())
@settings(max_examples=100, deadline=None)
def test_the_corners_of_a_square_box_are_the_corners_of_the_frame(
    placement: Placement,
) -> None:
    top, left, _, _ = placement.box
    length = placement.height - top, placement.width - left
    side = min(length)
    square = Placement(
        placement.height,
        placement.width,
        placement.size,
        (top, left, top + side, left + side),
    )
    corners = np.array([[left, top], [left + side, top + side]])
    expected = [[0, 0], [square.size, square.size]]
    assert np.allclose(square.points(corners), expected, rtol=0, atol=1e-9)


def check_coordinates(errors: np.ndarray, averaged: bool) -> None:
    """Interpolation is exact; an average over parts of pixels is off by up to 1/8."""
    assert np.abs(errors).max() < (0.13 if averaged else 1e-3)
    assert abs(errors.mean()) < 0.01


@pytest.mark.parametrize("size", [7, 16, 33, 64, 100])
@pytest.mark.parametrize(
    "box", [(0, 0, 61, 61), (5, 9, 55, 59), (3, 11, 44, 61), (3, 11, 60, 50)]
)
def test_grey_values_lie_where_points_say(size: int, box: Box) -> None:
    # In a frame whose grey value is its own coordinate, every placed pixel must hold
    # the original coordinate of its centre, whether averaged or interpolated.
    y, x = np.mgrid[:61, :61] + 0.5
    placement = Placement(61, 61, size, box)
    rows, columns = np.mgrid[:size, :size] + 0.5
    where = placement.restore_points(np.stack([columns, rows], axis=-1))
    reach = max(placement.side / size, 1)
    for axis, coordinate in enumerate((x, y)):
        placed = placement.frame(coordinate)
        low, high = box[1 - axis], box[3 - axis]
        whole = (where[..., axis] > low + reach) & (where[..., axis] < high - reach)
        assert whole.sum() > 0.5 * size
        check_coordinates((placed - where[..., axis])[whole], size < placement.side)


@pytest.mark.parametrize("size", [16, 33, 61, 100])
def test_a_prediction_lies_where_points_say(size: int) -> None:
    box = (4, 7, 60, 60)
    placement = Placement(61, 64, size, box)
    grid = np.arange(size) + 0.5
    prediction = np.tile(grid, (size, 1))
    x = np.arange(61 + 3) + 0.5
    there = placement.points(np.stack([x, x], axis=-1))[:, 0]
    reach = max(size / placement.side, 1)
    whole = (there > reach) & (there < size - reach) & (x > 7) & (x < 60)
    restored = placement.restore(prediction)[20]
    assert whole.sum() > 30
    check_coordinates((restored - there)[whole], size > placement.side)


def line(size: int, degrees: float, offset: float, width: float) -> np.ndarray:
    """Return the pixels whose centre is at most width / 2 from a straight line."""
    y, x = np.mgrid[:size, :size] + 0.5 - size / 2
    angle = np.deg2rad(degrees)
    away = np.abs(x * np.sin(angle) - y * np.cos(angle) - offset)
    return away <= width / 2


@pytest.mark.parametrize("size", [128, 100])
@pytest.mark.parametrize("degrees", [0, 13, 45, 71, 90])
def test_a_restored_centreline_is_within_half_a_small_pixel_and_unbiased(
    size: int, degrees: float
) -> None:
    # A catheter of odd width, so that its skeleton is its centre line.
    placement = Placement.of((400, 400), size)
    angle = np.deg2rad(degrees)
    normal = np.array([np.sin(angle), -np.cos(angle)])
    errors = []
    for offset in np.arange(-6, 6, 0.55):
        restored = placement.restore(placement.mask(line(400, degrees, offset, 3.01)))
        rows, columns = np.nonzero(restored > 0.5)
        away = np.stack([columns, rows], axis=1) + 0.5 - 200
        middle = np.abs(away).max(axis=1) < 150  # the ends are cut by the frame
        errors.append(float((away[middle] @ normal).mean()) - offset)
    small_pixel = 400 / size
    assert np.abs(errors).max() <= small_pixel / 2
    assert abs(np.mean(errors)) < 0.1 * small_pixel


def test_a_thin_wire_keeps_its_place_when_a_soft_prediction_is_restored() -> None:
    placement = Placement.of((400, 400), 100)
    errors = []
    for offset in np.arange(-3, 3, 0.37):
        soft = placement.frame(line(400, 30, offset, 2).astype(np.float32))
        restored = placement.restore(soft)
        rows, columns = np.mgrid[:400, :400] + 0.5 - 200
        near = (np.hypot(rows, columns) < 150) & (restored > 0)
        away = columns * np.sin(np.pi / 6) - rows * np.cos(np.pi / 6)
        errors.append(np.average(away[near], weights=restored[near]) - offset)
    assert np.abs(errors).max() < 0.25  # px of the original; a small pixel is 4


def test_nothing_lands_outside_the_box() -> None:
    placement = Placement(30, 50, 16, (10, 5, 20, 45))
    restored = placement.restore(np.ones((16, 16)))
    assert restored.shape == (30, 50)
    assert np.array_equal(restored > 0, inside(placement.box, np.ones((30, 50))) > 0)


def test_padding_repeats_the_edge_of_a_frame_but_is_not_valid() -> None:
    placement = Placement(3, 4, 2, (1, 1, 2, 3))  # one row of two pixels
    pixels = np.arange(12).reshape(3, 4)
    assert placement.frame(pixels).tolist() == [[5, 6], [5, 6]]
    # One row of padding, below; nothing above.
    assert placement.valid(np.ones((3, 4), bool)).tolist() == [[True] * 2, [False] * 2]
    assert placement.mask(np.ones((3, 4))).tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize(
    ("size", "box"),
    [(0, (0, 0, 4, 4)), (8, (2, 0, 2, 4)), (8, (0, 0, 5, 4)), (8, (0, -1, 4, 4))],
)
def test_a_box_beyond_its_frame_is_refused(size: int, box: Box) -> None:
    with pytest.raises(DataError, match="box inside its frame"):
        Placement(4, 4, size, box)


def test_frames_and_predictions_of_another_shape_are_refused() -> None:
    placement = Placement.of((4, 6), 8)
    for place in (placement.frame, placement.mask, placement.valid):
        with pytest.raises(DataError, match=r"\(4, 6\) is needed"):
            place(np.zeros((6, 4)))
    with pytest.raises(DataError, match=r"\(8, 8\) is needed"):
        placement.restore(np.zeros((4, 6)))
