"""The bounds: a SAM that is simply trained on labels, real ones or pseudo-labels.

"SAM, pseudo-labels" and "SAM, real labels" of Table I in arXiv 2410.07460. The paper
does not say how it trains them. Ours have the fine stage's budget, schedule, views and
trainable part, no prompt and no teacher, and its losses on both views:

    L = 1/2 sum over {X, A(X)} of Focal(S(.), Y) + Dice(S(.), Y),  eqs. (3) and (7)
"""

import torch
from torch import Tensor

from clients.adaptation.rivals.budget import (
    OnEpoch,
    adapted_only,
    descend_on_views,
    trainable_copy,
)
from clients.data.frames import FrameSet
from models.loss_recipes import build_sim_to_real
from models.sam import Sam
from strategies.adaptation_settings import AdaptationSettings

FOCAL_AND_DICE = build_sim_to_real(inner_weight=1.0)


def train_supervised(
    sam: Sam,
    frames: FrameSet,
    settings: AdaptationSettings,
    *,
    seed: int,
    device: torch.device,
    on_epoch: OnEpoch | None = None,
) -> Sam:
    """Train a copy of a SAM on the labels of frames, without prompts.

    Args:
        sam: Stays as it is.
        frames: With labels (upper bound) or pseudo-labels (lower bound), of the
            network's size.
        settings: Classes, trainable part and budget.
        seed: Of adapters, order and views.
        device: Where to train.
        on_epoch: See `OnEpoch`.

    Returns:
        The trained copy, on the device, in evaluation mode.

    Raises:
        DataError: If no adapted class has labels, or nothing trains.
        TrainingError: If the loss is not finite.
    """
    labelled = adapted_only(frames, settings)
    student = trainable_copy(sam, settings, mode=settings.training, seed=seed)

    def loss_of(weak: FrameSet, strong: FrameSet) -> Tensor:
        return (_label_loss(student, weak) + _label_loss(student, strong)) / 2

    descend_on_views(
        student,
        labelled,
        settings,
        seed=seed,
        device=device,
        loss_of=loss_of,
        on_epoch=on_epoch,
    )
    return student


def _label_loss(student: Sam, batch: FrameSet) -> Tensor:
    logits = student(batch.images)
    loss: Tensor = FOCAL_AND_DICE(logits, batch.masks, batch.annotated, batch.valid)
    return loss
