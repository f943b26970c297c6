"""A few labelled frames, chosen as a person would who can label only so many.

Draw from the training part of a split: its patients and sequences are in neither
validation nor test, so the shots cannot be either.
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clients.data.errors import DataError
from clients.data.frames import Frames
from clients.data.splits import hashed_fraction

BLOCK = 256  # frames whose masks are looked at together


def draw_shots(
    frames: Frames,
    shots: int,
    *,
    seed: int,
    per: Literal["frame", "sequence"] = "frame",
) -> Tensor:
    """Choose labelled frames, spread over patients and sequences.

    Only frames that show a device of an annotated class are drawn: who can label one
    frame does not choose an empty one. Each patient gives one frame before any gives
    a second, each sequence of a patient likewise, and among these come first the
    frames that show most of the classes annotated on them. Chance decides the rest; a
    patient's turn depends on the seed and on the token only.

    Args:
        frames: The training part. Masks are read once, 256 frames at a time.
        shots: How many frames, or how many sequences, >= 1.
        seed: Of the choice. With one seed, fewer shots are the first of more shots.
        per: "frame", or "sequence" for all labelled frames of so many sequences.

    Returns:
        int64 (chosen,) numbers of frames for `subset` or `view`, in the order in which
        they were drawn.

    Raises:
        DataError: If fewer frames, or sequences, show a device.
    """
    if shots < 1:
        raise DataError(f"The number of shots must be at least 1, got {shots}.")
    if per not in ("frame", "sequence"):
        raise DataError(f"Shots are counted per frame or per sequence, got {per!r}.")
    missing, shows_device = _classes_missing(frames)
    order = _order_frames(frames, missing, shows_device, seed)
    sequences = frames.sequences.numpy()
    # `dict` keeps the order in which sequences first appear.
    units = order if per == "frame" else np.array(list(dict.fromkeys(sequences[order])))
    if len(units) < shots:
        raise DataError(
            f"{shots} shots need as many {per}s that show a device, got {len(units)}. "
            "Lower the number of shots, or add annotated frames."
        )
    if per == "sequence":
        labelled = frames.annotated.any(dim=1).numpy()
        units = np.concatenate(
            [np.flatnonzero(labelled & (sequences == one)) for one in units[:shots]]
        )
        return torch.from_numpy(units)
    return torch.from_numpy(units[:shots])


def _classes_missing(
    frames: Frames,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return, per frame, how many annotated classes it lacks and if it shows any."""
    present = torch.cat(
        [
            frames.subset(numbers).masks.flatten(2).amax(dim=2) > 0
            for numbers in torch.arange(len(frames)).split(BLOCK)
        ]
    )
    missing = (frames.annotated & ~present).sum(dim=1)
    return missing.numpy(), (present & frames.annotated).any(dim=1).numpy()


def _order_frames(
    frames: Frames,
    missing: NDArray[np.int64],
    shows_device: NDArray[np.bool_],
    seed: int,
) -> NDArray[np.int64]:
    """Return the numbers of the frames with a device in the order of drawing."""
    of_patient, of_frame = _chances(frames.patients.numpy(), seed)
    numbers = np.flatnonzero(shows_device)
    patients = frames.patients.numpy()[numbers]
    sequences = frames.sequences.numpy()[numbers]
    missing, of_frame = missing[numbers], of_frame[numbers]
    in_sequence = _turns(sequences, missing, of_frame)
    in_patient = _turns(patients, in_sequence, missing, of_frame)
    return numbers[np.lexsort((of_patient[numbers], missing, in_patient))]


def _turns(groups: NDArray[np.int64], *keys: NDArray[np.generic]) -> NDArray[np.int64]:
    """Return each frame's turn within its group, from 0; the first key matters most."""
    order = np.lexsort((*reversed(keys), groups))
    sorted_groups = groups[order]
    begins = np.searchsorted(sorted_groups, sorted_groups, side="left")
    turns = np.empty(len(groups), np.int64)
    turns[order] = np.arange(len(groups)) - begins
    return turns


def _chances(
    patients: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return numbers in [0, 1) per frame: of its patient, and of its own."""
    whose, of_patient = np.unique(patients, return_inverse=True)
    by_patient = np.array([hashed_fraction(f"shot {seed}:{token}") for token in whose])
    places = _turns(patients, np.arange(len(patients)))
    by_frame = [
        hashed_fraction(f"shot {seed}:{token}:{place}")
        for token, place in zip(patients, places, strict=True)
    ]
    return by_patient[of_patient], np.array(by_frame)
