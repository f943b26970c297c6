"""Grey ranges, squares, and wires that survive shrinking."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import label

from clients.data.errors import DataError
from clients.data.placement import Placement
from clients.data.preprocessing import (
    normalise_frame,
    prepare_frame,
    resize_frame,
    resize_mask,
    standardise,
    valid_moments,
)
from clients.data.valid_region import find_valid_region
from strategies.data_settings import DataSettings

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


def settings(**changes: object) -> DataSettings:
    """Return settings for 64 px frames that are cropped to the collimator."""
    return replace(
        DataSettings(
            frame_size=64,
            crop="collimator",
            clip_percentile=0.5,
            polarity="keep",
            normalise="unit",
            augmentation="none",
        ),
        **changes,
    )


def collimated(shape: tuple[int, int] = (200, 240)) -> np.ndarray:
    """Return 12-bit tissue behind four blades, with noise, and one hot border pixel."""
    rng = np.random.default_rng(11)
    frame = rng.normal(40, 8, shape)
    height, width = shape
    tissue = cv2.GaussianBlur(rng.normal(size=shape), (0, 0), 12)
    inside = 2000 + 800 * tissue / np.abs(tissue).max()
    frame[30:-40, 50:-20] = inside[30:-40, 50:-20]
    frame[height - 10, width // 2] = 4095  # a dead detector pixel
    return np.clip(frame, 0, 4095).astype(np.uint16)


@pytest.mark.parametrize("percentile", [0.1, 0.5, 2.0])
def test_only_the_valid_region_sets_the_range_of_grey(percentile: float) -> None:
    frame = collimated()
    tissue = frame[36:-46, 56:-26]
    low, high = np.percentile(tissue, (percentile, 100 - percentile))
    expected = np.clip((frame - low) / (high - low), 0, 1)[40:-50, 60:-30]
    chosen = settings(clip_percentile=percentile, frame_size=240, crop="none")
    image = prepare_frame(frame, chosen, invert=False).image[20:-20]
    assert np.abs(image[40:-50, 60:-30] - expected).max() < 0.03


def test_the_border_is_zero_and_not_valid_for_either_polarity() -> None:
    uncropped = settings(crop="none")
    for invert in (False, True):
        image, valid, _ = prepare_frame(collimated(), uncropped, invert=invert)
        assert image.dtype == np.float32 and valid.dtype == np.bool_
        assert image.shape == valid.shape == (64, 64)
        assert not image[~valid].any()
        assert 0 <= image.min() and image.max() <= 1
        # 130 x 170 of 240 x 240 pixels are open.
        assert valid.mean() == pytest.approx(130 * 170 / 240**2, abs=0.05)


def test_the_crop_is_the_bounding_box_of_the_valid_region() -> None:
    prepared = prepare_frame(collimated(), settings(), invert=False)
    top, left, bottom, right = prepared.placement.box
    assert 26 <= top <= 30 and 160 <= bottom <= 164
    assert 46 <= left <= 50 and 220 <= right <= 224
    whole = prepare_frame(collimated(), settings(crop="none"), invert=False)
    assert whole.placement.box == (0, 0, 200, 240)


def test_inverting_exchanges_dark_and_bright_inside_only() -> None:
    kept = prepare_frame(collimated(), settings(), invert=False)
    inverted = prepare_frame(collimated(), settings(), invert=True)
    assert np.array_equal(kept.valid, inverted.valid)
    inside = kept.valid
    assert np.allclose(inverted.image[inside], 1 - kept.image[inside], atol=1e-5)


def test_pixels_at_the_rim_are_the_mean_of_their_valid_part() -> None:
    # Flat tissue, so that each valid pixel must have the tissue's value, not less.
    frame = np.full((256, 256), 3, np.uint8)
    frame[37:201, 43:215] = 180
    frame[100:110, 100:110] = 90
    prepared = prepare_frame(frame, settings(crop="none"), invert=False)
    rim = prepared.valid & (cv2.erode(prepared.valid.astype(np.uint8), None) == 0)
    region = find_valid_region(frame)
    share = Placement.of(frame.shape, 64).frame((frame == 180).astype(np.float32))
    among = Placement.of(frame.shape, 64).frame(region.astype(np.float32))
    assert rim.sum() > 100
    assert np.allclose(prepared.image[rim], share[rim] / among[rim], atol=1e-5)


def test_a_prediction_on_a_prepared_frame_lands_on_the_original() -> None:
    frame = collimated()
    prepared = prepare_frame(frame, settings(frame_size=174), invert=False)
    restored = prepared.placement.restore(prepared.image)
    top, left, bottom, right = prepared.placement.box
    inside = np.zeros(frame.shape, bool)
    inside[top + 6 : bottom - 6, left + 6 : right - 6] = True
    grey = frame[inside].astype(float)
    assert np.corrcoef(restored[inside], grey)[0, 1] > 0.98
    shifted = np.roll(restored, 4, axis=1)
    assert np.corrcoef(shifted[inside], grey)[0, 1] < 0.98


def test_real_frames_are_prepared_within_their_octagon(phantom_xa: Path) -> None:
    file = phantom_xa / "images" / "IM1_05.png"
    frame = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    image, valid, placement = prepare_frame(
        frame, settings(frame_size=256), invert=False
    )
    assert 0.9 < valid.mean() < 1
    assert not valid[0, 0] and valid[128, 128]
    top, left, bottom, right = placement.box
    assert 0 < top < 12 and 0 <= left < 12 and 500 < bottom < 512 and 500 < right < 512
    assert not image[~valid].any() and image[valid].max() == 1


def test_a_frame_with_a_bad_pixel_is_refused() -> None:
    frame = np.ones((40, 40))
    frame[2, 3] = np.nan
    with pytest.raises(DataError, match="not finite"):
        prepare_frame(frame, settings(), invert=False)


def test_a_region_of_another_shape_is_refused() -> None:
    with pytest.raises(DataError, match="same shape"):
        normalise_frame(np.zeros((4, 4)), np.ones((4, 5), bool))


def test_standardised_frames_have_mean_0_and_deviation_1_where_valid() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(5, 1, 20, 20, generator=generator)
    valid = torch.rand(5, 1, 20, 20, generator=generator) < 0.7
    found = standardise(images, valid)
    for frame in range(5):
        inside = found[frame][valid[frame]].numpy()
        original = images[frame][valid[frame]].double().numpy()
        expected = (original - original.mean()) / original.std()
        assert np.allclose(inside, expected, atol=1e-4)
        assert not found[frame][~valid[frame]].any()


def test_what_is_not_valid_has_no_say_in_the_z_score() -> None:
    images = torch.rand(1, 1, 8, 8)
    valid = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    valid[..., :3] = False
    before = standardise(images, valid)
    assert torch.equal(standardise(torch.where(valid, images, 0.9), valid), before)


@pytest.mark.parametrize("level", [0.0, 0.1, 0.7, 1.0])
def test_constant_and_empty_frames_become_zeros(level: float) -> None:
    images = torch.full((2, 1, 33, 33), level)
    valid = torch.ones(2, 1, 33, 33, dtype=torch.bool)
    valid[1] = False
    assert not standardise(images, valid).any()


def test_moments_of_the_whole_frame_can_serve_its_patches() -> None:
    images = torch.rand(2, 1, 16, 16)
    valid = torch.ones_like(images, dtype=torch.bool)
    whole = standardise(images, valid)
    patch = standardise(
        images[..., 3:9, 3:9],
        valid[..., 3:9, 3:9],
        moments=valid_moments(images, valid),
    )
    assert torch.allclose(patch, whole[..., 3:9, 3:9], atol=1e-6)


def test_images_and_region_of_different_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="one shape"):
        standardise(torch.zeros(2, 1, 4, 4), torch.ones(2, 4, 4, dtype=torch.bool))
