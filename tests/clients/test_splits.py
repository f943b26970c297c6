"""Patients stay whole."""

from collections.abc import Callable

import pytest
import torch

from clients.data.errors import DataError
from clients.data.frames import FrameSet
from clients.data.splits import Split, split_by_sequence

MakeFrames = Callable[[list[int]], FrameSet]


def sequences_of(split: Split) -> list[set[int]]:
    parts = (split.train, split.validation, split.test)
    return [set(part.sequences.tolist()) for part in parts]


@pytest.mark.parametrize("seed", range(5))
def test_no_sequence_is_in_two_parts_and_none_is_lost(
    make_frames: MakeFrames, seed: int
) -> None:
    frames = make_frames([0, 0, 0, 3, 3, 4, 9, 9, 11, 12, 12])
    split = split_by_sequence(frames, seed=seed)
    train, validation, test = sequences_of(split)
    assert train | validation | test == {0, 3, 4, 9, 11, 12}
    assert not train & validation and not train & test and not validation & test
    assert len(split.train) + len(split.validation) + len(split.test) == len(frames)


def test_twelve_patients_are_divided_eight_two_two(make_frames: MakeFrames) -> None:
    frames = make_frames([patient for patient in range(12) for _ in range(4)])
    split = split_by_sequence(frames, seed=0)
    assert [len(part) for part in sequences_of(split)] == [8, 2, 2]
    assert [len(p) for p in (split.train, split.validation, split.test)] == [32, 8, 8]


def test_three_sequences_give_one_to_each_part(make_frames: MakeFrames) -> None:
    split = split_by_sequence(make_frames([0, 1, 1, 2]), seed=1)
    assert [len(part) for part in sequences_of(split)] == [1, 1, 1]


def test_large_shares_still_leave_training_data(make_frames: MakeFrames) -> None:
    split = split_by_sequence(
        make_frames([0, 1, 2, 3]), seed=0, validation_share=0.45, test_share=0.45
    )
    assert [len(part) for part in sequences_of(split)] == [1, 1, 2]


def test_two_sequences_are_too_few_and_the_error_says_so(
    make_frames: MakeFrames,
) -> None:
    with pytest.raises(DataError, match=r"at least 3 sequences.*got 2"):
        split_by_sequence(make_frames([0, 0, 0, 1, 1]), seed=0)


@pytest.mark.parametrize("shares", [(0.0, 0.2), (0.2, 1.0), (0.6, 0.4), (-0.1, 0.2)])
def test_impossible_shares_are_refused(
    make_frames: MakeFrames, shares: tuple[float, float]
) -> None:
    with pytest.raises(DataError, match="shares"):
        split_by_sequence(
            make_frames([0, 1, 2]),
            seed=0,
            validation_share=shares[0],
            test_share=shares[1],
        )


def test_the_seed_decides_and_the_order_of_frames_does_not(
    make_frames: MakeFrames,
) -> None:
    frames = make_frames(list(range(10)))
    backwards = frames.subset(torch.arange(9, -1, -1))
    found = sequences_of(split_by_sequence(frames, seed=4))
    assert sequences_of(split_by_sequence(backwards, seed=4)) == found
    others = [sequences_of(split_by_sequence(frames, seed=s)) for s in range(4)]
    assert any(other != found for other in others)


def test_frames_keep_their_order_within_a_part(make_frames: MakeFrames) -> None:
    frames = make_frames([0, 1, 2, 3, 0, 1, 2, 3])
    train = split_by_sequence(frames, seed=0).train
    grey = train.images[:, 0, 0, 0]
    assert torch.equal(grey, grey.sort().values)
