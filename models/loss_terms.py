"""The terms that segmentation losses are mixed of.

Each is a small frozen object that turns evidence into one number per group (a group is
an (image, class) entry, a class of the batch, or the batch); what does not count has
been taken out of the evidence before. Knows nothing of training.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.loss_targets import Evidence
from models.soft_skeleton import soft_skeleton

# Keeps every ratio finite; an empty label with an empty prediction costs nothing.
_SMOOTHING = 1.0

Term = Callable[[Evidence], Tensor]
"""One number per group of the evidence, (groups)."""


@dataclass(frozen=True)
class CrossEntropyTerm:
    """Binary cross-entropy on logits, mean over pixels.

    Attributes:
        positive_weight: Factor on device pixels, > 0; 1 is the plain form.
    """

    positive_weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a weight that would reward misses."""
        if not self.positive_weight > 0:
            raise ValueError(
                f"positive_weight must be > 0, got {self.positive_weight}."
            )

    def __call__(self, evidence: Evidence) -> Tensor:
        """Return the mean of each group."""
        losses = _cross_entropy(evidence)
        if self.positive_weight != 1.0:
            losses = losses * (1.0 + (self.positive_weight - 1.0) * _labels(evidence))
        return evidence.mean(losses)


@dataclass(frozen=True)
class FocalTerm:
    """Focal loss on logits, mean over pixels: a (1 - p_t)^g BCE, p_t = exp(-BCE).

    Attributes:
        alpha: 0 to 1.
        gamma: 0, or >= 1 (between them the gradient is infinite at p_t = 1).
        balanced: True weighs device pixels by alpha, others by 1 - alpha (Lin et al.,
            ICCV 2017, eq. 5); False weighs every pixel by alpha (sim-to-real, eq. 7).
        of_mean: Take the mean of BCE first and focus that one number, as the code of
            WeSAM does; only for the unbalanced form.
    """

    alpha: float = 0.25
    gamma: float = 2.0
    balanced: bool = True
    of_mean: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers outside their ranges."""
        if not 0.0 <= self.alpha <= 1.0:
            raise ValueError(f"alpha must lie between 0 and 1, got {self.alpha}.")
        if not (self.gamma == 0.0 or self.gamma >= 1.0):
            raise ValueError(f"gamma must be 0 or >= 1, got {self.gamma}.")
        if self.balanced and self.of_mean:
            raise ValueError("A focal loss of the mean cannot be balanced by pixels.")

    def __call__(self, evidence: Evidence) -> Tensor:
        """Return the mean of each group."""
        cross_entropy = _cross_entropy(evidence)
        if self.of_mean:
            cross_entropy = evidence.mean(cross_entropy)
        # 1 - exp(-x) through expm1 stays exact for sure, right pixels.
        focus = (-torch.expm1(-cross_entropy)).pow(self.gamma)
        losses = focus * cross_entropy
        if self.of_mean:
            return self.alpha * losses
        if not self.balanced:
            return self.alpha * evidence.mean(losses)
        labels = _labels(evidence)
        weights = self.alpha * labels + (1.0 - self.alpha) * (1.0 - labels)
        return evidence.mean(weights * losses)


@dataclass(frozen=True)
class DiceTerm:
    """Soft Dice: 1 - (2 sum(p y) + 1) / (sum p + sum y + 1).

    Attributes:
        squared: Take sum p^2 + sum y^2 below (V-Net; FGA-Net's paper, not its code).
    """

    squared: bool = False

    def __call__(self, evidence: Evidence) -> Tensor:
        """Return the loss of each group, in [0, 1)."""
        probabilities, labels = evidence.probabilities, _labels(evidence)
        overlap = evidence.total(probabilities * labels)
        if self.squared:
            probabilities, labels = probabilities.square(), labels.square()
        total = evidence.total(probabilities) + evidence.total(labels)
        return 1.0 - (2.0 * overlap + _SMOOTHING) / (total + _SMOOTHING)


@dataclass(frozen=True)
class CentrelineDiceTerm:
    """Soft clDice: 1 - 2 Tp Ts / (Tp + Ts), see `losses.soft_cldice_loss`.

    Attributes:
        iterations: Erosions of the soft skeleton, >= 1.
    """

    iterations: int

    def __post_init__(self) -> None:
        """Refuse a skeleton without iterations."""
        if self.iterations < 1:
            raise ValueError(
                f"skeleton_iterations must be >= 1, got {self.iterations}."
            )

    def __call__(self, evidence: Evidence) -> Tensor:
        """Return the loss of each group, in [0, 1)."""
        lines = soft_skeleton(
            evidence.probabilities,
            iterations=self.iterations,
            valid=evidence.targets.valid,
        )
        label_lines = evidence.targets.lines(self.iterations)
        precision = _covered(evidence, lines, _labels(evidence))
        sensitivity = _covered(evidence, label_lines, evidence.probabilities)
        return 1.0 - 2.0 * precision * sensitivity / (precision + sensitivity)


@dataclass(frozen=True)
class SkeletonRecallTerm:
    """Skeleton recall: the share of the label's tube that is predicted.

    Attributes:
        shifted: Add 1 to the published -(sum(p t) + 1) / (sum t + 1), so that a
            perfect prediction costs 0, not -1. The gradient is the same.
    """

    shifted: bool = True

    def __call__(self, evidence: Evidence) -> Tensor:
        """Return the loss of each group, in [0, 1) if shifted, else in [-1, 0)."""
        recall = _covered(evidence, evidence.targets.tubes, evidence.probabilities)
        return 1.0 - recall if self.shifted else -recall


def _labels(evidence: Evidence) -> Tensor:
    return evidence.targets.labels


def _cross_entropy(evidence: Evidence) -> Tensor:
    return functional.binary_cross_entropy_with_logits(
        evidence.logits, evidence.targets.labels, reduction="none"
    )


def _covered(evidence: Evidence, lines: Tensor, region: Tensor) -> Tensor:
    """Return the smoothed share of `lines` that lies in `region`, one a group."""
    inside = evidence.total(lines * region)
    return (inside + _SMOOTHING) / (evidence.total(lines) + _SMOOTHING)
