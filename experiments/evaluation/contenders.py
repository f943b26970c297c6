"""The models of one evaluation: opened, named, and known to want the same frames."""

import hashlib
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from clients.data.errors import DataError
from experiments.evaluation.frames import loading_settings
from experiments.model_source import REGISTRY_PREFIX, ModelSource, open_model
from models.classes import CLASS_NAMES
from models.weights import weights_digest
from strategies.data_settings import DataSettings

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,23}")


def open_contenders(
    sources: Sequence[str],
    labels: Sequence[str],
    *,
    network: str = "",
    image_size: int = 0,
    seed: int = 0,
) -> dict[str, ModelSource]:
    """Open the models of an evaluation.

    Args:
        sources: What `open_model` takes, one or more.
        labels: What tables call them; empty = A, B, C ...
        network: Of official files and random weights.
        image_size: Of those, px; 0 = their default.
        seed: Of random weights.

    Returns:
        The models by label, in order.

    Raises:
        CheckpointError: If a model cannot be opened.
        DataError: If labels do not fit, a model is named twice or segments nothing,
            or models want different frames, so that nothing could be compared.
    """
    names = list(labels) or list(string.ascii_uppercase[: len(sources)])
    _check_labels(names, len(sources))
    found = {}
    for name, source in zip(names, sources, strict=True):
        found[name] = open_model(source, name=network, image_size=image_size, seed=seed)
    _check_task(found)
    _check_distinct(found)
    _check_same_frames(found)
    return found


def classes_of(models: Mapping[str, ModelSource]) -> tuple[str, ...]:
    """Return the classes that all models know.

    Args:
        models: By label.

    Returns:
        In the order of CLASS_NAMES; a card that names none knows all.

    Raises:
        DataError: If there is no such class.
    """
    known = [_classes(source.card) for source in models.values()]
    common = tuple(name for name in CLASS_NAMES if all(name in one for one in known))
    if not common:
        raise DataError(
            "The models have no class in common: "
            + "; ".join(
                f"{label} knows {', '.join(one)}"
                for label, one in zip(models, known, strict=True)
            )
            + ". Evaluate them one by one."
        )
    return common


def digest_of(source: ModelSource) -> str:
    """Return the fingerprint of all weights of a model, 64 hexadecimal digits."""
    return weights_digest(source.network.state_dict())


def describe(label: str, source: ModelSource) -> dict[str, Any]:
    """Return what a report says of a model: plain JSON, no path."""
    return {
        "label": label,
        "kind": source.kind,
        "network": source.recipe.name,
        "image-size": source.recipe.image_size,
        "frame-size": source.data.frame_size,
        "seed": source.card.get("seed", source.recipe.seed),
        # A foundation's card has the digest of what travels between hospitals.
        "weights-digest": source.card.get("weights-digest") or digest_of(source),
        "all-weights-digest": digest_of(source),
    }


def printable_source(label: str, source: str) -> str:
    """Return what a command line may say of a model: no path."""
    is_safe = source == "random" or source.startswith(REGISTRY_PREFIX)
    return source if is_safe else f"MODEL-{label}"


def shared_settings(models: Mapping[str, ModelSource]) -> DataSettings:
    """Return how the frames of all models are loaded."""
    return loading_settings(next(iter(models.values())).data)


def _classes(card: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the classes that a card says its model was finetuned for."""
    task = card.get("task") or {}
    data = task.get("data") if isinstance(task, Mapping) else None
    for place in (card, task, data):
        named = place.get("classes") if isinstance(place, Mapping) else None
        if isinstance(named, list) and named:
            return tuple(name for name in CLASS_NAMES if name in named) or ("none",)
    return CLASS_NAMES


def _check_labels(names: Sequence[str], wanted: int) -> None:
    if len(names) != wanted or len(set(names)) < len(names):
        raise DataError(
            f"--label wants a name of its own for each of {wanted} model(s), at most "
            f"{len(string.ascii_uppercase)} without labels."
        )
    if not all(LABEL.fullmatch(name) for name in names):
        raise DataError(
            "--label wants up to 24 letters, digits, dots, dashes or underlines."
        )


def _check_task(models: Mapping[str, ModelSource]) -> None:
    for label, source in models.items():
        task = source.card.get("task")
        kind = task.get("kind", "segment") if isinstance(task, Mapping) else "segment"
        if source.labels or kind != "segment":
            raise DataError(
                f"Model {label} was trained to classify whole frames; only models that "
                "segment can be measured against masks. Its scores stand in its card, "
                "and `endofed predict` writes its probabilities."
            )


def _check_distinct(models: Mapping[str, ModelSource]) -> None:
    seen: dict[str, str] = {}
    for label, source in models.items():
        how = replace(source.data, augmentation="none")
        found = hashlib.sha256(f"{digest_of(source)} {how}".encode()).hexdigest()
        if found in seen:
            raise DataError(
                f"Models {seen[found]} and {label} are the same weights; name each "
                "model once."
            )
        seen[found] = label


def _check_same_frames(models: Mapping[str, ModelSource]) -> None:
    first, *others = models.items()
    ours = loading_settings(first[1].data)
    for label, source in others:
        theirs = loading_settings(source.data)
        if theirs == ours:
            continue
        apart = ", ".join(
            f"{name.replace('_', '-')} {getattr(ours, name)} and {value}"
            for name, value in vars(theirs).items()
            if value != getattr(ours, name)
        )
        raise DataError(
            f"Models {first[0]} and {label} want different frames ({apart}), so their "
            "scores cannot be compared. Evaluate them one by one."
        )
