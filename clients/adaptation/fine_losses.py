"""The four losses of the fine stage and their sum.

Wen et al., arXiv 2410.07460, eqs. (2) to (4) and (6) to (9). Dice is eq. (3), its sums
over the batch for each class; all look at annotated classes and valid pixels only.
Whatever a teacher decides is a target and carries no gradient.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from clients.adaptation.fine_passes import Labels, Passes
from models.embedding_loss import embedding_loss
from models.loss_recipes import build_dice, build_sim_to_real
from models.loss_targets import Targets
from strategies.adaptation_settings import AdaptationSettings, LossWeights


@dataclass(frozen=True)
class FineLosses:
    """The terms of eq. (9) without their weights; None = weight 0, not computed."""

    consistency: Tensor | None = None
    pseudo_label: Tensor | None = None
    embedding: Tensor | None = None
    prediction: Tensor | None = None

    def total(self, weights: LossWeights) -> Tensor:
        """Add up the terms, eq. (9).

        Args:
            weights: Of the phase.

        Returns:
            A scalar.

        Raises:
            ValueError: If no term with a weight was computed.
        """
        terms = [
            getattr(weights, name) * loss for name, loss in self.computed().items()
        ]
        if not terms:
            raise ValueError("A fine-stage loss needs a term with a weight, got none.")
        return torch.stack(terms).sum()

    def computed(self) -> dict[str, Tensor]:
        """Return the terms that were computed, by name."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: loss for name, loss in found.items() if loss is not None}


def needs_teacher_strong(weights: LossWeights) -> bool:
    """Say whether a loss looks at T(A(X)); all but the consistency do."""
    return weights.pseudo_label > 0 or weights.embedding > 0 or weights.prediction > 0


def fine_losses(
    passes: Passes, labels: Labels, weights: LossWeights, settings: AdaptationSettings
) -> FineLosses:
    """Compute the terms that have a weight.

    Args:
        passes: Of a batch, logits at input size.
        labels: Its pseudo-labels.
        weights: Of the phase; a term of weight 0 is not computed.
        settings: Threshold, embedding loss and inner weight.

    Returns:
        The terms, not weighted.

    Raises:
        ValueError: If shapes disagree, or T(A(X)) is missing and needed.
    """
    terms: dict[str, Callable[[Passes, Labels, AdaptationSettings], Tensor]] = {
        "consistency": consistency_loss,
        "pseudo_label": pseudo_label_loss,
        "embedding": embedding_losses,
        "prediction": prediction_loss,
    }
    return FineLosses(
        **{
            name: term(passes, labels, settings)
            for name, term in terms.items()
            if getattr(weights, name) > 0
        }
    )


def consistency_loss(
    passes: Passes, labels: Labels, settings: AdaptationSettings
) -> Tensor:
    """Hold both views of the student to the teacher's decision, L_ts of eq. (2).

    Args:
        passes: Of a batch.
        labels: Say where it counts; their masks are not used.
        settings: Give the threshold.

    Returns:
        0.5 Dice(S(A(X)), b(T(X))) + 0.5 Dice(S(X), b(T(X))), a scalar >= 0.
    """
    student = (passes.student_strong.logits, passes.student_weak.logits)
    return _half_dice(student, _decided(passes, labels, settings))


def pseudo_label_loss(
    passes: Passes, labels: Labels, settings: AdaptationSettings
) -> Tensor:
    """Hold both views of both networks to the pseudo-label, L_ws of eq. (4).

    Args:
        passes: Of a batch.
        labels: Yh.
        settings: Not used.

    Returns:
        Half the sum of four Dice losses, a scalar >= 0.
    """
    views = (
        passes.student_strong,
        passes.student_weak,
        passes.needed_teacher_strong(),
        passes.teacher_weak,
    )
    targets = Targets(labels.masks, labels.annotated, labels.valid)
    return _half_dice([view.logits for view in views], targets)


def embedding_losses(
    passes: Passes, labels: Labels, settings: AdaptationSettings
) -> Tensor:
    """Pull the student's embedding of the device to the teacher's, L_emb of eq. (6).

    Args:
        passes: Of a batch.
        labels: Yh; a device is the union of the annotated classes.
        settings: Give the kind of loss and tau.

    Returns:
        The sum over X and A(X) of `models.embedding_loss.embedding_loss`.
    """
    pairs = (
        (passes.student_weak, passes.teacher_weak),
        (passes.student_strong, passes.needed_teacher_strong()),
    )
    devices = labels.devices()
    found = [
        embedding_loss(
            student.features,
            teacher.features,
            devices,
            kind=settings.embedding_loss,
            temperature=settings.embedding_temperature,
            valid=labels.valid[:, 0],
        )
        for student, teacher in pairs
    ]
    return torch.stack(found).sum()


def prediction_loss(
    passes: Passes, labels: Labels, settings: AdaptationSettings
) -> Tensor:
    """Hold the teacher's strong view to its decision on the weak one, L_pred, eq. (8).

    Args:
        passes: Of a batch.
        labels: Say where it counts; their masks are not used.
        settings: Give the threshold and the weight of focal (eq. 7) and Dice.

    Returns:
        w Focal(T(A(X)), b(T(X))) + w Dice(T(A(X)), b(T(X))), a scalar >= 0.
    """
    logits = passes.needed_teacher_strong().logits
    weight = settings.prediction_inner_weight
    if weight == 0:
        return 0.0 * logits.sum()
    loss = build_sim_to_real(inner_weight=weight)
    return loss.of_targets(logits, _decided(passes, labels, settings))


def binarised(logits: Tensor, threshold: float) -> Tensor:
    """Decide where a device is, b() of the paper.

    Args:
        logits: Of any shape.
        threshold: A logit; 0 is a probability of 0.5.

    Returns:
        uint8 of that shape, 0 or 1, without gradient.
    """
    return (logits.detach() > threshold).to(torch.uint8)


def _decided(passes: Passes, labels: Labels, settings: AdaptationSettings) -> Targets:
    """Return b(T(X)), which counts where the pseudo-label does."""
    masks = binarised(passes.teacher_weak.logits, settings.logit_threshold)
    return Targets(masks, labels.annotated, labels.valid)


def _half_dice(predictions: Sequence[Tensor], targets: Targets) -> Tensor:
    """Add up half the Dice loss of each prediction; the 0.5 is the paper's."""
    loss = build_dice(pooling="class")
    return torch.stack(
        [0.5 * loss.of_targets(one, targets) for one in predictions]
    ).sum()
