"""One model on the frames of all silos in one place: what a federation forgoes.

Frames, splits, batches, losses and learning rate are those that the silos themselves
would use. The optimiser is fresh in every round, as theirs are, or never, as on a tour
that carries its moments: a row with `fedefm.moments = "carried"` keeps them here, too.
So the row differs from a federation in nothing but that the frames lie together. Frames
are moved and not counted as bytes: nobody may move them.
"""

import time
from collections.abc import Sequence
from typing import Any

from clients.data.frames import FrameSet, join_frames
from clients.hospital import Hospital
from clients.optimisation import TrainPlan
from clients.sources import into_memory
from clients.training import train_on_labels
from experiments.study.budget import pooled_steps
from experiments.study.spec import Job
from models.assembly import assemble_model
from models.network import SegmentationNetwork
from server.score_names import name_scores
from strategies.accumulation import State
from strategies.evaluation import join_evaluations
from strategies.moments import Moments
from strategies.randomness import derive_seed
from strategies.settings import RunSettings

POOL = "pooled"
"""Takes the place of a site's name in seeds."""


def train_pooled(
    job: Job, settings: RunSettings, num_sites: int
) -> tuple[State, list[dict[str, Any]]]:
    """Train one model on all training frames, or none at all.

    Args:
        job: Of kind "pooled" or "untrained".
        settings: Of the run, with its sites file.
        num_sites: That the file lists.

    Returns:
        The trained tensors, and for every measured round its number, the Dice of the
        pooled validation frames, 0 bytes and the seconds of training so far. Of an
        untrained model there is only round 0.

    Raises:
        TrainingError: If the loss is not finite or the time is up.
        DataError: If a site's frames cannot be used.
    """
    hospitals = open_hospitals(settings, num_sites)
    model = assemble_model(settings.model.recipe(settings.seed))
    if job.kind == "untrained":
        return model.trainable_state(), [_point(0, model, hospitals, settings, 0.0)]
    frames = pool_frames(hospitals, settings)
    steps = pooled_steps(settings, num_sites, job.pooled_factor)
    curve, seconds = [], 0.0
    keeps = settings.strategy == "fedefm" and settings.fedefm.moments == "carried"
    moments = Moments() if keeps else None
    for number in range(1, settings.num_rounds + 1):
        plan = TrainPlan(
            steps=steps,
            learning_rate=settings.train.learning_rate_in(number, settings.num_rounds),
            settings=settings.train,
            data=settings.frames,
            seed=derive_seed(
                settings.seed, round_number=number, phase="local", site=POOL
            ),
            deadline_s=settings.phase_timeout_s * num_sites,
            task=hospitals[0].task,
            moments=moments,
        )
        began = time.perf_counter()
        moments = train_on_labels(model, frames, plan, hospitals[0].device).moments
        seconds += time.perf_counter() - began
        if settings.evaluation.is_due(number, settings.num_rounds):
            curve.append(_point(number, model, hospitals, settings, seconds))
    return model.cpu().trainable_state(), curve


def open_hospitals(settings: RunSettings, num_sites: int) -> list[Hospital]:
    """Open every site as its client would."""
    return [
        Hospital.from_node_config(
            {"partition-id": number, "num-partitions": num_sites}, settings
        )
        for number in range(num_sites)
    ]


def pool_frames(hospitals: Sequence[Hospital], settings: RunSettings) -> FrameSet:
    """Put the training frames of all sites together, in the order of their names."""
    return join_frames(
        [into_memory(one.frames_to_train(settings)) for one in hospitals]
    )


def _point(
    number: int,
    model: SegmentationNetwork,
    hospitals: Sequence[Hospital],
    settings: RunSettings,
    seconds: float,
) -> dict[str, Any]:
    found = join_evaluations(
        [
            one.task.measure(
                model,
                one.split.validation,
                settings=settings.frames,
                batch_size=settings.train.batch_size,
                device=one.device,
                measures=settings.evaluation.measures_of("validation"),
            )
            for one in hospitals
        ]
    )
    return {
        "round": number,
        "dice": name_scores("val", found)["val/dice"],
        "bytes": 0,
        "seconds": round(seconds, 3),
    }
