"""The frames of an adaptation: labelled source, unlabelled target, and held-out truth.

The target's masks, where there are any, are kept apart: `Target.unlabelled` is all that
training sees of it. Truth is for scores, and for the one row that says so ("real").
Frames are divided by patient, where nobody knows patients by sequence, never below.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from clients.data.catalogue import Catalogue, FolderSpec, SequenceEntry
from clients.data.errors import DataError
from clients.data.folders import load_folder
from clients.data.frames import FrameSet, join_frames
from clients.data.identity import SiteKey
from clients.data.scan import scan_folder
from clients.data.simulator import is_domain, simulate_frames
from experiments.adaptation.plan import StudyPlan
from experiments.finetuning.split import DataChoice, divide
from strategies.data_settings import DataSettings
from strategies.randomness import derive_seed, generator_from


@dataclass(frozen=True)
class TargetFile:
    """A file of the target folder and what its results are called."""

    path: Path = field(repr=False)
    name: str  # pseudonym of its sequence and number of its first frame


@dataclass(frozen=True)
class Target:
    """The frames to adapt to and those to test on, both with their truth."""

    adaptation: FrameSet
    test: FrameSet | None  # None = nothing is held out
    description: dict[str, Any]  # plain JSON, without names
    files: tuple[TargetFile, ...] = ()  # of a folder

    @cached_property
    def unlabelled(self) -> FrameSet:
        """Return what training may see: no mask, no class annotated."""
        return without_labels(self.adaptation)

    def first(self, count: int, *, seed: int) -> "Target":
        """Adapt to fewer frames, drawn so that fewer are the first of more.

        Args:
            count: Frames; 0 or more than there are = all.
            seed: Of the choice.

        Returns:
            The target with the same test frames.
        """
        available = len(self.adaptation)
        if count == 0 or count >= available:
            return self
        order = torch.randperm(available, generator=generator_from(seed))
        chosen = order[:count].sort().values
        return replace(self, adaptation=self.adaptation.subset(chosen))


def without_labels(frames: FrameSet) -> FrameSet:
    """Return frames as if nobody had ever looked for a device in them.

    Args:
        frames: With or without masks.

    Returns:
        The same images, sequences, patients and valid regions.
    """
    return replace(
        frames,
        masks=torch.zeros_like(frames.masks),
        annotated=torch.zeros_like(frames.annotated),
    )


def has_truth(frames: FrameSet | None, classes: Sequence[int]) -> bool:
    """Tell whether scores in some classes can be computed.

    Args:
        frames: Of the target; None = there are none.
        classes: Numbers of the classes.

    Returns:
        True if one of them was annotated on a frame.
    """
    return frames is not None and bool(frames.annotated[:, list(classes)].any())


def source_frames(
    plan: StudyPlan,
    domains: Sequence[str],
    choice: DataChoice | None,
    settings: DataSettings,
) -> FrameSet:
    """Return labelled frames to learn from.

    Args:
        plan: Sizes and the data seed.
        domains: Simulated ones: `adapt.source-domains`.
        choice: A labelled folder instead.
        settings: How frames are prepared.

    Returns:
        Of a folder at most as many frames as the domains would have.

    Raises:
        DataError: If a domain is unknown or the folder cannot be read.
    """
    seed = derive_seed(plan.data_seed, round_number=0, phase="adaptation", site="")
    if choice is not None:
        key = SiteKey.load_or_create(choice.key)
        spec = replace(choice.spec, min_patients=1)
        stored = load_folder(spec, settings=settings, key=key, cache=choice.cache)
        most = plan.source_patients * plan.source_frames_per_patient
        order = torch.randperm(len(stored), generator=generator_from(seed))
        return stored.subset(order[:most].sort().values)
    return join_frames(
        [
            simulate_frames(
                domain,
                patients=plan.source_patients,
                frames_per_patient=plan.source_frames_per_patient,
                image_size=settings.frame_size,
                seed=seed,
            )
            for domain in domains
        ]
    )


def simulated_target(plan: StudyPlan, size: int) -> Target:
    """Simulate a target; its first patients are the test ones.

    Args:
        plan: Domain, sizes and data seed.
        size: Side of the frames, px.

    Returns:
        The frames with their exact truth. More patients to adapt to change no other.

    Raises:
        DataError: If the domain is unknown.
    """
    if not is_domain(plan.target):
        raise DataError(
            "--target must be a folder with frames or a simulated domain, and what "
            "you named is neither."
        )
    everything = simulate_frames(
        plan.target,
        patients=plan.test_patients + plan.target_patients,
        frames_per_patient=plan.target_frames_per_patient,
        image_size=size,
        seed=derive_seed(plan.data_seed, round_number=0, phase="target", site=""),
    )
    is_test = everything.patients < plan.test_patients
    target = Target(
        adaptation=everything.subset(~is_test),
        test=everything.subset(is_test),
        description={"simulated": True, "domain": plan.target},
    )
    return _counted(target)


def folder_target(
    plan: StudyPlan, choice: DataChoice, settings: DataSettings
) -> Target:
    """Read a target out of somebody's folder.

    Args:
        plan: Largest number of frames to adapt to, and the data seed.
        choice: The folder and its parts; what its split calls validation adapts, too.
            Of an unlabelled folder all frames adapt.
        settings: How frames are prepared.

    Returns:
        The frames, without truth if there are no masks or none shall be opened.

    Raises:
        DataError: If the folder has errors, or too few sequences to hold some out.
    """
    key = SiteKey.load_or_create(choice.key)
    spec = replace(choice.spec, min_patients=1)
    catalogue = scan_folder(spec, key)
    if not any(one.annotation for entry in catalogue.sequences for one in entry.frames):
        spec = replace(spec, unlabelled=True)
    stored = load_folder(spec, settings=settings, key=key, cache=choice.cache)
    names = [one.id for one in used_sequences(catalogue, spec)]
    adaptation, test = torch.arange(len(stored)), None
    if not spec.unlabelled:
        split = divide(stored, choice, names, seed=plan.data_seed)
        adaptation = torch.cat([split.train.numbers, split.validation.numbers])
        test = split.test.numbers
    adaptation = _few(adaptation.sort().values, plan)
    chosen = {"train": adaptation} | ({} if test is None else {"test": test})
    description = {
        "simulated": False,
        "split": "none" if test is None else choice.split_by,
        "classes": list(spec.labels.classes),
        "chosen": {
            part: [names[one] for one in stored.sequences[numbers].unique().tolist()]
            for part, numbers in chosen.items()
        },
    }
    held_out = None if test is None else stored.subset(test)
    files = _files(catalogue, spec)
    target = Target(stored.subset(adaptation), held_out, description, files)
    return _counted(target)


def used_sequences(catalogue: Catalogue, spec: FolderSpec) -> list[SequenceEntry]:
    """Return the sequences of a folder in the order of their numbers.

    Args:
        catalogue: Of the folder.
        spec: With `unlabelled` set where masks are not opened.

    Returns:
        The entries of the sequences 0, 1, ... of `load_folder`.
    """
    used = [one for one in catalogue.sequences if any(map(spec.uses, one.frames))]
    # As `clients.data.frame_tasks.plan_tasks` numbers them.
    used.sort(
        key=lambda one: (
            one.patient_token,
            os.fsencode(one.frames[0].path.relative_to(spec.folder)),
        )
    )
    return used


def _few(numbers: torch.Tensor, plan: StudyPlan) -> torch.Tensor:
    """Take no more frames than memory and the method want, evenly over the folder."""
    most = plan.max_frames
    if len(numbers) <= most:
        return numbers
    return numbers[torch.linspace(0, len(numbers) - 1, most).round().long()]


def _files(catalogue: Catalogue, spec: FolderSpec) -> tuple[TargetFile, ...]:
    """List the files that hold the frames, each once, under pseudonyms."""
    found: dict[Path, str] = {}
    for entry in catalogue.sequences:
        for frame in entry.frames:
            if spec.uses(frame):
                found.setdefault(frame.path, f"{entry.id}-{frame.number:04d}")
    return tuple(TargetFile(path, name) for path, name in found.items())


def _counted(target: Target) -> Target:
    parts = {"adaptation": target.adaptation, "test": target.test}
    counts = {
        name: {
            "frames": 0 if part is None else len(part),
            "sequences": 0 if part is None else len(part.sequences.unique()),
        }
        for name, part in parts.items()
    }
    return replace(target, description={**target.description, **counts})
