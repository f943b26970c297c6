"""The local steps of FedEFM's rivals: on labels, beside what their papers add."""

from clients.data.errors import DataError
from clients.hospital import Hospital
from clients.optimisation import TrainPlan, TrainReport
from clients.training import train_on_labels
from models.network import SegmentationNetwork
from strategies.accumulation import State
from strategies.messages import Job
from strategies.rivals.method import Visit
from strategies.rivals.registry import RIVALS
from strategies.settings import RunSettings


def steps_of(settings: RunSettings, silo: str, owner: str) -> int:
    """Return how many steps a task has: a visitor's copy has a number of its own."""
    is_visitor = owner not in ("", silo)
    return settings.rival.visit_steps if is_visitor else settings.train.steps


def train_as_rival(
    model: SegmentationNetwork,
    hospital: Hospital,
    settings: RunSettings,
    plan: TrainPlan,
    job: Job,
) -> tuple[TrainReport, dict[str, State]]:
    """Take the local steps of the run's method.

    Args:
        model: As received; changed in place.
        hospital: Whose labels.
        settings: Of the run; `strategy` names the method.
        plan: Steps, learning rate and seed.
        job: What came with the weights.

    Returns:
        The loss of every step, and what goes back beside the weights.

    Raises:
        DataError: If the site has no labels, or clips and noises what leaves it while
            the method sends more than weights.
        TrainingError: If the loss is not finite or the deadline passes.
    """
    rival = RIVALS[settings.strategy]
    if hospital.is_unlabelled:
        raise DataError(
            f"Hospital '{hospital.name}' has no labels, and strategy "
            f"'{settings.strategy}' has no rule for such a site. Use fedefm or fedavg."
        )
    if rival.reports_gradients and hospital.privacy.clip_norm > 0:
        raise DataError(
            f"Strategy '{settings.strategy}' sends mean gradients beside weights, "
            f"which the privacy of hospital '{hospital.name}' does not cover. Use "
            "another."
        )
    frames, device = hospital.frames_to_train(settings), hospital.device
    if rival.objective is None:
        return train_on_labels(model, frames, plan, device), {}
    received = {name: one.clone() for name, one in model.trainable_state().items()}
    objective = rival.objective(Visit(settings.rival, received, job.aids, job.owner))
    report = train_on_labels(model, frames, plan, device, objective=objective)
    return report, objective.report()
