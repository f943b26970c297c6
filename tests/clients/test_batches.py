"""What a network sees of stored frames."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from clients.data.batches import (
    evaluation_batches,
    predict,
    to_batch,
    training_batches,
)
from clients.data.frames import FrameSet
from strategies.data_settings import DataSettings

CPU = torch.device("cpu")
SETTINGS = DataSettings(
    frame_size=48,
    crop="none",
    clip_percentile=0.5,
    polarity="keep",
    normalise="unit",
    augmentation="none",
)


@pytest.fixture
def frames() -> FrameSet:
    """Five frames of 48 px, each with a border that is not valid and one wire."""
    images = torch.rand(5, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    valid = torch.zeros(5, 1, 48, 48, dtype=torch.bool)
    valid[:, :, 4:-4, 4:-4] = True
    masks = torch.zeros(5, 2, 48, 48, dtype=torch.uint8)
    masks[:, 0, 10:14, 8:40] = 1
    return FrameSet(
        images=images * valid,
        masks=masks,
        annotated=torch.ones(5, 2, dtype=torch.bool),
        sequences=torch.arange(5),
        valid=valid,
    )


def draw(frames: FrameSet, count: int, **changes: object) -> list[Tensor]:
    settings = replace(SETTINGS, **changes)
    batches = training_batches(
        frames, batch_size=2, network_size=48, settings=settings, seed=3, device=CPU
    )
    return [next(batches).images for _ in range(count)]


def test_every_frame_comes_once_before_any_comes_again(frames: FrameSet) -> None:
    drawn = torch.cat(draw(frames, 5))  # ten frames of five
    for start in (0, 5):
        found = {image.sum().item() for image in drawn[start : start + 5]}
        assert found == {image.sum().item() for image in frames.images}


def test_the_same_seed_draws_the_same_batches(frames: FrameSet) -> None:
    first, second = (draw(frames, 3, augmentation="weak") for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_z_score_is_that_of_the_valid_pixels_and_zero_outside(
    frames: FrameSet,
) -> None:
    batch = to_batch(frames, replace(SETTINGS, normalise="z-score"), CPU)
    for image, valid in zip(batch.images, frames.valid, strict=True):
        assert image[valid].mean() == pytest.approx(0, abs=1e-5)
        assert image[valid].std(correction=0) == pytest.approx(1, abs=1e-3)
        assert not image[~valid].any()


def test_a_z_score_does_not_take_back_what_augmentation_did(frames: FrameSet) -> None:
    changed = torch.cat(draw(frames, 20, augmentation="weak", normalise="z-score"))
    means = torch.stack([image[0, 8:-8, 8:-8].mean() for image in changed])
    assert means.std() > 0.05


def test_larger_frames_become_patches_of_the_networks_size(frames: FrameSet) -> None:
    batches = training_batches(
        frames, batch_size=4, network_size=32, settings=SETTINGS, seed=0, device=CPU
    )
    batch = next(batches)
    assert batch.images.shape == (4, 1, 32, 32)
    assert batch.masks.shape == (4, 2, 32, 32)
    assert batch.valid.shape == (4, 1, 32, 32)


def test_evaluation_sees_all_frames_once_in_order(frames: FrameSet) -> None:
    batches = evaluation_batches(frames, batch_size=2, settings=SETTINGS, device=CPU)
    parts = list(batches)
    assert [len(part) for part in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([part.images for part in parts]), frames.images)


def test_prediction_is_the_network_itself_where_sizes_agree_and_tiles_elsewhere(
    frames: FrameSet,
) -> None:
    seen: list[tuple[int, ...]] = []

    def brighter(images: Tensor) -> Tensor:
        seen.append(tuple(images.shape[-2:]))
        return images + 1

    same = predict(brighter, frames.images, 48)
    tiled = predict(brighter, frames.images, 32)
    assert set(seen) == {(48, 48), (32, 32)}
    assert torch.equal(same, frames.images + 1)
    torch.testing.assert_close(tiled, same, atol=1e-5, rtol=1e-5)
