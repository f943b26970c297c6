"""One label for a whole frame: where it comes from, who is drawn, how it is scored.

From a CSV file of the site, or in simulation from what is known anyway: whether a
device is in the frame, or which kind of hospital it comes from.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from clients.data.catalogue import FolderSpec
from clients.data.errors import DataError
from clients.data.frames import Frames
from clients.data.identity import SiteKey
from experiments.finetuning.data import StudyData, labelled_sequences, unseen_frames
from experiments.finetuning.fewshot import ALL, FinetuneSettings, run_seed
from experiments.finetuning.split import PARTS, Chosen
from models.classes import CLASS_NAMES
from strategies.settings import SettingsError

UNKNOWN = -1
Key = tuple[int, int]  # sequence from 0, frame from 1; frame 0 = the whole sequence


def simulated_labels(
    data: StudyData, settings: FinetuneSettings, image_size: int
) -> StudyData:
    """Label simulated frames.

    Args:
        data: Of `simulated_data`.
        settings: `label` says what is asked: a class, is it in the frame; or "domain".
        image_size: Side of a frame, px.

    Returns:
        The same frames with a label each.

    Raises:
        SettingsError: If all frames have one label.
    """
    parts = [getattr(unseen_frames(settings, image_size), name) for name in PARTS]
    numbers = torch.cat([part.numbers for part in parts])
    labels = torch.full((int(numbers.max()) + 1,), UNKNOWN)
    if settings.label == "domain":
        names = tuple(settings.domain.split(","))
        each = len(labels) // len(names)  # domains have equally many frames
        labels[numbers] = numbers // each
    else:
        names = (f"no {settings.label}", settings.label)
        index = CLASS_NAMES.index(settings.label)
        for part in parts:
            masks = part.subset(torch.arange(len(part))).masks[:, index]
            labels[part.numbers] = masks.flatten(1).any(dim=1).long()
    return _checked(replace(data, labels=labels, label_names=names))


def folder_labels(
    data: StudyData, frames: Frames, file: Path, *, spec: FolderSpec, key: SiteKey
) -> StudyData:
    """Label the frames of a folder out of a CSV file.

    Args:
        data: Parts of `frames`.
        frames: All frames of the folder.
        file: With the columns "sequence" (pseudonym, or number from 1), "label" and,
            if single frames differ, "frame" (number within the sequence, from 1).
        spec: The folder.
        key: Of the site.

    Returns:
        The same frames; those that the file does not name have no label.

    Raises:
        DataError: If the file is no such table or names what is not there. It is not
            quoted.
    """
    entries = labelled_sequences(spec, key)
    table = read_labels(file, [entry.id for entry in entries])
    counted = [
        frame.number for one in entries for frame in one.frames if frame.annotation
    ]
    if len(counted) != len(frames) and any(number for _, number in table):
        raise DataError(
            "Damaged frames are left out of this folder, so its frames cannot be told "
            "apart by number; label whole sequences."
        )
    names = tuple(sorted(set(table.values())))
    labels = torch.full((len(frames),), UNKNOWN)
    for place, sequence in enumerate(frames.sequences.tolist()):
        frame = counted[place] if len(counted) == len(frames) else 0
        label = table.get((sequence, frame), table.get((sequence, 0)))
        if label is not None:
            labels[place] = names.index(label)
    return _checked(replace(data, labels=labels, label_names=names))


def read_labels(file: Path, sequences: Sequence[str]) -> Mapping[Key, str]:
    """Read a table of labels.

    Args:
        file: CSV; see `folder_labels`.
        sequences: Pseudonyms of the sequences 0, 1, ...

    Returns:
        Label by sequence and frame.

    Raises:
        DataError: If it is no such table. It is not quoted.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
            columns = set(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error):
        raise DataError("The file with labels cannot be read as a CSV table.") from None
    if not {"sequence", "label"} <= columns or not rows:
        raise DataError(
            "The table of labels needs rows with the columns 'sequence' and 'label', "
            "and 'frame' where single frames are labelled."
        )
    known = {name: number for number, name in enumerate(sequences)}
    known |= {str(number + 1): number for number in range(len(sequences))}
    table: dict[Key, str] = {}
    for line, row in enumerate(rows, start=2):
        frame = (row.get("frame") or "").strip() or "0"
        place = known.get((row["sequence"] or "").strip().upper())
        label = (row["label"] or "").strip()
        if place is None or not frame.isdecimal() or not label:
            raise DataError(
                f"Line {line} of the table of labels names no sequence of the folder, "
                "no frame number or no label."
            )
        if table.setdefault((place, int(frame)), label) != label:
            raise DataError(
                f"Line {line} of the table of labels contradicts an earlier line."
            )
    return table


