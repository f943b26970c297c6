"""Patches lie where they should and show what they must."""

import pytest
import torch
from torch import Tensor

from clients.data.errors import DataError
from clients.data.frames import FrameSet
from clients.data.patches import draw_patches


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coordinates(count: int, size: int, masks: Tensor | None = None) -> FrameSet:
    """Return frames whose grey value tells the position, as row + column / size."""
    rows = torch.arange(size).float()[:, None]
    columns = torch.arange(size).float()[None]
    grey = (rows + columns / size + 0.5 / size) / size
    if masks is None:
        masks = torch.zeros(count, 2, size, size, dtype=torch.uint8)
    return FrameSet(
        images=grey.expand(count, 1, size, size).clone(),
        masks=masks,
        annotated=torch.ones(count, 2, dtype=torch.bool),
        sequences=torch.arange(count),
    )


def corner(patch: Tensor, size: int) -> tuple[int, int]:
    """Return row and column of the patch's first pixel in its frame."""
    value = float(patch[0, 0, 0]) * size
    return int(value), int((value % 1) * size)


def test_patches_hold_the_frames_own_pixels() -> None:
    frames = coordinates(12, 50)
    patches = draw_patches(frames, 20, generator=seeded(0))
    for frame, patch in zip(frames.images, patches.images, strict=True):
        row, column = corner(patch, 50)
        assert torch.equal(patch, frame[:, row : row + 20, column : column + 20])
    assert patches.valid.all() and len(patches) == 12


def test_every_position_occurs_and_none_beyond_the_frame() -> None:
    patches = draw_patches(coordinates(600, 8), 6, generator=seeded(1))
    found = {corner(patch, 8) for patch in patches.images}
    assert found == {(row, column) for row in range(3) for column in range(3)}


@pytest.mark.parametrize(("count", "forced"), [(8, 3), (1, 0), (2, 1), (32, 14)])
def test_the_last_part_of_a_batch_shows_a_device(count: int, forced: int) -> None:
    masks = torch.zeros(count, 2, 400, 400, dtype=torch.uint8)
    masks[:, 0, 0, 399] = 1  # one pixel in a corner, hardly ever met by chance
    patches = draw_patches(coordinates(count, 400, masks), 16, generator=seeded(2))
    shown = patches.masks.flatten(1).any(dim=1).tolist()
    assert shown == [False] * (count - forced) + [True] * forced


def test_both_classes_are_looked_for_equally_often_however_large() -> None:
    masks = torch.zeros(200, 2, 60, 60, dtype=torch.uint8)
    masks[:, 0, :20, :20] = 1  # 400 px
    masks[:, 1, 55, 55] = 1  # 1 px
    patches = draw_patches(
        coordinates(200, 60, masks), 10, generator=seeded(3), foreground_share=1.0
    )
    shown = patches.masks.flatten(2).any(dim=2).double().mean(dim=0)
    assert float(shown.sum()) == 1
    assert float(shown[0]) == pytest.approx(0.5, abs=0.12)


def test_frames_without_devices_get_random_patches() -> None:
    patches = draw_patches(
        coordinates(300, 8), 6, generator=seeded(4), foreground_share=1.0
    )
    assert len({corner(patch, 8) for patch in patches.images}) == 9


def test_a_frame_smaller_than_its_patch_is_centred_in_black() -> None:
    masks = torch.ones(2, 2, 5, 5, dtype=torch.uint8)
    frames = coordinates(2, 5, masks)
    patches = draw_patches(frames, 8, generator=seeded(5), foreground_share=1.0)
    assert patches.images.shape == (2, 1, 8, 8)
    assert torch.equal(patches.images[..., 1:6, 1:6], frames.images)
    assert int(patches.valid.sum()) == 2 * 25 and int(patches.masks.sum()) == 4 * 25
    assert not patches.images[~patches.valid].any()


def test_the_change_sees_the_larger_patch_and_its_centre_is_kept() -> None:
    seen = []

    def note(patches: FrameSet) -> FrameSet:
        seen.append(patches)
        return patches

    frames = coordinates(6, 700)
    plain, changed = (
        draw_patches(frames, 512, generator=seeded(6), change=change)
        for change in (None, note)
    )
    assert seen[0].images.shape == (6, 1, 602, 602)  # FGA-Net's 602 -> 512
    assert changed.images.shape == (6, 1, 512, 512)
    assert torch.equal(seen[0].images[..., 45:557, 45:557], changed.images)
    # The margin is extra: with or without a change the same patch is drawn.
    assert changed.digest() == plain.digest()


def test_the_margin_beyond_the_frame_is_black_and_not_valid() -> None:
    seen = []

    def note(patches: FrameSet) -> FrameSet:
        seen.append(patches)
        return patches

    frames = coordinates(3, 512)
    found = draw_patches(frames, 512, generator=seeded(7), change=note)
    assert torch.equal(found.images, frames.images) and found.valid.all()
    margin = torch.ones(602, 602, dtype=torch.bool)
    margin[45:557, 45:557] = False
    assert not seen[0].images[..., margin].any()
    assert torch.equal(seen[0].valid[0, 0], ~margin)


def test_the_generator_decides_everything_whatever_the_content() -> None:
    masks = torch.zeros(8, 2, 40, 40, dtype=torch.uint8)
    masks[:, 0, 10:30, 10:30] = 1
    after = []
    for frames in (coordinates(8, 40), coordinates(8, 40, masks)):
        generator = seeded(8)
        first = draw_patches(frames, 16, generator=generator)
        again = draw_patches(frames, 16, generator=seeded(8))
        assert first.digest() == again.digest()
        after.append(torch.rand(3, generator=generator))
    assert torch.equal(*after)


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"oversize": 0.9}, {"foreground_share": 1.1}]
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    arguments = {"size": 8, **wrong}
    with pytest.raises(DataError, match="Patches need"):
        draw_patches(coordinates(2, 16), generator=seeded(0), **arguments)
