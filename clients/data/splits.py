"""Training, validation and test frames, divided by patient, stable when data grow.

Frames of one patient resemble each other and those of one sequence are
near-duplicates, so neither is ever divided: a model would otherwise be tested on
frames it has practically trained on.

A patient's place is a number u in [0, 1) made of the seed and the patient's token by
SHA-256, and of nothing else: not of how many patients there are, nor of their order.
So who arrives later moves nobody, and a test patient stays one over the years.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.errors import DataError
from clients.data.frames import Frames

MIN_PATIENTS = 3
"""One patient each for training, validation and test."""
TEST, VALIDATION, TRAIN = range(3)  # in the order of their intervals of u
PART_SALT = "part"  # another number for the parts of a folder than for the split


@dataclass(frozen=True)
class Split:
    """The three parts of a hospital's frames; no patient is in two of them."""

    train: Frames
    validation: Frames
    test: Frames


def split_by_patient(
    frames: Frames,
    *,
    seed: int,
    validation_share: float = 0.2,
    test_share: float = 0.2,
) -> Split:
    """Divide frames into three parts of whole patients that stay when data are added.

    A patient with u < `test_share` is tested, one with u < `test_share` +
    `validation_share` validates, all others train. The sizes of the parts therefore
    only come near the shares, as dice do. A part that would be empty takes the patient
    whose u is nearest to its interval from a part that has others: with few patients
    one may return to its own part once that part's place is taken. Once every part
    has a patient of its own, nobody ever moves.

    Args:
        frames: All frames of a hospital. Tokens must be those of patients and not
            counters, or adding data would change them; see `FrameSet.patients`.
        seed: Decides, with the tokens, who goes where.
        validation_share: Wanted share of the patients, between 0 and 1.
        test_share: Wanted share of the patients, between 0 and 1.

    Returns:
        The parts, each with at least one patient; frames keep their order.

    Raises:
        DataError: With fewer than three patients, a sequence of two patients, or
            shares that leave no training data.
    """
    _check_shares(validation_share, test_share)
    patients, positions = _place_patients(frames, seed)
    edges = np.array([0.0, test_share, test_share + validation_share, 1.0])
    parts = np.searchsorted(edges, positions, side="right") - 1
    return _take_parts(frames, patients, _fill_empty(parts, positions, edges))


def split_by_count(
    frames: Frames, *, seed: int, validation_patients: int, test_patients: int
) -> Split:
    """Divide frames into three parts with exact numbers of patients.

    For studies on data that do not grow: the patients with the smallest u are tested,
    the next ones validate. An added patient may move another.

    Args:
        frames: All frames.
        seed: Decides, with the tokens, who goes where.
        validation_patients: How many, >= 1.
        test_patients: How many, >= 1.

    Returns:
        The parts; all other patients train. Frames keep their order.

    Raises:
        DataError: With fewer than three patients, a sequence of two patients, or
            numbers that leave no patient to train on.
    """
    patients, positions = _place_patients(frames, seed)
    held_out = validation_patients + test_patients
    if min(validation_patients, test_patients) < 1 or held_out >= len(patients):
        raise DataError(
            "Validation and test need one patient each and must leave one for "
            f"training: of {len(patients)} patients, {validation_patients} and "
            f"{test_patients} were asked for."
        )
    ranks = np.argsort(np.argsort(positions))
    ends = (test_patients, held_out)
    return _take_parts(frames, patients, np.searchsorted(ends, ranks, side="right"))


def take_part(frames: Frames, number: int, of: int) -> Frames:
    """Take the patients of one of several equal parts of all possible patients.

    Several silos can so share one folder: parts of one number `of` have no patient in
    common, together they have all, and added patients move nobody.

    Args:
        frames: All frames of the folder.
        number: Which part, 1 to `of`.
        of: How many parts there are, >= 1.

    Returns:
        The frames of the patients whose u lies in [(number - 1) / of, number / of).

    Raises:
        DataError: If there is no such part, or no patient falls into it.
    """
    if not 1 <= number <= of:
        raise DataError(f"A part must be 1/{of} to {of}/{of}, got {number}/{of}.")
    if of == 1:
        return frames
    patients = np.unique(frames.patients.numpy())
    positions = _positions(patients, PART_SALT)
    chosen = patients[np.floor(positions * of).astype(np.int64) == number - 1]
    if len(chosen) == 0:
        raise DataError(
            f"None of {len(patients)} patient(s) falls into part {number}/{of}. "
            "Make fewer parts or add patients."
        )
    return _of_patients(frames, chosen)


def hashed_fraction(text: str) -> float:
    """Turn a text into a number that looks random and never changes.

    Args:
        text: Such as a purpose with a seed and a token; others give unrelated numbers.

    Returns:
        A number in [0, 1), even over texts: the first 53 bits of SHA-256, as many as a
        float holds.
    """
    digest = hashlib.sha256(text.encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) * 2.0**-53


def _place_patients(
    frames: Frames, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the sorted tokens of the patients and their u."""
    pairs = torch.stack([frames.sequences, frames.patients]).unique(dim=1)
    if pairs.shape[1] > len(frames.sequences.unique()):
        raise DataError(
            "Every sequence must be of one patient, or a split by patient would divide "
            "it; at least one sequence is of two."
        )
    patients = np.unique(frames.patients.numpy())
    if len(patients) < MIN_PATIENTS:
        raise DataError(
            f"A split by patient needs at least {MIN_PATIENTS} patients (training, "
            f"validation and test), got {len(patients)}. Add patients, or sequences "
            "where patients are not known; frames of one patient are never divided."
        )
    return patients, _positions(patients, f"split {seed}")


def _positions(patients: NDArray[np.int64], salt: str) -> NDArray[np.float64]:
    return np.array([hashed_fraction(f"{salt}:{token}") for token in patients])


def _fill_empty(
    parts: NDArray[np.int64], positions: NDArray[np.float64], edges: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Give every empty part the patient nearest to its interval of u."""
    filled = parts.copy()
    for part in (TEST, VALIDATION, TRAIN):
        sizes = np.bincount(filled, minlength=3)
        if sizes[part] == 0:
            distances = np.maximum(edges[part] - positions, positions - edges[part + 1])
            # The last patient of a part stays, or that part would be empty now.
            distances[sizes[filled] == 1] = np.inf
            filled[np.argmin(distances)] = part
    return filled


def _take_parts(
    frames: Frames, patients: NDArray[np.int64], parts: NDArray[np.int64]
) -> Split:
    return Split(
        train=_of_patients(frames, patients[parts == TRAIN]),
        validation=_of_patients(frames, patients[parts == VALIDATION]),
        test=_of_patients(frames, patients[parts == TEST]),
    )


def _of_patients(frames: Frames, chosen: NDArray[np.int64]) -> Frames:
    flags = torch.isin(frames.patients, torch.from_numpy(chosen))
    return frames.view(torch.nonzero(flags).flatten())


def _check_shares(validation_share: float, test_share: float) -> None:
    shares = (validation_share, test_share)
    if not all(0 < share < 1 for share in shares) or sum(shares) >= 1:
        raise DataError(
            "The shares of validation and test must be between 0 and 1 with a sum "
            f"below 1, got {validation_share} and {test_share}."
        )
