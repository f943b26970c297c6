"""How the frames of a few-shot study are divided, and frames that know their numbers.

By patient; by sequence where nobody knows the patients; or as a person says, by the
pseudonyms that `endofed data check` prints. Nothing is divided below a sequence: its
frames are near-duplicates.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from clients.data.catalogue import FolderSpec
from clients.data.errors import DataError
from clients.data.frames import Frames, FrameSet, frame_numbers
from clients.data.splits import (
    Split,
    hashed_fraction,
    split_by_count,
    split_by_patient,
)

SHARE = 0.2  # of the sequences, for validation and for test
PARTS = ("train", "validation", "test")
SPLITS = ("patient", "sequence")


@dataclass(frozen=True)
class DataChoice:
    """Which folder, and how it is divided.

    Attributes:
        spec: The folder and what its site declares.
        split_by: "patient" or "sequence".
        train: Sequences, by pseudonym "S-..." or number from 1; empty = by the split.
        validation: As `train`; empty beside a choice = of those that are left.
        test: As `validation`.
        key: Key file of the site; None = the usual one.
        cache: Of prepared frames; None = the usual one.
    """

    spec: FolderSpec
    split_by: str = "patient"
    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    key: Path | None = None
    cache: Path | None = None


class Chosen:
    """Some frames of a set, which still know their numbers in it; a `Frames`."""

    def __init__(self, frames: Frames, numbers: Tensor, patients: Tensor) -> None:
        """Choose.

        Args:
            frames: All.
            numbers: int64 (chosen,), which of them.
            patients: int64 (all,), who is not to be divided.
        """
        self._frames, self.numbers, self._patients = frames, numbers, patients

    @classmethod
    def all(cls, frames: Frames, *, by_sequence: bool = False) -> "Chosen":
        """Choose all; `by_sequence` takes every sequence for a patient of its own."""
        patients = frames.sequences if by_sequence else frames.patients
        return cls(frames, torch.arange(len(frames)), patients)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.numbers)

    @property
    def sequences(self) -> Tensor:
        """Return the number of every frame's sequence, int64 (frames,)."""
        return self._frames.sequences[self.numbers]

    @property
    def patients(self) -> Tensor:
        """Return who is not to be divided, int64 (frames,)."""
        return self._patients[self.numbers]

    @property
    def annotated(self) -> Tensor:
        """Return which classes somebody looked for, bool (frames, classes)."""
        return self._frames.annotated[self.numbers]

    def subset(self, indices: Tensor) -> FrameSet:
        """Read some of the frames into memory; see `FrameSet.subset`."""
        return self._frames.subset(self.numbers[frame_numbers(indices, len(self))])

    def view(self, indices: Tensor) -> "Chosen":
        """Choose some of the frames for later; see `FrameSet.subset`."""
        chosen = self.numbers[frame_numbers(indices, len(self))]
        return Chosen(self._frames, chosen, self._patients)

    def digest(self) -> str:
        """Tell whether two runs saw the same data, as 64 hexadecimal digits."""
        text = f"{self._frames.digest()} {self.numbers.tolist()}"
        return hashlib.sha256(text.encode()).hexdigest()


def divide(
    frames: Frames, choice: DataChoice, names: Sequence[str], *, seed: int
) -> Split:
    """Divide the frames of a folder as it was asked for.

    Args:
        frames: All.
        choice: Split or sequences of each part.
        names: Pseudonyms of the sequences in order; needed for a choice only.
        seed: Of what the choice leaves open.

    Returns:
        `Chosen` parts.

    Raises:
        DataError: If it cannot be done.
    """
    if choice.train or choice.test:
        return _chosen_parts(frames, choice, names, seed)
    if choice.validation:
        raise DataError(
            "Sequences for validation alone leave the rest open: name those for "
            "training, too (--train-sequences)."
        )
    if choice.split_by == "patient":
        try:
            return split_by_patient(Chosen.all(frames), seed=seed)
        except DataError as error:
            raise DataError(
                f"{error} --split-by sequence takes each sequence for a patient."
            ) from None
    everything = Chosen.all(frames, by_sequence=True)
    count = len(frames.sequences.unique())
    held_out = max(round(SHARE * count), 1)
    if count < len(PARTS):
        raise DataError(
            f"A split by sequence needs at least 3 sequences, got {count}. "
            "Frames of one sequence are never divided."
        )
    return split_by_count(
        everything, seed=seed, validation_patients=held_out, test_patients=held_out
    )


def _chosen_parts(
    frames: Frames, choice: DataChoice, names: Sequence[str], seed: int
) -> Split:
    present = sorted(frames.sequences.unique().tolist())
    wanted = {
        name: [_number(one, names, present) for one in getattr(choice, name)]
        for name in PARTS
    }
    named = [number for numbers in wanted.values() for number in numbers]
    if len(set(named)) < len(named):
        raise DataError("A sequence may be in one part only, and named once.")
    rest = [number for number in present if number not in named]
    rest.sort(key=lambda number: hashed_fraction(f"split {seed}:{number}"))
    empty = [name for name in PARTS if not wanted[name]]
    if len(rest) < len(empty):
        raise DataError(
            f"{len(present)} sequences are too few: after those that were named, "
            f"{len(rest)} are left for {' and '.join(empty)}."
        )
    # What was not named is shared out; the last empty part takes most.
    for place, name in enumerate(empty):
        last = place == len(empty) - 1
        share = len(rest) if last else max(len(rest) // (len(empty) - place + 1), 1)
        wanted[name], rest = rest[:share], rest[share:]
    everything = Chosen.all(frames, by_sequence=True)
    return Split(
        *(
            everything.view(torch.isin(frames.sequences, torch.tensor(wanted[name])))
            for name in PARTS
        )
    )


def _number(text: str, names: Sequence[str], present: Sequence[int]) -> int:
    """Return the number, from 0, of a sequence that a person named."""
    wanted = text.strip().upper()
    found = -1
    if wanted in names:
        found = list(names).index(wanted)
    elif wanted.isdecimal():
        found = int(wanted) - 1
    if found not in present:
        raise DataError(
            "A sequence that was named is not among the labelled ones: give "
            "pseudonyms as `endofed data check` prints them (S-…), or numbers from 1 "
            f"to {len(present)} in the order of the folder."
        )
    return found
