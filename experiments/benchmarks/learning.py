"""Do the networks learn? All of them, on the same simulated frames, in minutes.

    endofed benchmark learning --networks sam-tiny,fga-net-small

Patients of several simulated hospitals are pooled and divided into training,
validation and test patients. Every network gets the same frames, number of steps and
seeds, and is tested once, with its last weights. Its learning rate is that of its
family, chosen on validation frames. Numbers reached on simulated frames say nothing
about patients, and a few hundred steps do not rank networks that need more.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from clients.data.frames import Frames, FrameSet, join_frames
from clients.data.identity import patient_token
from clients.data.simulator import simulate_frames
from clients.data.splits import Split, split_by_patient
from clients.evaluation import evaluate
from clients.optimisation import TrainPlan
from clients.training import train_on_labels
from experiments.run_config import default_run_config
from models.cost import count_parameters
from models.network import SegmentationNetwork
from models.registry import build_model
from strategies.evaluation import Evaluation
from strategies.settings import RunSettings, SettingsError

DOMAINS = ("human", "animal", "phantom", "simulation")
PHASES = 7  # parts of a training, with a falling learning rate and a look after each
WARMUP_STEPS = 8  # of every phase, whose optimiser knows nothing of the one before
NO_DEADLINE_S = 7 * 24 * 3600.0
SCORES = ("dice", "cldice")

LEARNING_RATES = {"sam-tiny": 6e-3, "fga-net": 6e-3, "unet": 4e-3}
"""Family -> its peak, a coarse choice by pooled validation Dice at 128 px, seed 0.

