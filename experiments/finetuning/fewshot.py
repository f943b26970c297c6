"""What a few-shot study compares, and what one run of it found.

From the training part of somebody's frames come 1, 5, 10, ... labelled ones; the
choice is nested, and the same for every method and start. Everything here is a
function of the settings. Where frames come from stands in
`experiments/finetuning/data.py`; nothing here trains.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from clients.data.errors import DataError
from clients.data.frames import Frames, FrameSet
from clients.data.kshot import draw_shots
from clients.data.simulator import is_domain
from models.classes import CLASS_NAMES
from models.loss_recipes import BUILDERS as LOSSES
from models.registry import BUILDERS as NETWORKS
from models.training_modes import TRAINING_MODES
from strategies.randomness import derive_seed, generator_from
from strategies.settings import SettingsError

STARTS = ("random", "foundation")
"""From what a run starts; the first is the baseline of every gain."""
ALL = 0
"""In the place of a number of shots: every labelled frame of the training part."""
TASKS = ("segment", "classify")
SCORES = {
    "segment": ("dice", "cldice"),
    "classify": ("macro-f1", "balanced-accuracy"),
}
"""The two scores of a task that tables and figures show; the first decides."""
SCORE_TITLES = {
    "dice": "Dice",
    "cldice": "clDice",
    "macro-f1": "macro F1",
    "balanced-accuracy": "balanced accuracy",
}


class FinetuneError(RuntimeError):
    """The study cannot be done; the message says what to change."""


@dataclass(frozen=True)
class FinetuneSettings:
    """A few-shot study; the same budget for every run.

    Raises:
        SettingsError: If values are out of range; all of them are listed.
    """

    domain: str = "neuro"  # simulated; not among the domains of the federation
    shots: tuple[int, ...] = (1, 5, 10)  # labelled frames, ascending, ALL at the end
    seeds: tuple[int, ...] = (0, 1, 2)  # choice of frames, random weights, batches
    starts: tuple[str, ...] = STARTS
    methods: tuple[str, ...] = ("full",)  # what trains, of TRAINING_MODES
    network: str = ""  # another one, whose encoder starts from the model's; "" = none
    task: str = "segment"  # or "classify": one label for the whole image
    label: str = "guidewire"  # to classify simulated frames by; a class or "domain"
    steps: int = 120  # optimiser steps, at most
    batch_size: int = 4  # frames; fewer shots are in a batch several times
    learning_rate: float = 2e-3  # peak of AdamW
    # Of the learning rate, for encoder weights that were learnt before; new weights,
    # adapters and random starts have 1. None = 0.1.
    encoder_learning_rate_scale: float | None = None
    weight_decay: float = 0.01
    warmup_steps: int = 5  # linear; a cosine down to zero follows
    clip_norm: float = 1.0  # of the gradient
    validate_every: int = 20  # steps between two looks at the validation frames
    patience: int = 4  # looks without a better one, once above 0, before a run stops
    loss: str = "bce-dice-cldice"  # a key of models.loss_recipes.BUILDERS
    cldice_weight: float = 0.0  # share of soft clDice beside soft Dice, 0 to 1
    lora_rank: int = 4
    train_patients: int = 12  # simulated, of the pool that shots are drawn from
    validation_patients: int = 4
    test_patients: int = 8
    frames_per_patient: int = 4
    data_seed: int = 0  # decides the frames and who is in which part
    overlay_frames: int = 3  # test frames in the picture, each of another patient

    def __post_init__(self) -> None:
        """Check all values together."""
        problems = [
            *self._list_problems(),
            *self._choice_problems(),
            *self._number_problems(),
        ]
        if problems:
            raise SettingsError(
                f"{len(problems)} few-shot setting(s) are wrong:\n- "
                + "\n- ".join(problems)
            )

    @property
    def encoder_scale(self) -> float:
        """Return the factor on the learning rate of encoder weights learnt before."""
        scale = self.encoder_learning_rate_scale
        return 0.1 if scale is None else scale

    def _list_problems(self) -> list[str]:
        problems = []
        numbers = self.shots[:-1] if self.shots[-1:] == (ALL,) else self.shots
        for name, values, least in (
            ("shots", numbers, 1),
            ("seeds", self.seeds, 0),
        ):
            given = getattr(self, name)
            ascending = list(values) == sorted(set(values))
            if not given or not ascending or (values and values[0] < least):
                problems.append(
                    f"{name} must be different numbers >= {least} in ascending order, "
                    f"got {given}"
                )
        for name, allowed in (("starts", STARTS), ("methods", TRAINING_MODES)):
            given = getattr(self, name)
            if not given or len(set(given)) < len(given) or set(given) - set(allowed):
                problems.append(
                    f"{name} must be different ones of {', '.join(allowed)}, "
                    f"got {', '.join(given) or 'none'}"
                )
        return problems

    def _choice_problems(self) -> list[str]:
        problems = []
        if not all(map(is_domain, self.domain.split(","))):
            problems.append(
                "domain must be one of the simulator's domains or random-N, "
                f"got '{self.domain}'"
            )
        for name, allowed in (
            ("task", TASKS),
            ("loss", LOSSES),
            ("label", (*CLASS_NAMES, "domain")),
        ):
            if getattr(self, name) not in allowed:
                problems.append(
                    f"{name} must be one of {', '.join(allowed)}, "
                    f"got '{getattr(self, name)}'"
                )
        if self.network and self.network not in NETWORKS:
            problems.append(
                f"network must be one of {', '.join(NETWORKS)}, got '{self.network}'"
            )
        if self.task == "segment" and "," in self.domain:
            problems.append("several domains are for the task classify only")
        return problems

    def _number_problems(self) -> list[str]:
        least = dict.fromkeys(("weight_decay", "warmup_steps", "data_seed"), 0)
        counts = (
            "steps batch_size validate_every patience lora_rank train_patients "
            "validation_patients test_patients frames_per_patient overlay_frames"
        )
        least |= dict.fromkeys(counts.split(), 1)
        problems = [
            f"{name.replace('_', '-')} must be >= {minimum}, got {getattr(self, name)}"
            for name, minimum in least.items()
            if not getattr(self, name) >= minimum
        ]
        for name in ("learning_rate", "encoder_learning_rate_scale", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                problems.append(f"{name.replace('_', '-')} must be > 0, got {value}")
        if not 0 <= self.cldice_weight <= 1:
            problems.append(f"cldice-weight must be 0 to 1, got {self.cldice_weight}")
        return problems


@dataclass(frozen=True)
class FinetuneTask:
    """One run of the study."""

    shots: int  # or ALL
    method: str  # what trains
    start: str  # one of STARTS
    seed: int

    @property
    def name(self) -> str:
        """Return it as a name for people and files."""
        return f"{self.method}-{self.start}-{shots_text(self.shots)}-seed{self.seed}"


@dataclass(frozen=True)
class FinetuneResult:
    """One run: what was chosen on validation and measured once on test.

    Dice and clDice are pooled over test frames and classes; see `models/metrics.py`.
    """

    shots: int  # labelled frames, or ALL
    start: str  # one of STARTS
    seed: int
    chosen_step: int  # with the best validation score; 0 = before training
    validation_at_start: float  # Dice, or macro F1
    validation: float  # in the chosen step
    scores: Mapping[str, float]  # on the test frames
    test_frames: int
    method: str = "full"
    steps: int = 0  # taken before the run stopped
    curve: tuple[Mapping[str, float], ...] = field(default=(), compare=False)

    @property
    def task(self) -> FinetuneTask:
        """Return which run this is."""
        return FinetuneTask(self.shots, self.method, self.start, self.seed)


def shots_text(shots: int) -> str:
    """Return a number of shots for people: "5" or "all"."""
    return "all" if shots == ALL else str(shots)


def shots_order(shots: int) -> float:
    """Return what sorts numbers of shots, ALL behind every number."""
    return math.inf if shots == ALL else shots


def choose_shots(pool: Frames, *, shots: int, seed: int) -> FrameSet:
    """Draw the labelled frames of a run, see `clients.data.kshot`.

    Args:
        pool: Frames of the patients that are not held out.
        shots: How many, >= 1, or ALL.
        seed: Of the run. With one seed, fewer shots are the first of more shots.

    Returns:
        The frames.

    Raises:
        SettingsError: If the pool has fewer frames with a device.
    """
    return pool.subset(shot_numbers(pool, shots=shots, seed=seed))


def shot_numbers(pool: Frames, *, shots: int, seed: int) -> Tensor:
    """Do what `choose_shots` does without reading the frames; int64 (shots,)."""
    if shots == ALL:
        return torch.arange(len(pool))
    try:
        return draw_shots(pool, shots, seed=seed)
    except DataError as error:
        raise SettingsError(
            f"{error} The training part has {len(pool)} frames in all; 'all' takes "
            "every one. In simulation, raise train-patients or frames-per-patient."
        ) from None


def overlay_indices(test: Frames, count: int) -> Tensor:
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
    return generator_from(run_seed(seed, shots=shots, purpose=purpose))


def run_seed(seed: int, *, shots: int, purpose: str) -> int:
    """Return the seed of `run_generator`."""
    return derive_seed(seed, round_number=shots, phase="few-shot", site=purpose)


def _shows_device(frames: Frames) -> Tensor:
    """Return bool (frames,): is at least one pixel labelled?"""
    parts = torch.arange(len(frames)).split(64)  # frames in memory at once
    return torch.cat(
        [(frames.subset(part).masks > 0).flatten(1).any(dim=1) for part in parts]
    )
