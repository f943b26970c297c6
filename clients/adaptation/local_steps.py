"""Local steps of a site without labels: the fine stage in place of a label loss.

Wen et al., arXiv 2410.07460: the model that arrives is the student, a copy of it the
teacher, prompted with the boxes of the pseudo-labels if it is a SAM. Plain torch; knows
nothing of Flower.
"""

import copy
from dataclasses import replace

import torch

from clients.adaptation.fine_descent import Descent
from clients.adaptation.fine_stage import FineStage
from clients.data.frames import FrameSet
from clients.optimisation import TrainPlan, TrainReport
from models.network import SegmentationNetwork
from strategies.adaptation_settings import AdaptationSettings

CLIP_NORM = 1.0
"""As in `clients.optimisation.take_step`."""


def train_on_pseudo_labels(
    model: SegmentationNetwork,
    frames: FrameSet,
    plan: TrainPlan,
    device: torch.device,
    *,
    settings: AdaptationSettings,
) -> TrainReport:
    """Train a model by steps of the fine stage: local and overseas steps.

    Args:
        model: The student, changed in place; ends on the device. What of it trains is
            what trains of the run's network.
        frames: Of `clients.adaptation.site_labels.label_site`.
        plan: Steps and optimiser are the run's, as at sites with labels: AdamW with its
            learning rates, warm-up, weight decay, batch size and clipping, so that
            neither kind of site drowns the other.
        device: Where to train.
        settings: Give the losses, and how the steps are divided into the phases with
            and without pseudo-labels (`warmup_epochs` of `epochs`).

    Returns:
        The loss of every step, eq. (9).

    Raises:
        TrainingError: If the loss is not finite or the deadline passes.
        DataError: If no frame has a pseudo-label.
    """
    stage = FineStage(
        copy.deepcopy(model),
        model,
        replace(
            settings,
            learning_rate=plan.learning_rate,
            ramp_steps=plan.settings.warmup_steps,
            weight_decay=plan.settings.weight_decay,
            batch_size=plan.settings.batch_size,
        ),
        seed=plan.seed,
        device=device,
        descent=Descent(
            transformer_rate=plan.settings.transformer_rate,
            clip_norm=CLIP_NORM,
            decoupled_decay=True,
        ),
    )
    report = stage.run_steps(frames, plan.steps, deadline_s=plan.deadline_s)
    return TrainReport(losses=list(report.step_losses))
