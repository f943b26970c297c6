"""Prototype tokens: what leaves a site, how many, and how much is behind each."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from clients.data.frames import FrameSet
from clients.optimisation import TrainingError
from clients.prototypes import LEAST, MAX_FRAMES, find_prototypes
from models.network import SegmentationNetwork, SegmentationOutput
from models.registry import build_model
from strategies.settings import RunSettings

CPU = torch.device("cpu")
SIZE = 16


class Grey(SegmentationNetwork):
    """Features that can be read off a frame: its grey value and the square of it."""

    def __init__(self) -> None:
        super().__init__()
        self.image_size, self.num_classes = SIZE, 2

    def forward_with_features(self, images: Tensor) -> SegmentationOutput:
        assert not self.training
        return SegmentationOutput(
            images.expand(-1, 2, -1, -1), torch.cat([images, images.square()], 1)
        )


def frames_of(greys: list[float], size: int = SIZE) -> FrameSet:
    count = len(greys)
    shades = torch.tensor(greys)[:, None, None, None]
    return FrameSet(
        images=shades.expand(count, 1, size, size).clone(),
        masks=torch.zeros(count, 2, size, size, dtype=torch.uint8),
        annotated=torch.ones(count, 2, dtype=torch.bool),
        sequences=torch.arange(count),
    )


@pytest.fixture
def options(run_settings: RunSettings) -> dict[str, object]:
    return {
        "count": 3,
        "tap": "",
        "grid_size": 2,
        "settings": dataclasses.replace(run_settings.data, frame_size=SIZE),
        "batch_size": 4,
        "device": CPU,
        "seed": 3,
    }


def test_prototypes_are_the_means_of_what_a_site_holds(
    options: dict[str, object],
) -> None:
    # 4 tokens a frame: three kinds of frames, each with more than 8 tokens.
    greys = [0.1] * 3 + [0.5] * 4 + [0.88, 0.92] * 2
    found = find_prototypes(Grey(), frames_of(greys), **options)
    assert found.dtype == torch.float32
    order = found[:, 0].argsort()
    expected = [[0.1, 0.01], [0.5, 0.25], [0.9, (0.88**2 + 0.92**2) / 2]]
    np.testing.assert_allclose(found[order], expected, atol=1e-6)


def test_a_mean_of_few_tokens_does_not_leave_the_site(
    options: dict[str, object],
) -> None:
    # A single frame of its own kind has 4 tokens, less than the least.
    greys = [0.1] * 5 + [0.9]
    found = find_prototypes(Grey(), frames_of(greys), **{**options, "count": 2})
    np.testing.assert_allclose(found, [[0.1, 0.01]], atol=1e-6)
    allowed = find_prototypes(
        Grey(), frames_of(greys), **{**options, "count": 2}, least=4
    )
    assert len(allowed) == 2


@pytest.mark.parametrize("count", [1, 5, 32])
def test_at_least_so_many_tokens_are_behind_every_mean(
    count: int, options: dict[str, object]
) -> None:
    source = torch.Generator().manual_seed(count)
    images = torch.rand(9, 1, SIZE, SIZE, generator=source)
    frames = dataclasses.replace(frames_of([0.5] * 9), images=images)
    found = find_prototypes(Grey(), frames, **{**options, "count": count}).double()
    pooled = torch.nn.functional.adaptive_avg_pool2d
    tokens = pooled(Grey().eval()(images)[:, :1], 2), pooled(images.square(), 2)
    tokens = torch.cat([one.flatten()[:, None] for one in tokens], 1).double()
    assert 1 <= len(found) <= min(count, len(tokens) // LEAST)
    # k-means: a token belongs to the mean next to it. Those of clusters that were
    # dropped come on top, which is why one mean is checked to the number.
    behind = torch.cdist(tokens, found).argmin(1).bincount(minlength=len(found))
    assert int(behind.min()) >= LEAST
    if count == 1:
        torch.testing.assert_close(found[0], tokens.mean(0), rtol=0, atol=1e-6)


def test_equal_tokens_give_one_prototype(options: dict[str, object]) -> None:
    found = find_prototypes(Grey(), frames_of([0.3] * 10), **options)
    np.testing.assert_allclose(found, [[0.3, 0.09]], atol=1e-6)


def test_a_site_with_too_few_tokens_sends_none(options: dict[str, object]) -> None:
    found = find_prototypes(Grey(), frames_of([0.3]), **options)
    assert found.shape == (0, 2)


def test_every_frame_counts_once_also_in_a_last_small_batch(
    options: dict[str, object],
) -> None:
    # 5 frames in batches of 4: drawn again, 0.9 would weigh more than a fifth.
    greys = [0.1, 0.3, 0.5, 0.7, 0.9]
    for seed in range(4):
        found = find_prototypes(
            Grey(), frames_of(greys), **{**options, "count": 1, "seed": seed}
        )
        assert found[0, 0].item() == pytest.approx(0.5)


def test_more_frames_than_needed_are_drawn_from(options: dict[str, object]) -> None:
    looked = []

    class Counting(Grey):
        def forward_with_features(self, images: Tensor) -> SegmentationOutput:
            looked.append(len(images))
            return super().forward_with_features(images)

    frames = frames_of([0.1, 0.9] * 300)
    find_prototypes(Counting(), frames, **{**options, "batch_size": 64})
    assert sum(looked) == MAX_FRAMES


def test_larger_frames_are_cut_to_the_network(options: dict[str, object]) -> None:
    settings = dataclasses.replace(options["settings"], frame_size=40)
    found = find_prototypes(
        Grey(), frames_of([0.3] * 6, size=40), **{**options, "settings": settings}
    )
    np.testing.assert_allclose(found, [[0.3, 0.09]], atol=1e-6)


def test_the_same_seed_finds_the_same_bits(options: dict[str, object]) -> None:
    source = torch.Generator().manual_seed(0)
    frames = dataclasses.replace(
        frames_of([0.5] * 8), images=torch.rand(8, 1, SIZE, SIZE, generator=source)
    )
    model = build_model("sam-tiny", image_size=SIZE, seed=0)
    once, again, other = (
        find_prototypes(
            model,
            frames,
            **{
                **options,
                "grid_size": 1,
                "seed": seed,
                "tap": "image_encoder.blocks.0",
            },
            least=2,
        )
        for seed in (1, 1, 2)
    )
    assert torch.equal(once, again)
    assert (
        once.shape[1]
        == other.shape[1]
        == model.image_encoder.patch_embed.proj.out_channels
    )


def test_a_diverged_model_is_told_apart(options: dict[str, object]) -> None:
    class Diverged(Grey):
        def forward_with_features(self, images: Tensor) -> SegmentationOutput:
            return SegmentationOutput(images, torch.full_like(images, torch.nan))

    with pytest.raises(TrainingError, match="has diverged"):
        find_prototypes(Diverged(), frames_of([0.3] * 10), **options)


def test_numbers_below_one_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="at least 1, got 0 and 8"):
        find_prototypes(Grey(), frames_of([0.3]), **{**options, "count": 0})
