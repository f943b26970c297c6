import dataclasses
import logging

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from clients.adaptation.background_filling import fill_lines
from clients.adaptation.background_lines import find_lines, lines_are_dark
from clients.adaptation.backgrounds import (
    METHODS,
    collect_backgrounds,
    estimate_noise,
)
from clients.data.errors import DataError
from clients.data.frames import FrameSet

SIZE = 64
GROUND, DEVICE = 0.7, 0.1
BETWEEN = 0.4  # grey that neither ground nor noise reaches


def wires(
    count: int = 4,
    *,
    moves: bool = False,
    noise: float = 0.02,
    valid: Tensor | None = None,
    sequences: list[int] | None = None,
) -> FrameSet:
    """Frames of a sloping ground with one dark wire; masks say nothing."""
    rng = np.random.default_rng(0)
    slope = np.linspace(-0.1, 0.1, SIZE)
    images = np.empty((count, 1, SIZE, SIZE), np.float32)
    for number in range(count):
        canvas = (GROUND + slope[:, None] + 0.5 * slope).astype(np.float32)
        place = 12 + (10 * number if moves else 3 * number)
        canvas = cv2.line(canvas, (place, 0), (place + 14, SIZE), DEVICE, 2)
        images[number, 0] = canvas + rng.normal(0, noise, canvas.shape)
    seen = (
        torch.ones(count, 1, SIZE, SIZE, dtype=torch.bool) if valid is None else valid
    )
    return FrameSet(
        images=torch.where(seen, torch.from_numpy(images.clip(0, 1)), 0.0),
        masks=torch.zeros(count, 2, SIZE, SIZE, dtype=torch.uint8),
        annotated=torch.zeros(count, 2, dtype=torch.bool),
        sequences=torch.tensor(sequences or [0] * count),
        valid=seen,
    )


def even(noise: float = 0.0, grey: float = 0.5) -> FrameSet:
    rng = np.random.default_rng(3)
    ramp = grey + np.linspace(-0.2, 0.2, SIZE)[None, None, None]
    images = ramp + rng.normal(0, noise, (3, 1, SIZE, SIZE))
    return FrameSet(
        images=torch.from_numpy(images.clip(0, 1).astype(np.float32)),
        masks=torch.zeros(3, 2, SIZE, SIZE, dtype=torch.uint8),
        annotated=torch.zeros(3, 2, dtype=torch.bool),
        sequences=torch.arange(3),
    )


def circle(count: int, radius: float) -> Tensor:
    rows, columns = torch.meshgrid(*[torch.arange(SIZE)] * 2, indexing="ij")
    middle = (SIZE - 1) / 2
    inside = (rows - middle) ** 2 + (columns - middle) ** 2 <= radius**2
    return inside.expand(count, 1, SIZE, SIZE).clone()


def dark_share(images: Tensor, valid: Tensor) -> float:
    return float((images[valid] < BETWEEN).float().mean())


@pytest.mark.parametrize("method", METHODS)
def test_a_background_holds_hardly_anything_of_the_device(method: str) -> None:
    target = wires()
    found = collect_backgrounds(target, method=method, count=12, seed=0)
    before = dark_share(target.images, target.valid)
    assert before > 0.04  # the wire is there
    assert dark_share(found.images, found.valid) < before / 50


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    target = wires()
    one, same, other = (
        collect_backgrounds(target, method="crop", count=6, seed=seed).images
        for seed in (5, 5, 6)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_first_backgrounds_do_not_depend_on_how_many_follow() -> None:
    few = collect_backgrounds(wires(), method="crop", count=3, seed=1)
    many = collect_backgrounds(wires(), method="crop", count=9, seed=1)
    assert torch.equal(few.images, many.images[:3])


def test_what_a_targets_masks_say_changes_nothing() -> None:
    target = wires()
    garbage = dataclasses.replace(
        target,
        masks=torch.randint(
            0,
            2,
            target.masks.shape,
            dtype=torch.uint8,
            generator=torch.Generator().manual_seed(0),
        ),
        annotated=torch.ones_like(target.annotated),
    )
    for method in METHODS:
        expected = collect_backgrounds(target, method=method, count=4, seed=0)
        found = collect_backgrounds(garbage, method=method, count=4, seed=0)
        assert torch.equal(found.images, expected.images)
    assert estimate_noise(garbage) == estimate_noise(target)


def test_backgrounds_repeat_only_when_crops_and_flips_run_out() -> None:
    found = collect_backgrounds(wires(1), method="crop", count=24, seed=0).images
    assert len({one.numpy().tobytes() for one in found}) == 24


def test_a_crop_lies_inside_a_round_field() -> None:
    valid = circle(3, 30.0)
    found = collect_backgrounds(wires(3, valid=valid), method="crop", count=12, seed=0)
    assert found.valid.float().mean() > 0.99
    assert found.images[found.valid].min() > BETWEEN


@pytest.mark.parametrize("method", METHODS)
def test_a_field_too_small_for_a_crop_stays_marked(method: str) -> None:
    valid = circle(3, 12.0)
    frames = even(0.01)
    target = dataclasses.replace(
        frames, images=torch.where(valid, frames.images, 0.0), valid=valid
    )
    found = collect_backgrounds(target, method=method, count=6, seed=0)
    assert not found.valid.all()
    assert found.valid.any()
    assert found.images[~found.valid].abs().max() == 0
    darkest = target.images[valid].min()
    assert found.images[found.valid].min() > darkest - 0.03  # no black bleeds in


def test_an_inpainted_frame_keeps_everything_but_its_lines() -> None:
    target = wires(1)
    image, valid = target.images[0, 0].numpy(), target.valid[0, 0].numpy()
    lines = find_lines(image, valid, dark=True)
    filled = fill_lines(image, lines, valid, np.random.default_rng(0))
    assert np.array_equal(filled[~lines], image[~lines])
    slope = np.linspace(-0.1, 0.1, SIZE)
    ground = GROUND + slope[:, None] + 0.5 * slope
    assert abs(filled - ground)[lines].mean() < 0.03


def test_a_wire_that_ends_at_the_collimator_is_filled_to_its_end() -> None:
    valid = circle(4, 26.0)
    found = collect_backgrounds(
        wires(4, valid=valid), method="inpaint", count=4, seed=0
    )
    assert found.images[found.valid].min() > BETWEEN


def test_a_filled_band_is_as_noisy_as_the_rest() -> None:
    target = wires(1)
    image, valid = target.images[0, 0].numpy(), target.valid[0, 0].numpy()
    lines = find_lines(image, valid, dark=True)
    filled = fill_lines(image, lines, valid, np.random.default_rng(0))
    rough = filled - cv2.GaussianBlur(filled, (0, 0), 2)
    assert rough[lines].std() == pytest.approx(rough[~lines].std(), rel=0.3)


@pytest.mark.parametrize("method", METHODS)
def test_backgrounds_have_the_targets_noise(method: str) -> None:
    target = wires(5, moves=True, noise=0.03)
    found = collect_backgrounds(target, method=method, count=8, seed=0)
    frames = FrameSet(
        images=found.images,
        masks=torch.zeros(8, 2, SIZE, SIZE, dtype=torch.uint8),
        annotated=torch.zeros(8, 2, dtype=torch.bool),
        sequences=torch.arange(8),
        valid=found.valid,
    )
    assert estimate_noise(frames) == pytest.approx(estimate_noise(target), rel=0.15)


def test_a_median_of_a_moving_wire_is_its_ground_without_any_filling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "clients.adaptation.backgrounds.find_lines",
        lambda image, valid, *, dark: np.zeros_like(valid),
    )
    target = wires(5, moves=True)
    median = collect_backgrounds(target, method="median", count=4, seed=0)
    whole = collect_backgrounds(target, method="inpaint", count=4, seed=0)
    assert dark_share(median.images, median.valid) < 0.001
    assert dark_share(whole.images, whole.valid) > 0.04


