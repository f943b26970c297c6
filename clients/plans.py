"""From what a run and a request say to the plan of one phase at one hospital."""

from clients.data.errors import DataError
from clients.hospital import Hospital
from clients.optimisation import TrainPlan
from strategies import messages
from strategies.moments import ADAMW, Moments, check_moments
from strategies.randomness import derive_seed
from strategies.settings import RunSettings


def plan_phase(
    settings: RunSettings,
    job: messages.Job,
    phase: str,
    hospital: Hospital,
    steps: int,
    *,
    site: str | None = None,
) -> TrainPlan:
    """Plan a phase of training.

    Args:
        settings: Of the run.
        job: What is asked.
        phase: Its name; the seed depends on it.
        hospital: Who trains.
        steps: Of the optimiser.
        site: What the seed depends on, if not on the hospital.

    Raises:
        DataError: If moments travel and the hospital's privacy does not cover them.
        WeightsError: If the moments that came cannot be used.
    """
    return TrainPlan(
        steps=steps,
        learning_rate=settings.train.learning_rate_in(
            job.round_number, settings.num_rounds
        ),
        settings=settings.train,
        data=settings.frames,
        seed=derive_seed(
            settings.seed,
            round_number=job.round_number,
            phase=phase,
            site=hospital.name if site is None else site,
            owner=job.owner,
        ),
        deadline_s=hospital.seconds_for(settings),
        task=hospital.task,
        moments=_moments(settings, job, hospital, phase),
    )


def _moments(
    settings: RunSettings, job: messages.Job, hospital: Hospital, phase: str
) -> Moments | None:
    """Read what AdamW remembers of other silos, where it travels."""
    carries = settings.strategy == "fedefm" and settings.fedefm.moments == "carried"
    if not carries or phase not in ("local", "distil"):
        return None
    if hospital.privacy.clip_norm > 0:
        raise DataError(
            "fedefm.moments = 'carried' sends moments of gradients beside weights, "
            f"which the privacy of hospital '{hospital.name}' does not cover. Set it "
            "to 'fresh'."
        )
    sent = job.aids.get(ADAMW, Moments().to_state())
    check_moments(sent, job.weights or {}, source="the traveller")
    return Moments.from_state(sent)
