"""Training, validation and test frames, divided by patient.

Frames of one sequence are near-duplicates, so a sequence is never divided: a model
would otherwise be tested on frames it has practically trained on.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.errors import DataError
from clients.data.frames import FrameSet

MIN_SEQUENCES = 3
"""One sequence each for training, validation and test."""


@dataclass(frozen=True)
class Split:
    """The three parts of one hospital's frames; no sequence is in two of them."""

    train: FrameSet
    validation: FrameSet
    test: FrameSet


def split_by_sequence(
    frames: FrameSet,
    *,
    seed: int,
    validation_share: float = 0.2,
    test_share: float = 0.2,
) -> Split:
    """Divide frames into three parts of whole sequences.

    Args:
        frames: All frames of a hospital.
        seed: Decides, together with the numbers of the sequences and nothing else,
            which sequence goes where; >= 0.
        validation_share: Wanted share of the sequences, between 0 and 1.
        test_share: Wanted share of the sequences, between 0 and 1.

    Returns:
        The parts, each with at least one sequence; frames keep their order.

    Raises:
        DataError: With fewer than three sequences, or shares that leave no training
            data.
    """
    _check_shares(validation_share, test_share)
    sequences = np.unique(frames.sequences.numpy())
    if len(sequences) < MIN_SEQUENCES:
        raise DataError(
            f"A split by sequence needs at least {MIN_SEQUENCES} sequences (training, "
            f"validation and test), got {len(sequences)}. Add patients or sequences; "
            "frames of one sequence are near-duplicates and are never divided."
        )
    shuffled = np.random.default_rng(seed).permutation(sequences)
    num_validation, num_test = _part_sizes(len(sequences), validation_share, test_share)
    ends = (num_test, num_test + num_validation)
    test, validation, train = np.split(shuffled, ends)
    return Split(
        train=_of_sequences(frames, train),
        validation=_of_sequences(frames, validation),
        test=_of_sequences(frames, test),
    )


def _check_shares(validation_share: float, test_share: float) -> None:
    shares = (validation_share, test_share)
    if not all(0 < share < 1 for share in shares) or sum(shares) >= 1:
        raise DataError(
            "The shares of validation and test must be between 0 and 1 with a sum "
            f"below 1, got {validation_share} and {test_share}."
        )


def _part_sizes(count: int, *shares: float) -> list[int]:
    sizes = [max(1, round(share * count)) for share in shares]
    while sum(sizes) >= count:  # rounding left nothing to train on
        sizes[sizes.index(max(sizes))] -= 1
    return sizes


def _of_sequences(frames: FrameSet, chosen: NDArray[np.int64]) -> FrameSet:
    return frames.subset(torch.isin(frames.sequences, torch.from_numpy(chosen)))
