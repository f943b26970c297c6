"""The frames of a few-shot study: simulated, or out of somebody's folder, in parts.

How they are divided stands in `experiments/finetuning/split.py`.
"""

import functools
import hashlib
import os
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from clients.data.catalogue import FolderSpec, SequenceEntry
from clients.data.folders import load_folder
from clients.data.frames import Frames, join_frames
from clients.data.identity import SiteKey
from clients.data.scan import scan_folder
from clients.data.simulator import simulate_frames
from clients.data.splits import Split, split_by_count
from clients.data.store import StoredFrames
from experiments.finetuning.fewshot import FinetuneSettings
from experiments.finetuning.split import PARTS, Chosen, DataChoice, divide
from strategies.data_settings import DataSettings
from strategies.randomness import derive_seed


@dataclass(frozen=True)
class StudyData:
    """The frames of a study in three parts, and what may be told of them."""

    split: Split  # of Chosen parts
    description: dict[str, Any]  # plain JSON, without names
    labels: Tensor | None = None  # int64 (all frames,), -1 = none; for classification
    label_names: tuple[str, ...] = ()

    def digest(self) -> str:
        """Tell whether two studies have the same parts."""
        parts = [getattr(self.split, name).digest() for name in PARTS]
        labels = [] if self.labels is None else self.labels.tolist()
        return hashlib.sha256(repr((parts, labels)).encode()).hexdigest()


@functools.lru_cache(maxsize=2)  # once per process, whatever it computes
def unseen_frames(settings: FinetuneSettings, image_size: int) -> Split:
    """Simulate the domain and divide it by patient.

    Args:
        settings: Domain (several with commas between), patients, frames, data seed.
        image_size: Side of a frame in pixels.

    Returns:
        The pool that shots are drawn from, validation and test frames, `Chosen` from
        one set. They do not depend on the seed of a run.
    """
    seed = derive_seed(
        settings.data_seed, round_number=0, phase="few-shot data", site=settings.domain
    )
    held_out = settings.validation_patients + settings.test_patients
    frames = [
        simulate_frames(
            domain,
            patients=settings.train_patients + held_out,
            frames_per_patient=settings.frames_per_patient,
            image_size=image_size,
            seed=seed,
        )
        for domain in settings.domain.split(",")
    ]
    everything = Chosen.all(
        join_frames(frames) if len(frames) > 1 else frames[0], by_sequence=True
    )
    # Each domain by itself, so that every part has frames of all.
    splits = [
        split_by_count(
            everything.view(numbers),
            seed=seed,
            validation_patients=settings.validation_patients,
            test_patients=settings.test_patients,
        )
        for numbers in torch.arange(len(everything)).split(len(frames[0]))
    ]
    return Split(
        *(
            everything.view(torch.cat([getattr(one, name).numbers for one in splits]))
            for name in PARTS
        )
    )


def simulated_data(settings: FinetuneSettings, image_size: int) -> StudyData:
    """Simulate the frames of a study; see `unseen_frames`."""
    split = unseen_frames(settings, image_size)
    return StudyData(
        split, {"simulated": True, "domain": settings.domain, **_counts(split)}
    )


def folder_data(
    choice: DataChoice, settings: DataSettings, *, seed: int
) -> tuple[StudyData, StoredFrames]:
    """Read the frames of a study out of a folder and divide them.

    Args:
        choice: The folder and the parts.
        settings: How the model wants its frames.
        seed: Decides who goes where, unless the choice does.

    Returns:
        The parts, and all frames on disk.

    Raises:
        DataError: If the folder has errors, is too small for three parts, or a
            sequence is unknown or in two parts.
    """
    key = SiteKey.load_or_create(choice.key)
    # The parts say themselves if there are too few patients for them.
    spec = replace(choice.spec, min_patients=1)
    stored = load_folder(spec, settings=settings, key=key, cache=choice.cache)
    names = [one.id for one in labelled_sequences(spec, key)]
    split = divide(stored, choice, names, seed=seed)
    groups = [set(_patients(stored, part)) for part in _parts(split)]
    shared = sum(len(one & two) for one, two in _pairs(groups))
    description = {
        "simulated": False,
        "split": "chosen" if choice.train or choice.test else choice.split_by,
        "patients-in-two-parts": shared,
        "classes": list(spec.labels.classes),
        "chosen": {
            name: [names[one] for one in part.sequences.unique().tolist()]
            for name, part in zip(PARTS, _parts(split), strict=True)
        },
        **_counts(split),
    }
    return StudyData(split, description), stored


def labelled_sequences(spec: FolderSpec, key: SiteKey) -> list[SequenceEntry]:
    """Return a folder's labelled sequences in the order of their numbers.

    Args:
        spec: The folder.
        key: Of the site.

    Returns:
        The entries of the sequences 0, 1, ... of `load_folder`.
    """
    labelled = [
        one
        for one in scan_folder(spec, key).sequences
        if any(frame.annotation for frame in one.frames)
    ]
    # As `clients.data.frame_tasks.plan_tasks` numbers them.
    labelled.sort(
        key=lambda one: (
            one.patient_token,
            os.fsencode(one.frames[0].path.relative_to(spec.folder)),
        )
    )
    return labelled


def _counts(split: Split) -> dict[str, Any]:
    return {
        "frames": {
            name: len(part) for name, part in zip(PARTS, _parts(split), strict=True)
        },
        "sequences": {
            name: len(part.sequences.unique())
            for name, part in zip(PARTS, _parts(split), strict=True)
        },
    }


def _parts(split: Split) -> list[Any]:
    return [getattr(split, name) for name in PARTS]


def _patients(stored: Frames, part: Chosen) -> list[int]:
    return stored.patients[part.numbers].unique().tolist()


def _pairs(groups: list[set[int]]) -> list[tuple[set[int], set[int]]]:
    first, second, third = groups
    return [(first, second), (first, third), (second, third)]
