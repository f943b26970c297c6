"""PEFT adapters: the small part of a LoRA run, for anyone who has the base.

A foundation has its adapters merged, so they come from a run's own accumulated
tensors. "lora" needs the base that its seed or official file gives; "lora-decoder"
trained the decoder too, which no adapter holds: there the base is written beside.
"""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.exporting.checks import SEED, compare
from experiments.exporting.staging import ExportError
from models.adapters import add_lora, load_lora
from models.assembly import Recipe, assemble_model
from models.network import SegmentationNetwork
from models.sam import Sam
from models.weights import check_weights, save_weights, weights_digest
from server.checkpoints import CARD_FORMAT
from server.journal import SETTINGS_FILE, write_json
from server.state_files import load_federation

ADAPTER_FOLDER = "adapter"
BASE_FILE = "base.safetensors"
TOLERANCE = 1e-5
WITH_ADAPTERS = ("lora", "lora-decoder")


def export_adapter(run: Path, folder: Path, *, checkpoint: str = "") -> dict[str, Any]:
    """Write the adapter of a run as peft keeps adapters, load it back and compare.

    Args:
        run: Folder of a run that kept a round.
        folder: To write to; exists.
        checkpoint: The official file that the run started from, "" if from none.

    Returns:
        For `export.json`: the base, the rank, the largest differences.

    Raises:
        ExportError: If the folder is no run with adapters, the base is another, or
            the loaded adapter computes something else.
        CheckpointError: If the run's state is damaged.
    """
    recipe = _recipe_of(run, checkpoint)
    theta = _theta_of(run)
    try:
        adapted = assemble_model(recipe)
        check_weights(theta, adapted.trainable_state(), source="the run")
        adapted.load_trainable_state(dict(theta))
        base = _base_of(recipe, theta)
    except ValueError as error:
        raise ExportError(str(error)) from None
    place = folder / ADAPTER_FOLDER
    _save_adapter(base, recipe, theta, place)
    found = load_lora(copy.deepcopy(base), place).eval()
    size = recipe.image_size
    images = torch.rand(3, 1, size, size, generator=torch.Generator().manual_seed(SEED))
    inputs = {"random, batch 1": images[:1], "random, batch 3": images}
    differences = compare(
        adapted.eval(), lambda given: found(given), inputs, tolerance=TOLERANCE
    )
    digest = weights_digest(base.state_dict())
    described = _describe_base(recipe)
    if recipe.training == "lora-decoder":
        described = f"{ADAPTER_FOLDER}/{BASE_FILE}, whose decoder the run trained"
        _save_base(base, recipe, place / BASE_FILE, digest)
    return {
        "base": described,
        "base-digest": digest,
        "network": recipe.name,
        "image-size": size,
        "rank": recipe.lora_rank,
        "load": "models.adapters.split_qkv(base), then "
        "peft.PeftModel.from_pretrained(base, 'adapter')",
        "differences": differences,
    }


def _recipe_of(run: Path, checkpoint: str) -> Recipe:
    wanted = "An adapter comes from the folder of a run with model.training 'lora'"
    try:
        settings = json.loads((run / SETTINGS_FILE).read_text(encoding="utf-8"))
        recipe = Recipe(
            name=settings["model.name"],
            image_size=settings["model.image-size"],
            seed=settings["seed"],
            training=settings["model.training"],
            lora_rank=settings["model.lora-rank"],
            checkpoint=checkpoint,
        )
    except (OSError, KeyError, TypeError, ValueError):
        raise ExportError(
            f"{wanted} or 'lora-decoder'; there is none. A foundation has its "
            "adapters merged and cannot be taken apart."
        ) from None
    if recipe.training not in WITH_ADAPTERS:
        raise ExportError(f"{wanted} or 'lora-decoder', got '{recipe.training}'.")
    if settings.get("model.checkpoint") and not checkpoint:
        raise ExportError(
            "The run started from an official SAM file, which the adapter belongs on; "
            "name it with --base."
        )
    return recipe


def _theta_of(run: Path) -> dict[str, Tensor]:
    try:
        return dict(load_federation(run).theta)
    except FileNotFoundError as error:
        raise ExportError(str(error)) from None


def _base_of(recipe: Recipe, theta: dict[str, Tensor]) -> Sam:
    """Return the network under the adapters, with what else the run trained."""
    base = assemble_model(replace(recipe, training="full"))
    if not isinstance(base, Sam):
        raise ExportError("Adapters are for the SAM family.")
    state = base.state_dict()
    trained = {name: theta[name] for name in theta if name in state}
    base.load_state_dict({**state, **trained}, strict=True)
    return base.eval()


def _save_adapter(
    base: SegmentationNetwork, recipe: Recipe, theta: dict[str, Tensor], place: Path
) -> None:
    handle = add_lora(copy.deepcopy(base), rank=recipe.lora_rank)
    own = dict(handle.get_base_model().named_parameters())
    with torch.no_grad():
        for name, tensor in theta.items():
            if ".lora_" in name:
                own[name].copy_(tensor)
    handle.save_pretrained(str(place))
    (place / "README.md").unlink(missing_ok=True)  # peft's is an empty form


def _save_base(base: Sam, recipe: Recipe, path: Path, digest: str) -> None:
    save_weights(path, base.state_dict(), metadata={"model-name": recipe.name})
    write_json(
        path.with_suffix(".json"),
        {
            "format": CARD_FORMAT,
            "kind": "foundation",
            "model-name": recipe.name,
            "image-size": recipe.image_size,
            "seed": recipe.seed,
            "weights-digest": digest,
            "settings": {"model.training": "full"},
        },
    )


def _describe_base(recipe: Recipe) -> str:
    if recipe.checkpoint:
        return f"the official SAM file, as {recipe.name} at {recipe.image_size} px"
    return (
        f"models.registry.build_model('{recipe.name}', image_size={recipe.image_size}, "
        f"seed={recipe.seed})"
    )