def test_a_sequence_too_short_for_a_median_gives_crops(
    caplog: pytest.LogCaptureFixture,
) -> None:
    target = wires(2, sequences=[0, 1])
    with caplog.at_level(logging.INFO):
        median = collect_backgrounds(target, method="median", count=4, seed=0)
    crop = collect_backgrounds(target, method="crop", count=4, seed=0)
    assert torch.equal(median.images, crop.images)
    assert "2 of 2 sequences" in caplog.text


@pytest.mark.parametrize("sigma", [0.005, 0.02, 0.08])
def test_noise_is_measured_as_it_was_made(sigma: float) -> None:
    assert estimate_noise(even(sigma)) == pytest.approx(sigma, rel=0.05)


def test_a_smooth_frame_has_no_noise() -> None:
    assert estimate_noise(even(0.0)) < 1e-4


def test_lines_hardly_count_as_noise() -> None:
    assert estimate_noise(wires(noise=0.02)) == pytest.approx(0.02, rel=0.15)


def test_what_lies_behind_a_collimator_is_no_noise() -> None:
    frames = even(0.02)
    valid = circle(3, 25.0)
    rubbish = torch.rand(
        frames.images.shape, generator=torch.Generator().manual_seed(0)
    )
    hidden = dataclasses.replace(
        frames, images=torch.where(valid, frames.images, rubbish), valid=valid
    )
    assert estimate_noise(hidden) == pytest.approx(0.02, rel=0.1)


def test_a_saturated_frame_says_nothing_of_noise() -> None:
    frames = even()
    white = dataclasses.replace(frames, images=torch.ones_like(frames.images))
    assert estimate_noise(white) == 0.0


def test_bright_wires_are_found_and_filled_too() -> None:
    target = wires()
    bright = dataclasses.replace(target, images=1 - target.images)
    assert not lines_are_dark(bright)
    found = collect_backgrounds(bright, method="crop", count=8, seed=0)
    assert float((found.images > 1 - BETWEEN).float().mean()) < 0.001


def test_an_even_frame_is_its_own_background() -> None:
    target = even()
    assert not find_lines(
        target.images[0, 0].numpy(), target.valid[0, 0].numpy(), dark=True
    ).any()
    found = collect_backgrounds(target, method="inpaint", count=1, seed=0).images[0]
    flips = [found, found.flip(-1)]
    assert any(torch.allclose(one, target.images[0], atol=1e-3) for one in flips)


def test_bad_input_is_refused_in_a_sentence() -> None:
    target = wires(2)
    with pytest.raises(DataError, match="one of crop, median, inpaint, got 'blur'"):
        collect_backgrounds(target, method="blur", count=1, seed=0)
    with pytest.raises(DataError, match="got a count of 0"):
        collect_backgrounds(target, method="crop", count=0, seed=0)
    nothing = dataclasses.replace(target, valid=torch.zeros_like(target.valid))
    with pytest.raises(DataError, match="check the collimator"):
        collect_backgrounds(nothing, method="crop", count=1, seed=0)


def test_a_frame_behind_a_closed_collimator_is_passed_over() -> None:
    target = wires(3)
    valid = target.valid.clone()
    valid[1] = False
    found = collect_backgrounds(
        dataclasses.replace(target, valid=valid), method="inpaint", count=6, seed=0
    )
    assert found.valid.all()
