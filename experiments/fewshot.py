"""What a few-shot study compares, on which frames, and what one run of it found.

A domain that no hospital of the federation had is simulated and divided by patient
into a pool, validation and test frames. From the pool come 1, 5 and 10 labelled
frames; the choice is nested, and the same for both starts. Everything here is a
function of the settings: every process that asks gets the same frames. Nothing here
trains.
"""

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from clients.data.errors import DataError
from clients.data.frames import Frames, FrameSet
from clients.data.kshot import draw_shots
from clients.data.simulator import DOMAINS, simulate_frames
from clients.data.splits import Split, split_by_count
from strategies.randomness import derive_seed, generator_from
from strategies.settings import SettingsError

STARTS = ("random", "foundation")
"""From what a run starts; the first is the baseline of every gain."""


@dataclass(frozen=True)
class FinetuneSettings:
    """A few-shot study; the same budget for every run.

    Raises:
        SettingsError: If values are out of range; all of them are listed.
    """

    domain: str = "neuro"  # not among the domains of the federation
    shots: tuple[int, ...] = (1, 5, 10)  # labelled frames, ascending
    seeds: tuple[int, ...] = (0, 1, 2)  # choice of frames, random weights, batches
    steps: int = 120  # optimiser steps
    batch_size: int = 4  # frames, drawn from the shots with replacement
    learning_rate: float = 2e-3  # peak of AdamW
    weight_decay: float = 0.01
    warmup_steps: int = 5  # linear; a cosine down to zero follows
    validate_every: int = 20  # steps between two looks at the validation frames
    cldice_weight: float = 0.0  # share of soft clDice beside soft Dice, 0 to 1
    train_patients: int = 12  # of the pool that shots are drawn from
    validation_patients: int = 4
    test_patients: int = 8
    frames_per_patient: int = 4
    data_seed: int = 0  # decides the frames and who is in which part
    overlay_frames: int = 3  # test frames in the picture, each of another patient

    def __post_init__(self) -> None:
        """Check all values together."""
        problems = [*self._list_problems(), *self._number_problems()]
        if self.domain not in DOMAINS:
            problems.append(
                f"domain must be one of {', '.join(DOMAINS)}, got '{self.domain}'"
            )
        if problems:
            raise SettingsError(
                f"{len(problems)} few-shot setting(s) are wrong:\n- "
                + "\n- ".join(problems)
            )

    def _list_problems(self) -> list[str]:
        problems = []
        for name, least in (("shots", 1), ("seeds", 0)):
            values = getattr(self, name)
            if not values or list(values) != sorted(set(values)) or values[0] < least:
                problems.append(
                    f"{name} must be different numbers >= {least} in ascending order, "
                    f"got {values}"
                )
        pool = self.train_patients * self.frames_per_patient
        if self.shots and max(self.shots) > pool:
            problems.append(
                f"shots must be at most the {pool} frames of the pool, got "
                f"{max(self.shots)}; raise train-patients or frames-per-patient"
            )
        return problems

    def _number_problems(self) -> list[str]:
        least = dict.fromkeys(("weight_decay", "warmup_steps", "data_seed"), 0)
        least |= dict.fromkeys(
            (
                "steps",
                "batch_size",
                "validate_every",
                "train_patients",
                "validation_patients",
                "test_patients",
                "frames_per_patient",
                "overlay_frames",
            ),
            1,
        )
        problems = [
            f"{name.replace('_', '-')} must be >= {minimum}, got {getattr(self, name)}"
            for name, minimum in least.items()
            if not getattr(self, name) >= minimum
        ]
        if not 0 < self.learning_rate < math.inf:
            problems.append(f"learning-rate must be > 0, got {self.learning_rate}")
        if not 0 <= self.cldice_weight <= 1:
            problems.append(f"cldice-weight must be 0 to 1, got {self.cldice_weight}")
        return problems


@dataclass(frozen=True)
class FinetuneResult:
    """One run: what was chosen on validation and measured once on test.

    Dice and clDice are pooled over test frames and classes; see `models/metrics.py`.
    """

    shots: int  # labelled frames
    start: str  # one of STARTS
    seed: int
    chosen_step: int  # with the best validation Dice; 0 = before training
    validation_dice_at_start: float
    validation_dice: float  # in the chosen step
    test_dice: float
    test_cldice: float
    test_dice_per_image: float
    test_frames: int
    missed: int  # labels, one a frame and class, without any predicted pixel
    false_alarms: int  # predictions, one a frame and class, without any label


@functools.lru_cache(maxsize=2)  # once per process, whatever it computes
def unseen_frames(settings: FinetuneSettings, image_size: int) -> Split:
    """Simulate the domain and divide it by patient.

    Args:
        settings: Domain, patients, frames and data seed.
        image_size: Side of a frame in pixels.

    Returns:
        The pool that shots are drawn from, validation and test frames. They do not
        depend on the seed of a run.
    """
    seed = derive_seed(
        settings.data_seed, round_number=0, phase="few-shot data", site=settings.domain
    )
    patients = (
        settings.train_patients + settings.validation_patients + settings.test_patients
    )
    frames = simulate_frames(
        settings.domain,
        patients=patients,
        frames_per_patient=settings.frames_per_patient,
        image_size=image_size,
        seed=seed,
    )
    return split_by_count(
        frames,
        seed=seed,
        validation_patients=settings.validation_patients,
        test_patients=settings.test_patients,
    )


def choose_shots(pool: Frames, *, shots: int, seed: int) -> FrameSet:
    """Draw the labelled frames of a run, see `clients.data.kshot`.

    Args:
        pool: Frames of the patients that are not held out.
        shots: How many, >= 1.
        seed: Of the run. With one seed, fewer shots are the first of more shots.

    Returns:
        The frames.

    Raises:
        SettingsError: If the pool has fewer frames with a device.
    """
    try:
        return pool.subset(draw_shots(pool, shots, seed=seed))
    except DataError as error:
        raise SettingsError(
            f"{error} Raise train-patients or frames-per-patient."
        ) from None


def overlay_indices(test: FrameSet, count: int) -> Tensor:
    """Choose test frames for the picture without looking at any prediction.

    Args:
        test: Test frames.
        count: How many patients to show; fewer if there are fewer.

    Returns:
        int64 numbers of frames, one of each of the first patients that show a device:
        the middle one of the patient's frames with a device.
    """
    has_device = _shows_device(test)
    candidates = has_device if bool(has_device.any()) else ~has_device
    chosen = []
    for sequence in test.sequences[candidates].unique()[:count]:
        frames = torch.nonzero(candidates & (test.sequences == sequence)).flatten()
        chosen.append(frames[len(frames) // 2])
    return torch.stack(chosen)


def run_generator(seed: int, *, shots: int, purpose: str) -> torch.Generator:
    """Make the generator of one purpose of one run; both starts share its numbers.

    Args:
        seed: Of the run.
        shots: Labelled frames of the run; 0 for what all numbers of shots share.
        purpose: What the numbers are for.

    Returns:
        A generator on the CPU.
    """
    return generator_from(
        derive_seed(seed, round_number=shots, phase="few-shot", site=purpose)
    )


def _shows_device(frames: FrameSet) -> Tensor:
    """Return bool (frames,): is at least one pixel labelled?"""
    return (frames.masks > 0).flatten(1).any(dim=1)