def labelled_part(data: StudyData, name: str) -> tuple[Chosen, Tensor]:
    """Return the frames of a part that have a label, and their labels.

    Args:
        data: With labels.
        name: One of PARTS.

    Returns:
        The frames, and int64 (frames,).

    Raises:
        DataError: If there is none.
    """
    part: Chosen = getattr(data.split, name)
    labels = data.labels[part.numbers]
    if not bool((labels != UNKNOWN).any()):
        raise DataError(f"No frame of the {name} part has a label.")
    return part.view(labels != UNKNOWN), labels[labels != UNKNOWN]


def label_shots(labels: Tensor, shots: int, *, seed: int) -> Tensor:
    """Choose frames so that labels take turns; with a seed, fewer are the first.

    Args:
        labels: int64 (frames,), >= 0.
        shots: How many, or ALL.
        seed: Of the choice.

    Returns:
        int64 (shots,).

    Raises:
        SettingsError: If there are fewer frames.
    """
    if shots == ALL:
        return torch.arange(len(labels))
    if shots > len(labels):
        raise SettingsError(
            f"{shots} shots need as many frames with a label, got {len(labels)}. "
            "Lower the number of shots, or add labels."
        )
    generator = torch.Generator().manual_seed(
        run_seed(seed, shots=0, purpose="label shots") % 2**63
    )
    chance = torch.randperm(len(labels), generator=generator)
    turns = torch.empty_like(labels)
    for label in labels.unique():
        mine = torch.nonzero(labels[chance] == label).flatten()
        turns[chance[mine]] = torch.arange(len(mine))
    order = torch.argsort(turns[chance], stable=True)
    return chance[order][:shots]


def label_scores(guesses: Tensor, labels: Tensor, num_labels: int) -> dict[str, float]:
    """Compare labels.

    Args:
        guesses: int64 (frames,), 0 to `num_labels` - 1.
        labels: The same of the truth, at least one.
        num_labels: How many labels there are.

    Returns:
        "accuracy"; "macro-f1", the mean of F1 over labels that are true or guessed
        somewhere; "balanced-accuracy", the mean recall over labels that are true
        somewhere.
    """
    pairs = torch.bincount(labels * num_labels + guesses, minlength=num_labels**2)
    table = pairs.reshape(num_labels, num_labels).double()  # truth by guess
    right, true, guessed = table.diagonal(), table.sum(dim=1), table.sum(dim=0)
    seen, there = true + guessed > 0, true > 0
    return {
        "accuracy": float(right.sum() / table.sum()),
        "macro-f1": float((2 * right / (true + guessed))[seen].mean()),
        "balanced-accuracy": float((right / true)[there].mean()),
    }


def _checked(data: StudyData) -> StudyData:
    """Refuse labels from which nothing can be learnt."""
    for name in PARTS:
        labelled_part(data, name)
    _, labels = labelled_part(data, "train")
    if len(labels.unique()) < 2:
        raise SettingsError(
            "All training frames have one label, so there is nothing to choose from. "
            "Ask for another label, or give other sequences for training."
        )
    return data
