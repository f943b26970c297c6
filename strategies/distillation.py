"""Multishot distillation: what a silo learns from the models that came back.

FedEFM (arXiv 2501.16992), eqs. (2), (11) and (12), for segmentation: the classes
overlap, so the softened distributions are one Bernoulli a class and pixel, and the
loss between teacher and student is their Kullback-Leibler divergence. Knows nothing of
Flower; teachers and students are just logits and features.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from strategies.settings import FedEFMSettings
from strategies.transport import emd_similarity, pool_to_nodes


def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float
) -> Tensor:
    """Compare two segmentations at a temperature, the first term of eq. (11).

    Args:
        student_logits: (batch, classes, height, width).
        teacher_logits: The same shape; no gradient reaches it.
        temperature: T > 0 of eq. (12); larger is softer.

    Returns:
        T^2 KL(teacher || student), mean over batch, classes and pixels, >= 0, scalar.

    Raises:
        ValueError: If the shapes differ.
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"Student and teacher logits must agree, got {tuple(student_logits.shape)} "
            f"and {tuple(teacher_logits.shape)}."
        )
    student = student_logits / temperature
    teacher = teacher_logits.detach() / temperature
    soft_labels = teacher.sigmoid()
    cross_entropy = functional.binary_cross_entropy_with_logits(student, soft_labels)
    # Subtracting the teacher's own entropy makes a perfect student cost zero.
    entropy = functional.binary_cross_entropy_with_logits(teacher, soft_labels)
    return temperature**2 * (cross_entropy - entropy)


def multishot_loss(
    label_loss: Tensor,
    teacher_losses: Sequence[Tensor],
    weights: Sequence[Tensor],
    *,
    beta: float,
    settings: FedEFMSettings,
) -> Tensor:
    """Weigh what the labels say against what the teachers say, eqs. (2) and (11).

    With `weight_scope` "teacher" (default) the loss is
    beta * R_j w_j D_j + (1 - beta) L_c, with R the mean (default) or the sum over
    teachers; with "loss" the weight multiplies the labels' term too, as eq. (2) reads:
    R_j w_j [beta * sum_j D_j + (1 - beta) L_c].

    Args:
        label_loss: L_c, the loss against the site's own labels, scalar.
        teacher_losses: D_j, one `distillation_loss` a teacher, scalars.
        weights: w_j, one a teacher, scalars, >= 0.
        beta: Share of the distillation in this round, 0 to 1.
        settings: Reduction and weight scope.

    Returns:
        The loss to descend on, scalar. Without teachers it is the label loss alone.
    """
    if not teacher_losses:
        return label_loss
    losses, factors = torch.stack(list(teacher_losses)), torch.stack(list(weights))
    if settings.weight_scope == "loss":
        inner = beta * losses.sum() + (1 - beta) * label_loss
        return _reduce(factors * inner, settings.reduction)
    return (
        beta * _reduce(factors * losses, settings.reduction) + (1 - beta) * label_loss
    )


def score_teachers(
    student_features: Tensor,
    teacher_features: Mapping[str, Tensor],
    settings: FedEFMSettings,
) -> dict[str, Tensor]:
    """Score every teacher on the student's own mini-batch, eq. (3).

    Args:
        student_features: U, (batch, dim, height, width), of the batch xi_i.
        teacher_features: V of each teacher on the same batch, the same shape.
        settings: Grid, marginals, centring and gradient.

    Returns:
        The mean score over the batch of each teacher, scalar, in [-1, 1].
    """
    student_nodes = pool_to_nodes(student_features, settings.grid_size)
    return {
        teacher: emd_similarity(
            student_nodes,
            pool_to_nodes(features, settings.grid_size),
            marginals=settings.marginals,
            centred=settings.centred,
            gradient=settings.emd_gradient,
        ).score.mean()
        for teacher, features in teacher_features.items()
    }


def edge_weight(
    score: Tensor, settings: FedEFMSettings, *, generator: torch.Generator
) -> Tensor:
    """Turn a teacher's score into its weight.

    Args:
        score: In [-1, 1], scalar.
        settings: Says whether the weight is the score, one or random.
        generator: CPU source of the random weights.

    Returns:
        The weight, >= 0, scalar: a teacher that points the other way gets none. "one"
        and "random" (uniform on 0 to 1) are the controls that show what EMD adds.
    """
    if settings.edge_weight == "one":
        return torch.ones_like(score)
    if settings.edge_weight == "random":
        drawn = torch.rand((), generator=generator)
        return drawn.to(device=score.device, dtype=score.dtype)
    return score.clamp_min(0.0)


def _reduce(values: Tensor, reduction: str) -> Tensor:
    return values.mean() if reduction == "mean" else values.sum()
