"""What a model is worth at a hospital that nobody held data of, with few labels.

A domain outside the federation gives two sets of simulated patients: fixed ones that
are only ever tested on, and a pool that labelled frames are drawn from, 1, 5, 10, ...
of them, nested. Every row of a study with one seed gets the same draws, batches and
augmentation.

Equal terms: rows are tuned, and a learning rate that suits a row's training says
nothing of how a new hospital trains, which knows none of the rows. So all finetuning
has the learning rate, its warm-up and the batch size that are the project's defaults;
network, loss and the preparation of frames are the run's. The network of the last step
is tested: nothing is chosen on test frames, and there is no validation frame to choose
on.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

import torch

from clients.data.frames import FrameSet
from clients.data.kshot import draw_shots
from clients.evaluation import evaluate
from clients.networks import receive_model
from clients.optimisation import TrainPlan
from clients.sources import SimulatedSource, load_simulated
from clients.training import train_on_labels
from experiments.run_config import default_run_config
from experiments.study.spec import Job
from models.network import SegmentationNetwork
from strategies.accumulation import State
from strategies.data_settings import DataSettings
from strategies.randomness import derive_seed
from strategies.settings import RunSettings
from strategies.train_settings import TrainSettings

TEST_PATIENTS, TEST_FRAMES = 12, 2
"""Of an unseen domain: patients that are tested on, and frames of each."""
POOL_PATIENTS, POOL_FRAMES = 25, 4
"""The pool that labelled frames are drawn from; other patients."""

FewShot = dict[str, dict[str, dict[str, list[float]]]]
"""Domain -> shots -> "dice" -> one value per draw."""


@functools.lru_cache(maxsize=8)  # a worker judges many runs on the same frames
def unseen_frames(domain: str, settings: DataSettings) -> FrameSet:
    """Simulate the patients of a domain that are only ever tested on.

    Args:
        domain: A name of the simulator's.
        settings: How frames are prepared, with their size in place of 0.

    Returns:
        The frames. They depend on nothing else: not on the seed of a run.

    Raises:
        DataError: If there is no such domain.
    """
    return _simulate(domain, settings, 0, TEST_PATIENTS, TEST_FRAMES)


@functools.lru_cache(maxsize=8)
def shot_pool(domain: str, settings: DataSettings) -> FrameSet:
    """Simulate the patients of a domain whose frames may be labelled.

    Args:
        domain: A name of the simulator's.
        settings: How frames are prepared, with their size in place of 0.

    Returns:
        The frames, of none of the patients of `unseen_frames`.

    Raises:
        DataError: If there is no such domain.
    """
    return _simulate(domain, settings, 1, POOL_PATIENTS, POOL_FRAMES)


def few_shot(
    starts: Sequence[State],
    job: Job,
    settings: RunSettings,
    device: torch.device,
) -> FewShot:
    """Finetune models on few labelled frames of new domains and test them there.

    Args:
        starts: What a hospital may start from: what travels of a model. Several are
            averaged.
        job: Its domains, numbers of shots, draws and steps.
        settings: Of the run.
        device: Where to train.

    Returns:
        Dice on the domain's test frames, pooled over frames and classes, as
        "test/dice" is.

    Raises:
        DataError: If a domain has fewer frames with a device than shots are wanted.
        WeightsError: If a start is not of the run's network.
        TrainingError: If a loss is not finite.
        ValueError: If there is no start.
    """
    if not starts:
        raise ValueError("Few-shot transfer needs a model to start from, got none.")

    def mean_dice(domain: str, shots: int, draw: int) -> float:
        how = (domain, shots, draw, job, settings, device)
        return fmean(_transfer(start, *how) for start in starts)

    draws = range(job.shot_repeats)
    return {
        domain: {
            str(shots): {"dice": [mean_dice(domain, shots, draw) for draw in draws]}
            for shots in job.shots
        }
        for domain in job.shot_domains
    }


def draw_frames(
    domain: str, settings: RunSettings, *, shots: int, draw: int
) -> FrameSet:
    """Draw the labelled frames of one finetuning, see `clients.data.kshot`.

    Args:
        domain: Whose pool.
        settings: Of the run: its seed and how frames are prepared.
        shots: How many, >= 1.
        draw: Number of the repetition, from 0.

    Returns:
        The frames. With one seed and repetition, fewer shots are the first of more.

    Raises:
        DataError: If fewer frames show a device.
    """
    pool = shot_pool(domain, settings.frames)
    seed = _seed(settings, domain, "few-shot draw", shots=0, draw=draw)
    return pool.subset(draw_shots(pool, shots, seed=seed))


def equal_terms(settings: TrainSettings) -> TrainSettings:
    """Return how a new hospital trains: the defaults in place of what rows choose."""
    defaults: Mapping[str, object] = default_run_config()
    return replace(
        settings,
        learning_rate=float(str(defaults["train.learning-rate"])),
        batch_size=int(str(defaults["train.batch-size"])),
        warmup_steps=int(str(defaults["train.warmup-steps"])),
    )


def starting_network(start: State, settings: RunSettings) -> SegmentationNetwork:
    """Build the network of a start.

    Args:
        start: What travels of a model.
        settings: Of the run.

    Returns:
        A network of its own on the CPU.

    Raises:
        WeightsError: If the weights are not of the run's network.
    """
    recipe = settings.model.recipe(settings.seed)
    return receive_model(recipe, start, source="the model to finetune")


def _transfer(
    start: State,
    domain: str,
    shots: int,
    draw: int,
    job: Job,
    settings: RunSettings,
    device: torch.device,
) -> float:
    """Finetune once and return Dice on the domain's test frames."""
    network = starting_network(start, settings)
    train = equal_terms(settings.train)
    plan = TrainPlan(
        steps=job.shot_steps,
        learning_rate=train.learning_rate,
        settings=train,
        data=settings.frames,
        seed=_seed(settings, domain, "few-shot", shots=shots, draw=draw),
        deadline_s=settings.phase_timeout_s,
    )
    labelled = draw_frames(domain, settings, shots=shots, draw=draw)
    train_on_labels(network, labelled, plan, device)
    found = evaluate(
        network,
        unseen_frames(domain, settings.frames),
        settings=settings.frames,
        batch_size=train.batch_size,
        device=device,
        measures="overlap",
    )
    return found.counts.scores()["dice"]


def _simulate(
    domain: str, settings: DataSettings, number: int, patients: int, frames: int
) -> FrameSet:
    """Simulate the first or second set of patients of a domain."""
    source = SimulatedSource(domain, patients=patients, frames_per_patient=frames)
    # No run trains on these: its frames have the phases "data" and "frames".
    phase = ("unseen", "few-shot pool")[number]
    seed = derive_seed(0, round_number=0, phase=phase, site=domain)
    return load_simulated(source, settings=settings, seed=seed, number=number)


def _seed(
    settings: RunSettings, domain: str, phase: str, *, shots: int, draw: int
) -> int:
    return derive_seed(
        settings.seed, round_number=shots, phase=phase, site=domain, owner=str(draw)
    )