After 150 batches of 8: sam-tiny 0.653, 0.675, 0.690 and 0.524 with 2e-3, 4e-3, 8e-3
and 1.6e-2; fga-net-small 0.637 and 0.506 with 1.2e-2 and 2.4e-2. More batches:
fga-net-small 0.605 after 300 with 4e-3, 0.647 after 350 with 1.2e-2. With 6e-3 it has
0.653 after 400 batches of 4, but 0.497 after 200 of 8: the same frames in more steps
help. sam-tiny has 0.699 there, its transformers at the full rate; after 200 and 700
batches of 4 it has 0.616 and 0.755 so, and 0.647 and 0.758 with a tenth, which is the
default of `train.transformer-rate` since. After 60 of 8: unet 0.486 and 0.397 with
4e-3 and 1.2e-2.
"""
OTHER_LEARNING_RATE = 1e-3
"""Of all other networks: a cautious number, not tuned."""


@dataclass(frozen=True)
class Study:
    """What all networks of one run have in common."""

    domains: tuple[str, ...] = DOMAINS
    patients: int = 50  # of each domain
    frames_per_patient: int = 2
    image_size: int = 128  # px
    steps: int = 700  # optimiser steps
    batch_size: int = 4  # frames
    loss: str = "bce-dice-cldice"
    data_seed: int = 0  # of frames and split; the same for all seeds of the networks


@dataclass(frozen=True)
class Look:
    """What validation said after some steps."""

    step: int
    train_loss: float | None  # mean of the steps since the last look
    validation_loss: float
    dice: float  # pooled over frames and classes
    cldice: float


@dataclass(frozen=True)
class Learned:
    """One network trained from one seed; scores are 0 to 1."""

    network: str
    seed: int
    parameters: int
    learning_rate: float
    steps: int
    seconds: float  # in training, without validation
    frames_per_second: float  # in training
    looks: tuple[Look, ...]  # from the untrained network to the last step
    validation: dict[str, float]
    test: dict[str, float]


def pooled_split(study: Study) -> Split:
    """Simulate the frames of a study and divide them by patient.

    Args:
        study: Domains, patients, frames and size.

    Returns:
        Training, validation and test frames; no patient is in two of them. A patient's
        place does not depend on which other domains there are.

    Raises:
        DataError: If a domain is unknown or a number is too small.
    """
    parts = [_simulate(domain, study) for domain in study.domains]
    return split_by_patient(join_frames(parts), seed=study.data_seed)


def learning_rate_of(network: str) -> float:
    """Return the peak learning rate of a network's family.

    Args:
        network: A name in the registry.

    Returns:
        That of `LEARNING_RATES`; a small build has that of the full one.
    """
    return LEARNING_RATES.get(network.removesuffix("-small"), OTHER_LEARNING_RATE)


def settings_of(
    network: str, study: Study, learning_rate: float | None = None
) -> RunSettings:
    """Return a federation's default settings with those of the study.

    Args:
        network: A name in the registry.
        study: Size, steps and loss.
        learning_rate: Peak; None = that of the family.

    Returns:
        The settings, checked.

    Raises:
        SettingsError: If a setting is wrong, or the network cannot take such frames.
    """
    settings = RunSettings.from_run_config(
        {
            **default_run_config(),
            "model.name": network,
            "model.image-size": study.image_size,
            "train.steps": study.steps,
            "train.batch-size": study.batch_size,
            "train.warmup-steps": WARMUP_STEPS,
            "train.learning-rate": (
                learning_rate_of(network) if learning_rate is None else learning_rate
            ),
            "train.loss": study.loss,
        }
    )
    try:
        build_model(network, image_size=study.image_size, seed=0)
    except ValueError as error:
        raise SettingsError(f"'{network}' cannot be built: {error}") from None
    return settings


def learn(
    settings: RunSettings,
    split: Split,
    *,
    seed: int,
    device: torch.device,
    progress: Callable[[Look], None] = lambda _: None,
) -> Learned:
    """Train a network, watch it on validation frames, test its last weights once.

    Args:
        settings: See `settings_of`.
        split: The same for all networks.
        seed: Of weights, batches and augmentation, >= 0.
        device: Where to train.
        progress: Told every look at validation.

    Returns:
        What was measured.

    Raises:
        TrainingError: If the loss is not finite.
    """
    model = build_model(
        settings.model.name, image_size=settings.model.image_size, seed=seed
    )

    def measure(frames: Frames) -> Evaluation:
        return _measure(model, frames, settings, device)

    validated = measure(split.validation)
    looks = [_look(0, None, validated)]
    progress(looks[0])
    seconds = 0.0
    for plan in _plans(settings, seed):
        started = time.perf_counter()
        report = train_on_labels(model, split.train, plan, device)
        seconds += time.perf_counter() - started  # the losses were read: all is done
        validated = measure(split.validation)
        step = looks[-1].step + plan.steps
        looks.append(_look(step, statistics.fmean(report.losses), validated))
        progress(looks[-1])
    seen = settings.train.steps * min(settings.train.batch_size, len(split.train))
    return Learned(
        network=settings.model.name,
        seed=seed,
        parameters=count_parameters(model),
        learning_rate=settings.train.learning_rate,
        steps=settings.train.steps,
        seconds=seconds,
        frames_per_second=seen / seconds,
        looks=tuple(looks),
        validation=validated.counts.scores(),
        test=measure(split.test).counts.scores(),
    )


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample's standard deviation, None of a single value."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return statistics.fmean(values), deviation


def to_json(study: Study, split: Split, results: Sequence[Learned]) -> dict[str, Any]:
    """Return everything for a file.

    Args:
        study: What the networks had in common.
        split: The frames.
        results: Of all networks and seeds.

    Returns:
        The study, the sizes of the parts and every number of every network.
    """
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    return {
        "study": asdict(study),
        "parts": {
            name: {
                "frames": len(frames),
                "patients": len(frames.patients.unique()),
                "digest": frames.digest(),
            }
            for name, frames in parts.items()
        },
        "results": [asdict(one) for one in results],
    }


def _simulate(domain: str, study: Study) -> FrameSet:
    frames = simulate_frames(
        domain,
        patients=study.patients,
        frames_per_patient=study.frames_per_patient,
        image_size=study.image_size,
        seed=study.data_seed,
    )
    # Every domain counts its patients from 0; here they are others.
    tokens = [patient_token(f"{domain} {number}") for number in frames.patients]
    return replace(frames, patients=torch.tensor(tokens))


def _plans(settings: RunSettings, seed: int) -> Iterator[TrainPlan]:
    total, phases = settings.train.steps, min(PHASES, settings.train.steps)
    for phase in range(phases):
        yield TrainPlan(
            steps=total * (phase + 1) // phases - total * phase // phases,
            learning_rate=settings.train.learning_rate_in(phase, phases - 1),
            settings=settings.train,
            data=settings.frames,
            seed=1000 * seed + phase,
            deadline_s=NO_DEADLINE_S,
        )


def _measure(
    model: SegmentationNetwork,
    frames: Frames,
    settings: RunSettings,
    device: torch.device,
) -> Evaluation:
    return evaluate(
        model,
        frames,
        settings=settings.frames,
        batch_size=settings.train.batch_size,
        device=device,
        measures="overlap",
    )


def _look(step: int, train_loss: float | None, found: Evaluation) -> Look:
    scores = found.counts.scores()
    return Look(step, train_loss, found.loss, scores["dice"], scores["cldice"])
