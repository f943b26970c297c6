"""The finished foundation model of a federation, and its card.

Weights are safetensors files; beside each lies a JSON file for people. The foundation
model's JSON file is its card (after Mitchell et al., "Model Cards for Model Reporting",
FAT* 2019): where it comes from, what it scored, what it is for and what it is not for.

This module sees weights, counts and names. It does not know which network the weights
belong to and never sees data: the digests in the card were computed by the sites.
"""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import Tensor

from models.assembly import Recipe
from models.weights import load_weights, save_weights, weights_digest
from server.journal import public_settings, write_json
from server.records import Metrics, SettingValue
from strategies.model_settings import read_labels

CHECKPOINTS_FOLDER = "checkpoints"
FOUNDATION_FILE = "foundation.safetensors"
CARD_FORMAT = 1
PACKAGES = ("endofed", "flwr", "torch", "numpy", "safetensors", "segment-anything")

INTENDED_USE = (
    "Starting point for research on segmenting catheters and guidewires in X-ray "
    "fluoroscopy, to be fine-tuned and evaluated on the user's own data."
)
LIMITS = (
    "Research use only. Not a medical device: not cleared for diagnosis, treatment or "
    "guidance of patients. The scores hold for the listed sites and their test frames; "
    "other devices, patients and X-ray systems were not tested."
)


class CheckpointError(ValueError):
    """A checkpoint does not fit its card; the message says what to do."""


@dataclass(frozen=True)
class SiteCard:
    """What a site told about the data it trained with."""

    name: str
    data_digest: str  # SHA-256 computed by the site, "" if it gave none
    num_frames: Mapping[str, int]  # by split: train, val, test
    domain: str = ""  # such as "phantom", or "human+animal" where there are several

    def to_json(self) -> dict[str, Any]:
        """Return the entry of the card."""
        return {
            "name": self.name,
            "data-digest": self.data_digest,
            "num-frames": dict(self.num_frames),
            "domain": self.domain,
        }


@dataclass(frozen=True)
class FoundationCard:
    """What the foundation model is told apart by and judged by."""

    model_name: str
    image_size: int  # px
    seed: int
    rounds: int  # federated rounds after the warm-up
    sites: tuple[SiteCard, ...]
    settings: Mapping[str, SettingValue]  # the flat run config; paths are left out
    test: Mapping[str, Metrics] = field(default_factory=dict)  # by site
    overall: Metrics = field(default_factory=dict)

    def to_json(self, *, digest: str, created: datetime) -> dict[str, Any]:
        """Return the content of `foundation.json`.

        Args:
            digest: Fingerprint of the weights, from `weights_digest`.
            created: When the card was made, with time zone.

        Returns:
            The card with kebab-case keys.
        """
        return {
            "format": CARD_FORMAT,
            "model-name": self.model_name,
            "image-size": self.image_size,
            "seed": self.seed,
            "domains": sorted(
                {
                    domain
                    for site in self.sites
                    for domain in site.domain.split("+")
                    if domain
                }
            ),
            "rounds": self.rounds,
            "weights-digest": digest,
            "created": created.astimezone(UTC).isoformat(timespec="seconds"),
            "intended-use": INTENDED_USE,
            "limits": LIMITS,
            "sites": [site.to_json() for site in self.sites],
            "metrics": {"global": self.overall, "sites": self.test},
            "settings": public_settings(self.settings),
            "versions": installed_versions(),
        }


def save_foundation(
    folder: Path,
    state: Mapping[str, Tensor],
    card: FoundationCard,
    *,
    created: datetime | None = None,
) -> Path:
    """Write the foundation model and its card.

    Args:
        folder: The run folder.
        state: Trainable tensors of the accumulated model, by name.
        card: What to say about it.
        created: When it was made, with time zone; None = now.

    Returns:
        Path of `checkpoints/foundation.safetensors`; the card is
        `foundation.json` beside it.

    Raises:
        OSError: If the folder cannot be written.
    """
    path = _checkpoints(folder) / FOUNDATION_FILE
    digest = weights_digest(state)
    content = card.to_json(digest=digest, created=created or datetime.now(UTC))
    save_weights(
        path, state, metadata={"model-name": card.model_name, "digest": digest}
    )
    write_json(path.with_suffix(".json"), content)
    return path


def load_foundation(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a foundation model and check it against its card.

    Args:
        path: `foundation.safetensors`, with its card `foundation.json` beside it.

    Returns:
        Tensors by name on the CPU, and the card with its kebab-case keys.

    Raises:
        FileNotFoundError: If there are no weights.
        CheckpointError: If the card is missing, unreadable, of another format or
            does not belong to these weights.
        ValueError: If the weights are not a safetensors file.
    """
    state = load_weights(path)
    card = _read_card(path.with_suffix(".json"))
    if card["weights-digest"] != weights_digest(state):
        raise CheckpointError(
            "The weights are not those that the card describes: their digests differ. "
            "Copy both files again from the run that made them."
        )
    return state, card


def recipe_of(card: Mapping[str, Any]) -> Recipe:
    """Return how the network of a foundation model is built.

    Args:
        card: Of `load_foundation`.

    Returns:
        The recipe without a checkpoint: the weights hold all that came from one.
    """
    settings = card.get("settings", {})
    return Recipe(
        name=card["model-name"],
        image_size=card["image-size"],
        seed=card["seed"],
        training=settings.get("model.training", "full"),
        lora_rank=settings.get("model.lora-rank", 4),
        deep_supervision=settings.get("model.deep-supervision", False),
        num_labels=len(read_labels(settings.get("model.data-types", ""))),
    )


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that shape a result."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    return versions


def _checkpoints(folder: Path) -> Path:
    checkpoints = folder / CHECKPOINTS_FOLDER
    checkpoints.mkdir(exist_ok=True)
    return checkpoints


def _read_card(path: Path) -> dict[str, Any]:
    wanted = f"A card of format {CARD_FORMAT} was wanted beside the weights"
    advice = "Copy it again from the run that made the weights."
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{wanted}, got none. {advice}") from None
    except ValueError:
        raise CheckpointError(f"{wanted}, got no JSON. {advice}") from None
    if not isinstance(card, dict) or "weights-digest" not in card:
        raise CheckpointError(f"{wanted}, got another JSON file. {advice}")
    if card.get("format") != CARD_FORMAT:
        raise CheckpointError(f"{wanted}, got format {card.get('format')}. {advice}")
    return card
