"""Recipes: masks follow their images; nothing leaves [0, 1]."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from clients.data.augmentation import augment, strong_view, views, weak_view
from clients.data.errors import DataError
from clients.data.frames import TENSORS, FrameSet
from strategies.data_settings import AUGMENTATIONS


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frame_set(images: Tensor, masks: Tensor, valid: Tensor | None = None) -> FrameSet:
    return FrameSet(
        images=images,
        masks=masks,
        annotated=torch.ones(len(images), masks.shape[1], dtype=torch.bool),
        sequences=torch.arange(len(images)) // 2,
        patients=torch.arange(len(images)) // 4,
        valid=valid,
    )


def marked(count: int, size: int = 9) -> FrameSet:
    """Return frames that are their own masks: bright where marked."""
    masks = torch.zeros(count, 2, size, size, dtype=torch.uint8)
    masks[:, 0, 1, 2:6] = 1
    masks[:, 1, 4:8, 7] = 1
    valid = torch.ones(count, 1, size, size, dtype=torch.bool)
    valid[:, :, 0] = False
    images = (0.2 + 0.3 * masks[:, :1] + 0.6 * masks[:, 1:]) * valid
    return frame_set(images, masks, valid)


def test_masks_and_valid_regions_move_exactly_as_their_images() -> None:
    moved = augment(marked(64), "light", generator=seeded(0))
    for frame in range(64):
        grey = moved.images[frame, 0]
        background = moved.valid[frame, 0] & (moved.masks[frame].sum(0) == 0)
        first, second = (grey[moved.masks[frame, one] == 1] for one in (0, 1))
        assert len(first) == len(second) == 4 and int(background.sum()) == 81 - 9 - 8
        assert grey[background].mean() < first.mean() < second.mean()


def test_all_eight_symmetries_of_the_square_occur() -> None:
    masks = torch.zeros(200, 1, 5, 5, dtype=torch.uint8)
    masks[:, 0, 0, 1] = 1
    frames = frame_set(torch.rand(200, 1, 5, 5), masks)
    moved = augment(frames, "light", generator=seeded(1)).masks
    assert len({tuple(mask.flatten().tolist()) for mask in moved}) == 8


def test_light_is_still_what_it_was() -> None:
    # The first numbers drawn, and their ranges, are part of every seeded run so far.
    frames = frame_set(
        torch.full((3, 1, 4, 4), 0.5), torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    )
    generator = seeded(2)
    found = augment(frames, "light", generator=generator)
    other = seeded(2)
    torch.randint(4, (3,), generator=other)
    torch.randint(2, (3,), generator=other)
    torch.rand(3, 1, 1, 1, generator=other)  # contrast, of no effect on a flat frame
    brightness = 0.2 * torch.rand(3, 1, 1, 1, generator=other) - 0.1
    gamma = 0.7 + 0.7 * torch.rand(3, 1, 1, 1, generator=other)
    noise = torch.randn(3, 1, 4, 4, generator=other)
    amount = 0.03 * torch.rand(3, 1, 1, 1, generator=other)
    expected = ((0.5 + brightness) ** gamma + amount * noise).clamp(0, 1)
    assert torch.allclose(found.images, expected, atol=1e-6)


@pytest.mark.parametrize("recipe", AUGMENTATIONS)
def test_every_recipe_returns_a_frame_set_of_the_same_frames(recipe: str) -> None:
    frames = marked(16)
    before = {name: getattr(frames, name).clone() for name in TENSORS}
    changed = augment(frames, recipe, generator=seeded(3))
    for name in TENSORS:
        assert torch.equal(getattr(frames, name), before[name])
        assert getattr(changed, name).shape == before[name].shape
    for name in ("annotated", "sequences", "patients"):
        assert torch.equal(getattr(changed, name), before[name])
    assert not changed.images[~changed.valid].any()


def test_none_changes_nothing_and_draws_nothing() -> None:
    frames, generator = marked(4), seeded(4)
    assert augment(frames, "none", generator=generator) is frames
    assert torch.equal(
        torch.rand(3, generator=generator), torch.rand(3, generator=seeded(4))
    )


@pytest.mark.parametrize("recipe", ["light", "weak", "strong"])
def test_the_generator_decides_everything(recipe: str) -> None:
    frames = marked(16, size=20)
    first, again, other = (
        augment(frames, recipe, generator=seeded(seed)) for seed in (5, 5, 6)
    )
    assert first.digest() == again.digest() != other.digest()


@pytest.mark.parametrize("recipe", ["light", "weak", "strong"])
def test_the_same_amount_of_randomness_is_used_for_any_content(recipe: str) -> None:
    frames, after = marked(6, size=12), []
    empty = torch.zeros_like(frames.valid)
    for content in (
        frames,
        replace(frames, images=torch.zeros_like(frames.images)),
        replace(frames, masks=torch.zeros_like(frames.masks)),
        replace(frames, valid=empty),
    ):
        generator = seeded(7)
        augment(content, recipe, generator=generator)
        after.append(tuple(torch.rand(4, generator=generator).tolist()))
    assert len(set(after)) == 1


def test_weak_rotates_scales_and_mirrors_as_often_as_fga_net() -> None:
    # One pixel right of and one below the middle tell how a frame has moved.
    masks = torch.zeros(400, 2, 41, 41, dtype=torch.uint8)
    masks[:, 0, 19:22, 33:36] = 1
    masks[:, 1, 33:36, 19:22] = 1
    frames = frame_set(torch.full((400, 1, 41, 41), 0.5), masks)
    moved = augment(frames, "weak", generator=seeded(8)).masks
    y, x = torch.meshgrid(*[torch.arange(41.0) - 20] * 2, indexing="ij")
    shares = moved / moved.sum(dim=(2, 3), keepdim=True)
    right = torch.stack([(shares * x).sum((2, 3)), (shares * y).sum((2, 3))], -1)
    first, second = right[:, 0], right[:, 1]
    distance = first.norm(dim=1)
    scaled = (distance - 14).abs() > 0.25
    turned = (first.abs().amin(dim=1) > 0.5) & (first.abs().amax(dim=1) > 0.5)
    mirrored = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] < 0
    assert float(scaled.double().mean()) == pytest.approx(0.2, abs=0.07)
    assert float(turned.double().mean()) == pytest.approx(0.2, abs=0.07)
    assert float(mirrored.double().mean()) == pytest.approx(0.5, abs=0.08)
    assert 0.68 * 14 < float(distance.min()) and float(distance.max()) < 1.43 * 14


def test_the_views_share_their_flips_and_differ_in_grey_only() -> None:
    frames = marked(40)
    weak, strong = views(frames, generator=seeded(9))
    assert torch.equal(weak.masks, strong.masks)
    assert torch.equal(weak.valid, strong.valid)
    assert not torch.equal(weak.images, strong.images)
    # The weak view holds the frames' own grey values, only elsewhere.
    assert torch.equal(
        weak.images.flatten(1).sort().values, frames.images.flatten(1).sort().values
    )


def test_strong_is_the_strong_view_of_the_weak_view() -> None:
    frames, generator = marked(10), seeded(10)
    expected = strong_view(weak_view(frames, generator=generator), generator=generator)
    found = augment(frames, "strong", generator=seeded(10))
    assert found.digest() == expected.digest()


def test_the_weak_view_shows_each_flip_equally_often() -> None:
    masks = torch.zeros(800, 1, 5, 5, dtype=torch.uint8)
    masks[:, 0, 0, 1] = 1
    flipped = weak_view(
        frame_set(torch.rand(800, 1, 5, 5), masks), generator=seeded(11)
    ).masks
    kinds = [(tuple(mask.flatten().tolist())) for mask in flipped]
    counts = {kind: kinds.count(kind) / 800 for kind in set(kinds)}
    assert len(counts) == 4
    for share in counts.values():
        assert share == pytest.approx(0.25, abs=0.06)


def test_an_unknown_recipe_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="none, light, weak, strong, got 'heavy'"):
        augment(marked(1), "heavy", generator=seeded(0))
