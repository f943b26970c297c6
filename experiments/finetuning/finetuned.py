"""A model that was adapted to somebody's frames, kept as a foundation is kept.

Adapters are folded in, so that whoever opens the file needs no peft and finds a plain
network; the card says of which model it is the child.
"""

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments.finetuning.classifier import plain_classifier
from experiments.model_source import ModelSource
from models.assembly import merged
from models.linear_probe import LinearProbe
from models.network import SegmentationNetwork
from models.transfer import PooledClassifier
from models.weights import save_weights, weights_digest
from server.checkpoints import (
    CARD_FORMAT,
    INTENDED_USE,
    LIMITS,
    installed_versions,
)
from server.journal import public_settings, write_json
from strategies.data_settings import DataSettings

FINETUNED_FILE = "finetuned.safetensors"


def save_finetuned(
    folder: Path,
    network: SegmentationNetwork,
    *,
    source: ModelSource,
    task: Mapping[str, Any],
    metrics: Mapping[str, Any],
    training: str,
) -> Path:
    """Write a finetuned network and its card, readable by `open_model`.

    Args:
        folder: Made if it is missing; earlier files of the same name are replaced.
        network: As it was trained, with or without adapters; stays as it is.
        source: What it started from. The recipe must be that of `network`.
        task: On what and how it was trained; plain JSON without paths or names.
        metrics: What it scored; plain JSON.
        training: What trained, one of `TRAINING_MODES`.

    Returns:
        Path of `finetuned.safetensors`; its card lies beside it.

    Raises:
        OSError: If the folder cannot be written.
    """
    if isinstance(network, PooledClassifier):
        plain: SegmentationNetwork = plain_classifier(network)
    else:
        plain = merged(network)
    state = plain.state_dict()
    digest = weights_digest(state)
    card = {
        **_facts(source, task),
        "weights-digest": digest,
        "training": training,
        "metrics": dict(metrics),
        "settings": _settings(source, isinstance(plain, LinearProbe)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FINETUNED_FILE
    save_weights(
        path, state, metadata={"model-name": source.recipe.name, "digest": digest}
    )
    write_json(path.with_suffix(".json"), card)
    return path


def _facts(source: ModelSource, task: Mapping[str, Any]) -> dict[str, Any]:
    """Say what the network is and where it comes from."""
    return {
        "format": CARD_FORMAT,
        "kind": "finetuned",
        "model-name": source.recipe.name,
        "image-size": source.recipe.image_size,
        # Weights are complete, so no seed shapes them: this one is of the split.
        "seed": task.get("data-seed", source.recipe.seed),
        "parent": {
            "kind": source.kind,
            "weights-digest": source.card.get("weights-digest", ""),
        },
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "intended-use": INTENDED_USE,
        "limits": LIMITS,
        "domains": _domains(source, task),
        "sites": source.card.get("sites", []),
        "task": dict(task),
        "versions": installed_versions(),
    }


def _domains(source: ModelSource, task: Mapping[str, Any]) -> list[str]:
    known = set(source.card.get("domains", []))
    return sorted(known | {task["domain"]} if task.get("domain") else known)


def _settings(source: ModelSource, is_probe: bool) -> dict[str, Any]:
    """Return the parent's settings with those that describe this network now."""
    own = {
        "model.name": source.recipe.name,
        "model.image-size": source.recipe.image_size,
        # Adapters are merged: what is stored is the plain network, or the probe.
        "model.training": "linear-probe" if is_probe else "full",
        "model.deep-supervision": source.recipe.deep_supervision,
        # A head for whole frames is told by the task of the card.
        "model.task": "segmentation",
        "model.data-types": "",
    }
    for field in fields(DataSettings):
        key = DataSettings.prefix + field.name.replace("_", "-")
        own[key] = getattr(source.data, field.name)
    return public_settings({**source.card.get("settings", {}), **own})
