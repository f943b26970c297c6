"""Masks follow their images; nothing leaves [0, 1]."""

import pytest
import torch

from clients.data.augmentation import augment
from clients.data.errors import DataError


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_masks_move_exactly_as_their_images() -> None:
    # A frame that is its own mask: bright where marked, so grey changes keep order.
    masks = torch.zeros(64, 2, 9, 9, dtype=torch.uint8)
    masks[:, 0, 1, 2:6] = 1
    masks[:, 1, 4:8, 7] = 1
    images = 0.2 + 0.3 * masks[:, :1] + 0.6 * masks[:, 1:]
    moved_images, moved_masks = augment(images, masks, generator=seeded(0))
    grey = moved_images[:, 0]
    for frame in range(64):
        ground, first, second = (
            grey[frame][chosen]
            for chosen in (
                moved_masks[frame].sum(0) == 0,
                moved_masks[frame, 0] == 1,
                moved_masks[frame, 1] == 1,
            )
        )
        assert len(first) == len(second) == 4
        assert ground.mean() < first.mean() < second.mean()


def test_all_eight_symmetries_of_the_square_occur() -> None:
    masks = torch.zeros(200, 1, 5, 5, dtype=torch.uint8)
    masks[:, 0, 0, 1] = 1
    _, moved = augment(torch.rand(200, 1, 5, 5), masks, generator=seeded(1))
    assert len({tuple(mask.flatten().tolist()) for mask in moved}) == 8


def test_the_generator_decides_everything() -> None:
    images = torch.rand(8, 1, 16, 16, generator=seeded(2))
    masks = torch.ones(8, 2, 16, 16, dtype=torch.uint8)
    first = augment(images, masks, generator=seeded(3))[0]
    assert torch.equal(first, augment(images, masks, generator=seeded(3))[0])
    assert not torch.equal(first, augment(images, masks, generator=seeded(4))[0])


def test_the_same_amount_of_randomness_is_used_for_any_content() -> None:
    after = []
    for images in (torch.zeros(3, 1, 8, 8), torch.rand(3, 1, 8, 8)):
        generator = seeded(5)
        augment(images, torch.zeros(3, 2, 8, 8), generator=generator)
        after.append(torch.rand(4, generator=generator))
    assert torch.equal(*after)


def test_each_frame_of_a_batch_is_changed_in_its_own_way() -> None:
    image = torch.rand(1, 1, 16, 16, generator=seeded(6)).repeat(10, 1, 1, 1)
    masks = torch.zeros(10, 1, 16, 16, dtype=torch.uint8)
    changed, _ = augment(image, masks, generator=seeded(7))
    assert len({round(float(one.mean()), 6) for one in changed}) == 10


def test_images_stay_in_range_and_inputs_stay_as_they_were() -> None:
    images = torch.rand(32, 1, 16, 16, generator=seeded(8)).round()
    masks = torch.ones(32, 2, 16, 16, dtype=torch.uint8)
    before = images.clone()
    changed, moved = augment(images, masks, generator=seeded(9))
    assert changed.dtype == torch.float32 and moved.dtype == torch.uint8
    assert 0 <= float(changed.min()) and float(changed.max()) <= 1
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    ("image_shape", "mask_shape"),
    [
        ((2, 1, 8, 9), (2, 2, 8, 9)),
        ((2, 1, 8, 8), (2, 2, 9, 9)),
        ((2, 1, 8, 8), (3, 2, 8, 8)),
        ((8, 8), (8, 8)),
    ],
)
def test_frames_and_masks_that_do_not_fit_are_refused(
    image_shape: tuple[int, ...], mask_shape: tuple[int, ...]
) -> None:
    with pytest.raises(DataError, match="square"):
        augment(torch.zeros(image_shape), torch.zeros(mask_shape), generator=seeded(0))
