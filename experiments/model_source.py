"""One way to name a model: a checkpoint, an official SAM file, a registry alias.

What a command needs to use a network comes with it: how frames must be prepared, and
the card that says where it comes from. Nothing here runs code out of a file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from experiments.finetuning.classifier import labels_of, restore_classifier
from experiments.run_config import default_run_config
from models.assembly import Recipe, assemble_model, restore_model
from models.network import SegmentationNetwork
from models.registry import BUILDERS
from server.checkpoints import CheckpointError, load_foundation, recipe_of
from strategies.data_settings import DataSettings
from strategies.model_settings import read_labels

REGISTRY_PREFIX = "models:/"
OFFICIAL_SUFFIXES = (".pth", ".pt")
RANDOM = "random"


@dataclass(frozen=True)
class ModelSource:
    """A network and what has to be known to use it."""

    kind: str  # "foundation", "finetuned", "official" or "random"
    network: (
        SegmentationNetwork  # plain, on the CPU, in training mode; all of it trains
    )
    recipe: Recipe
    data: DataSettings  # how its frames are prepared; the size is never 0
    card: Mapping[str, Any]  # empty without one
    labels: tuple[str, ...] = ()  # of a classifier of whole frames, as its logits


def open_model(
    source: str, *, name: str = "", image_size: int = 0, seed: int = 0
) -> ModelSource:
    """Read the model that a user names.

    Args:
        source: Path of a `.safetensors` file with its card beside it, path of an
            official SAM or MedSAM file (`.pth`), `models:/NAME@ALIAS` or
            `models:/NAME/VERSION` of the MLflow registry, or "random".
        name: Network of an official file or of "random"; elsewhere the card knows it.
        image_size: Side in px for those two; 0 = 1024 or 128.
        seed: Of what is drawn at random.

    Returns:
        The model.

    Raises:
        CheckpointError: If there is no such model, it is a pickle, damaged, of
            another network, shape or version. The message names no path.
    """
    if source == RANDOM:
        recipe = _recipe(name or "sam-tiny", image_size or 128, seed)
        return _assembled(RANDOM, recipe)
    if source.startswith(REGISTRY_PREFIX):
        # MLflow takes seconds to import; only those with an alias should wait.
        from experiments.registry import download_model

        return _with_card(download_model(source))
    path = Path(source)
    if path.suffix in OFFICIAL_SUFFIXES:
        recipe = _recipe(name or "sam-vit-b", image_size or 1024, seed, path)
        return _assembled("official", recipe)
    if path.suffix != ".safetensors":
        raise CheckpointError(
            "A model is a .safetensors file with its card beside it, an official SAM "
            f"file (.pth), 'models:/NAME@ALIAS' or 'random', got a '{path.suffix}' "
            "file. Pickles are not read: they can run code."
        )
    return _with_card(path)


def data_settings_of(card: Mapping[str, Any], image_size: int) -> DataSettings:
    """Return how a model's frames were prepared, from its card.

    Args:
        card: Of a checkpoint; what it does not say has its default.
        image_size: Of the network, px; stands for a frame size of 0.

    Returns:
        The settings, with a frame size.
    """
    known = {**default_run_config(), **card.get("settings", {})}
    values = {
        field.name: known[DataSettings.prefix + field.name.replace("_", "-")]
        for field in fields(DataSettings)
    }
    values["frame_size"] = values["frame_size"] or image_size
    return DataSettings(**values)


def _with_card(path: Path) -> ModelSource:
    try:
        state, card = load_foundation(path)
        recipe = recipe_of(card)
        if recipe.name not in BUILDERS:
            raise CheckpointError(
                f"The card names the network '{recipe.name}', which this version of "
                "EndoFed does not know. Use the version that wrote it."
            )
        labels = labels_of(card)
        if labels:
            network = restore_classifier(state, recipe, len(labels))
        else:
            network = restore_model(state, recipe)
            labels = _labels_of_run(card)
    except FileNotFoundError:
        raise CheckpointError(
            "There is no such checkpoint. Give the path of a .safetensors file with "
            "its .json card beside it."
        ) from None
    except KeyError as error:
        raise CheckpointError(
            f"The card beside the weights lacks {error}. Copy both files again."
        ) from None
    except CheckpointError:
        raise
    except ValueError as error:  # WeightsError, or no safetensors file
        raise CheckpointError(str(error)) from None
    return ModelSource(
        kind=card.get("kind", "foundation"),
        network=network,
        recipe=recipe,
        data=data_settings_of(card, recipe.image_size),
        card=card,
        labels=labels,
    )


def _labels_of_run(card: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the data types that a federation's classifier chooses from."""
    return read_labels(card.get("settings", {}).get("model.data-types", ""))


def _recipe(
    name: str, image_size: int, seed: int, checkpoint: Path | None = None
) -> Recipe:
    return Recipe(
        name=name,
        image_size=image_size,
        seed=seed,
        checkpoint="" if checkpoint is None else str(checkpoint),
    )


def _assembled(kind: str, recipe: Recipe) -> ModelSource:
    try:
        network = assemble_model(recipe)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    return ModelSource(
        kind=kind,
        network=network,
        recipe=recipe,
        data=data_settings_of({}, recipe.image_size),
        card={},
    )
