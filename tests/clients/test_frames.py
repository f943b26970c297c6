"""What a FrameSet accepts, and what its digest sees."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from clients.data.errors import DataError
from clients.data.frames import FrameSet

MakeFrames = Callable[[list[int]], FrameSet]


def test_a_subset_keeps_order_and_sequence_numbers(make_frames: MakeFrames) -> None:
    chosen = make_frames([0, 0, 5, 7]).subset(torch.tensor([3, 1]))
    assert chosen.sequences.tolist() == [7, 0]
    assert chosen.images[:, 0, 0, 0].tolist() == pytest.approx([0.03, 0.01])


def test_flags_choose_the_same_frames_as_numbers(make_frames: MakeFrames) -> None:
    frames = make_frames([0, 1, 2])
    by_flags = frames.subset(torch.tensor([True, False, True]))
    assert by_flags.digest() == frames.subset(torch.tensor([0, 2])).digest()


def test_in_memory_a_view_is_a_subset(make_frames: MakeFrames) -> None:
    frames, chosen = make_frames([0, 0, 5]), torch.tensor([2, 0])
    assert frames.view(chosen).digest() == frames.subset(chosen).digest()


@pytest.mark.parametrize("indices", [[3], [-1], []])
def test_frames_that_do_not_exist_cannot_be_chosen(
    make_frames: MakeFrames, indices: list[int]
) -> None:
    with pytest.raises(DataError):
        make_frames([0, 1, 2]).subset(torch.tensor(indices, dtype=torch.int64))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(2, 1, 4, 4, dtype=torch.float64)}, "float32"),
        ({"images": torch.zeros(2, 3, 4, 4)}, "(frames, 1, size, size)"),
        ({"images": torch.zeros(2, 1, 4, 5)}, "(frames, 1, size, size)"),
        ({"images": torch.zeros(0, 1, 4, 4)}, "At least one frame"),
        ({"images": torch.full((2, 1, 4, 4), torch.nan)}, "finite"),
        ({"images": torch.eye(4).repeat(2, 1, 1, 1) / 0}, "finite"),  # NaN, infinity
        ({"images": -torch.full((2, 1, 4, 4), torch.inf)}, "finite"),
        ({"images": torch.full((2, 1, 4, 4), 1.01)}, "[0, 1]"),
        ({"images": torch.full((2, 1, 4, 4), -0.01)}, "[0, 1]"),
        ({"masks": torch.zeros(2, 2, 4, 4)}, "uint8"),
        ({"masks": torch.zeros(2, 2, 5, 5, dtype=torch.uint8)}, "masks must be"),
        ({"masks": torch.full((2, 2, 4, 4), 2, dtype=torch.uint8)}, "0 and 1"),
        ({"annotated": torch.ones(2, 3, dtype=torch.bool)}, "annotated must be"),
        ({"sequences": torch.zeros(3, dtype=torch.int64)}, "sequences must be"),
        ({"sequences": torch.tensor([0, -1])}, "from 0"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    make_frames: MakeFrames, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError) as caught:
        replace(make_frames([0, 1]), **change)
    assert message in str(caught.value)


def test_trusted_tensors_still_need_the_right_shapes(make_frames: MakeFrames) -> None:
    tensors = vars(make_frames([0, 1]))
    assert FrameSet.trusted(**tensors).digest() == make_frames([0, 1]).digest()
    for change in ({"masks": tensors["masks"][:1]}, {"images": tensors["masks"]}):
        with pytest.raises(DataError):
            FrameSet.trusted(**{**tensors, **change})


def test_a_mask_of_a_class_nobody_looked_for_is_refused(
    make_frames: MakeFrames,
) -> None:
    frames = make_frames([0])
    with pytest.raises(DataError, match="not annotated"):
        replace(
            frames,
            masks=torch.ones_like(frames.masks),
            annotated=torch.tensor([[True, False]]),
        )


def test_equal_frames_have_equal_digests(make_frames: MakeFrames) -> None:
    assert make_frames([0, 1]).digest() == make_frames([0, 1]).digest()


def test_any_changed_tensor_changes_the_digest(make_frames: MakeFrames) -> None:
    frames = make_frames([0, 1])
    image, mask = frames.images.clone(), frames.masks.clone()
    image[1, 0, 2, 2] += 1e-6
    mask[0, 0, 3, 3] = 1
    changed = [
        frames,
        replace(frames, images=image),
        replace(frames, masks=mask),
        replace(frames, annotated=~frames.annotated),
        replace(frames, sequences=torch.tensor([0, 2])),
        replace(frames, patients=torch.tensor([0, 2])),
        replace(frames, valid=~frames.valid),
    ]
    assert len({one.digest() for one in changed}) == len(changed)


def test_one_digest_is_known_by_heart(make_frames: MakeFrames) -> None:
    # It may only change on purpose: runs are compared by it.
    assert make_frames([0]).digest().startswith("18dfba46d65f1abd")
