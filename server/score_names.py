"""From what the hospitals measured to named scores such as "test/dice".

Sums are added over the hospitals before anything is divided, so every score of all
frames is what it would be with the frames in one place.
"""

import math
from collections.abc import Mapping
from statistics import pstdev

from models.classes import CLASS_NAMES
from strategies.evaluation import Evaluation, join_evaluations

SCORE_NAMES = ("dice", "cldice", "dice.catheter", "dice.guidewire", "dice-per-image")
"""The scores that are followed over the rounds, out of all that could be."""

CLASS_SCORE_NAMES = (
    "pooled.dice",
    "pooled.cldice",
    "pooled.iou",
    "device-image.hd95-px",
    "device-image.assd-px",
    "device-image.breaks",
    "device-image.tip-error-px",
    "pooled.auc",
)
"""The scores of each class, "test/catheter/pooled.iou", where all were measured.

Distances, breaks and tips only over the frames with a device: elsewhere they are 0 or
not a number.
"""


def name_scores(split: str, evaluation: Evaluation) -> dict[str, float | None]:
    """Compute the scores that are followed.

    Args:
        split: "val" or "test", the first part of the names.
        evaluation: What a hospital measured, or all of them.

    Returns:
        The value by name, such as "val/dice"; None where there is none. Of labels of
        whole frames "val/accuracy" and the like instead.
    """
    if evaluation.labels.names:  # of whole frames: there are no pixels
        shares = evaluation.labels.scores()
        return {f"{split}/{name}": value for name, value in shares.items()}
    scores = evaluation.counts.scores()
    named = {f"{split}/{name}": _known(scores[name]) for name in SCORE_NAMES}
    for label in evaluation.classes:
        found = evaluation.scores(label)
        for name in CLASS_SCORE_NAMES:
            named[f"{split}/{label}/{name}"] = _known(found[name])
    return named


def name_all_scores(split: str, evaluation: Evaluation) -> dict[str, float | None]:
    """Compute every score of every class, by names such as "test/catheter/pooled.auc".

    Args:
        split: "val" or "test", the first part of the names.
        evaluation: What a hospital measured, or all of them.

    Returns:
        The value by name; None where no frame has one.
    """
    if evaluation.labels.names:
        counts = evaluation.labels.to_dict()
        named = {f"{split}/{name}": number for name, number in counts.items()}
        return name_scores(split, evaluation) | named
    return {
        f"{split}/{label}/{name}": _known(value)
        for label in CLASS_NAMES
        for name, value in evaluation.scores(label).items()
    }


def summarise(
    split: str, evaluations: Mapping[str, Evaluation]
) -> dict[str, float | None]:
    """Compute the scores of all sites together and how fair they are.

    Args:
        split: "val" or "test", the first part of the names.
        evaluations: By site, not empty.

    Returns:
        The scores of the union of all sites' frames (sums are added, so the server
        gets what it would get from the pooled frames), the worst site's Dice or
        accuracy and its standard deviation over the sites.
    """
    named = [name_scores(split, one) for one in evaluations.values()]
    followed = headline_of(evaluations)
    by_site = [one.get(f"{split}/{followed}") for one in named]
    known = [value for value in by_site if value is not None]
    prefix = "" if split == "val" else f"{split}/"
    return {
        **name_scores(split, join_evaluations(list(evaluations.values()))),
        f"{prefix}fair/worst_site_{followed}": min(known) if known else None,
        f"{prefix}fair/std": pstdev(known) if known else None,
    }


def headline_of(evaluations: Mapping[str, Evaluation]) -> str:
    """Return the one score of these evaluations: "dice", or "accuracy" of labels."""
    return "accuracy" if any(e.labels.names for e in evaluations.values()) else "dice"


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
