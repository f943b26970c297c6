"""Multishot distillation: what a silo learns from the models that came back.

FedEFM (arXiv 2501.16992), eqs. (2), (11) and (12). For segmentation the classes
overlap, so the softened distributions are one Bernoulli a class and pixel; for whole
images they are a softmax over the classes, as published. The loss between teacher and
student is their Kullback-Leibler divergence times T^2, teachers being frozen: what eq.
(11) means by L_c of two soft distributions is not said (FedEFM defect 11). Knows
nothing of Flower; teachers and students are logits.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from strategies.fedefm_settings import FedEFMSettings


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float,
    valid: Tensor | None = None,
    classes: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Compare two segmentations at a temperature, the first term of eq. (11).

    Args:
        student_logits: (batch, classes, height, width).
        teacher_logits: The same shape; no gradient reaches it.
        temperature: T > 0 of eq. (12); larger is softer.
        valid: (batch, 1, height, width), bool; False leaves the pixel out.
        classes: (batch, classes), bool; False leaves the class of that frame out.
        weights: (batch,), >= 0; multiply what each frame costs before the mean.

    Returns:
        T^2 KL(teacher || student), mean over the batch, classes and pixels that
        count, >= 0, scalar; 0, with a gradient of zeros, when none does.

    Raises:
        ValueError: If the shapes differ.
    """
    if valid is None and classes is None and weights is None:
        divergence = _divergence(student_logits, teacher_logits, temperature, "mean")
        return temperature**2 * divergence
    shares = distillation_shares(
        student_logits,
        teacher_logits,
        temperature=temperature,
        valid=valid,
        classes=classes,
    )
    return (shares if weights is None else weights * shares).mean()


def distillation_shares(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float,
    valid: Tensor | None = None,
    classes: Tensor | None = None,
) -> Tensor:
    """Return what each frame adds to `distillation_loss`.

    Args:
        student_logits: (batch, classes, height, width).
        teacher_logits: The same shape; no gradient reaches it.
        temperature: T > 0 of eq. (12).
        valid: As in `distillation_loss`.
        classes: As in `distillation_loss`.

    Returns:
        (batch,); their mean is the loss. A frame of which less counts adds less.

    Raises:
        ValueError: If the shapes differ.
    """
    batch, num_classes, *size = student_logits.shape
    divergence = _divergence(student_logits, teacher_logits, temperature, "none")
    if valid is None and classes is None:
        return temperature**2 * divergence.flatten(1).mean(1)
    counts = _mask(valid, (batch, 1, *size), "valid", divergence)
    chosen = None if classes is None else classes[..., None, None]
    counts = counts * _mask(chosen, (batch, num_classes, 1, 1), "classes", divergence)
    total = counts.expand_as(divergence).sum()
    # `where`, not a product: what does not count may be infinite.
    known = torch.where(counts.expand_as(divergence) > 0, divergence, 0.0)
    return temperature**2 * batch * known.flatten(1).sum(1) / total.clamp_min(1.0)


def classification_distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float
) -> Tensor:
    """Compare two classifications of whole images, eqs. (11) and (12) as published.

    Args:
        student_logits: (batch, classes).
        teacher_logits: The same shape; no gradient reaches it.
        temperature: T > 0 of eq. (12).

    Returns:
        T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the batch,
        scalar, >= 0.

    Raises:
        ValueError: If the shapes differ.
    """
    shares = classification_distillation_shares(
        student_logits, teacher_logits, temperature
    )
    return shares.mean()


def classification_distillation_shares(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float
) -> Tensor:
    """Return what each frame adds to `classification_distillation_loss`.

    Args:
        student_logits: (batch, classes).
        teacher_logits: The same shape; no gradient reaches it.
        temperature: T > 0 of eq. (12).

    Returns:
        (batch,), >= 0; their mean is the loss.

    Raises:
        ValueError: If the shapes differ.
    """
    _check_shapes(student_logits, teacher_logits)
    divergence = functional.kl_div(
        (student_logits / temperature).log_softmax(1),
        (teacher_logits.detach() / temperature).log_softmax(1),
        reduction="none",
        log_target=True,
    )
    return temperature**2 * divergence.sum(1)


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
    R_j w_j [beta * sum_j D_j + (1 - beta) L_c]. Where losses or weights are given frame
    by frame, products are formed frame by frame and their mean over the batch is taken.
    FedEFM defect 8: eqs. (2) and (11) both sum over the teachers, so read literally
    each counts once for every other; by default each counts once.

    Args:
        label_loss: L_c, the loss against the site's own labels, scalar; or (batch,).
        teacher_losses: D_j, one `distillation_loss` a teacher, scalars; or its
            `distillation_shares`, (batch,).
        weights: w_j, one a teacher, scalars or (batch,), >= 0.
        beta: Share of the distillation in this round, 0 to 1.
        settings: Reduction and weight scope.

    Returns:
        The loss to descend on, scalar. Without teachers it is the label loss alone.
    """
    labels = label_loss.mean() if label_loss.ndim else label_loss
    if not teacher_losses:
        return labels
    losses, factors = _rows(teacher_losses), _rows(weights)
    if settings.weight_scope == "loss":
        inner = beta * losses.sum(0) + (1 - beta) * label_loss
        return _reduce((factors * inner).mean(1), settings.reduction)
    taught = _reduce((factors * losses).mean(1), settings.reduction)
    return beta * taught + (1 - beta) * labels


def _divergence(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, reduction: str
) -> Tensor:
    """Return KL(teacher || student) of a coin for every logit, or its mean."""
    _check_shapes(student_logits, teacher_logits)
    student = student_logits / temperature
    teacher = teacher_logits.detach() / temperature
    soft_labels = teacher.sigmoid()
    cross_entropy = functional.binary_cross_entropy_with_logits(
        student, soft_labels, reduction=reduction
    )
    # Subtracting the teacher's own entropy makes a perfect student cost zero.
    entropy = functional.binary_cross_entropy_with_logits(
        teacher, soft_labels, reduction=reduction
    )
    return cross_entropy - entropy


def _check_shapes(student_logits: Tensor, teacher_logits: Tensor) -> None:
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"Student and teacher logits must agree, got {tuple(student_logits.shape)} "
            f"and {tuple(teacher_logits.shape)}."
        )


def _mask(
    flags: Tensor | None, shape: tuple[int, ...], name: str, like: Tensor
) -> Tensor:
    """Return 1 where something counts and 0 elsewhere, after a look at the shape."""
    if flags is None:
        return like.new_ones(shape)
    if tuple(flags.shape) != shape:
        raise ValueError(
            f"'{name}' must be broadcastable as {shape}, got {tuple(flags.shape)}."
        )
    return flags.to(like)


def _rows(values: Sequence[Tensor]) -> Tensor:
    """Stack scalars or (batch,) as (teachers, 1 or batch)."""
    return torch.stack([value.reshape(-1) for value in values])


def _reduce(values: Tensor, reduction: str) -> Tensor:
    return values.mean() if reduction == "mean" else values.sum()
