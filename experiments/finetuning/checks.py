"""What must hold before a few-shot study trains anything."""

from collections.abc import Mapping
from typing import Any

import torch

from experiments.finetuning.data import StudyData
from experiments.finetuning.fewshot import FinetuneError, FinetuneSettings, shot_numbers
from experiments.finetuning.labels import label_shots, labelled_part
from experiments.model_source import ModelSource
from models.weights import weights_digest


def source_facts(source: ModelSource) -> dict[str, Any]:
    """Say which model a study began with, without paths."""
    digest = source.card.get("weights-digest")
    return {
        "kind": source.kind,
        "model-name": source.recipe.name,
        "image-size": source.recipe.image_size,
        "weights-digest": digest or weights_digest(source.network.state_dict()),
        "domains": list(source.card.get("domains", [])),
    }


def check_shots(data: StudyData, settings: FinetuneSettings) -> None:
    """Refuse more shots than there are frames, before anything is trained.

    Args:
        data: Of the study.
        settings: With the shots.

    Raises:
        SettingsError: If there are fewer frames; it says how many.
    """
    most = max(settings.shots)  # ALL is 0
    if most == 0:
        return
    if settings.task == "classify":
        label_shots(labelled_part(data, "train")[1], most, seed=settings.seeds[0])
    else:
        shot_numbers(data.split.train, shots=most, seed=settings.seeds[0])


def check_unseen(card: Mapping[str, Any], domain: str) -> None:
    """Refuse a foundation that was trained on the domain.

    Args:
        card: Of the foundation.
        domain: What to finetune on; several with commas between.

    Raises:
        FinetuneError: If a site had the domain, or the card does not say which
            domains there were.
    """
    if "domains" not in card or "sites" not in card:
        raise FinetuneError(
            "The foundation's card must list its domains and sites, or nobody can "
            "tell whether a domain is unseen. Use a foundation made by this platform."
        )
    seen = set(card["domains"])
    for site in card["sites"]:
        seen.update(site.get("domain", "").split("+"))
    for one in domain.split(","):
        if one in seen:
            raise FinetuneError(
                f"The domain '{one}' is not unseen: the foundation was trained on "
                f"{', '.join(sorted(seen - {''}))}. Finetune on another domain."
            )


def choose_device(device: str) -> str:
    """Return "cpu" or "cuda" for "auto", "cpu" or "cuda".

    Raises:
        FinetuneError: If it is another word, or CUDA is asked for and absent.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise FinetuneError(f"device must be auto, cpu or cuda, got '{device}'.")
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise FinetuneError(
            "device = 'cuda' was asked for, but this process sees no GPU. "
            "Use device = 'auto'."
        )
    return "cuda" if has_gpu and device != "cpu" else "cpu"
