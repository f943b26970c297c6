"""What a teacher counts class by class, where silos annotate different devices.

A network has a logit map for every class of any site, and a silo that annotates only
catheters never hears what becomes of its guidewires. Asked about them, its model
answers all the same, and distillation teaches that answer. With `teacher_classes`
"annotated", which is ours, a class has the teachers whose silos annotate it, weighed as
if there were no others. Knows nothing of Flower.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from strategies.fedefm_settings import FedEFMSettings
from strategies.weighing import edge_weights


class Pair(NamedTuple):
    """A teacher and a class that it teaches."""

    teacher: int  # row of the scores
    label: int  # index of the class
    weight: Tensor  # (batch,), >= 0


def weigh_by_class(
    scores: Tensor,
    annotated: Tensor,
    settings: FedEFMSettings,
    generator: torch.Generator,
    *,
    wanted: Tensor | None = None,
) -> list[Pair]:
    """Weigh the teachers of every class among themselves.

    Reduced by `strategies.distillation.multishot_loss`, the pairs give the mean over
    classes of what each class alone would give with its teachers alone. Where every
    silo annotates everything, that is the loss without classes.

    Args:
        scores: (teachers, batch).
        annotated: (teachers, classes), bool: what the teachers' silos annotate.
        settings: How scores become weights, see `edge_weights`, and the reduction.
        generator: CPU source of random weights.
        wanted: (classes,), bool: what is taught at all; None = all.

    Returns:
        The pairs, by class and teacher; none of a class that nobody annotates.
    """
    is_taught = annotated.any(0)
    if wanted is not None:
        is_taught = is_taught & wanted.to(is_taught.device)
    taught = is_taught.nonzero().flatten().tolist()
    teachers_of = {
        label: tuple(annotated[:, label].nonzero().flatten().tolist())
        for label in taught
    }
    # Classes with the same teachers share random weights, as they share scores.
    weights = {
        rows: edge_weights(scores[list(rows)], settings, generator)
        for rows in dict.fromkeys(teachers_of.values())
    }
    count = sum(map(len, teachers_of.values()))
    pairs = []
    for label, rows in teachers_of.items():
        scale = 1 / len(taught)
        if settings.reduction == "mean":  # over all pairs, where the class has fewer
            scale *= count / len(rows)
        pairs += [
            Pair(row, label, scale * weight)
            for row, weight in zip(rows, weights[rows], strict=True)
        ]
    return pairs
