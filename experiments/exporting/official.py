"""Official SAM keys: a file for `segment_anything` and what is built on it.

Its builders are for 1024 px, so tables of positions are interpolated to that size, as
they are when an official file is read at another one. What this project's networks
have beyond SAM has no place in the format, and such networks are refused.
"""

from pathlib import Path
from typing import Any

import torch

from experiments.exporting.staging import ExportError
from experiments.model_source import ModelSource
from models.registry import build_model
from models.sam import Sam
from models.sam_checkpoint import (
    OWN_PARTS,
    load_official,
    official_state,
    save_official,
)

OFFICIAL_SIZE = 1024  # px, of `sam_model_registry`
BUILDERS = {"sam-vit-b": "vit_b", "sam-vit-l": "vit_l", "sam-vit-h": "vit_h"}


def export_official(source: ModelSource, path: Path) -> dict[str, Any]:
    """Write a network under SAM's original keys.

    Args:
        source: A SAM without parts of its own.
        path: File to write (`.pth`), in a folder that exists.

    Returns:
        For `export.json`: the builder that takes it, the size, which of its masks are
        the classes.

    Raises:
        ExportError: If the network is no SAM or has more than SAM.
    """
    model = _plain_sam(source)
    builder = BUILDERS[source.recipe.name]
    save_official(model, path)
    resized = model.image_size != OFFICIAL_SIZE
    if resized:
        large = build_model(source.recipe.name, image_size=OFFICIAL_SIZE, seed=0)
        if not isinstance(large, Sam):  # for the type checker
            raise ExportError(f"'{source.recipe.name}' is no SAM any more.")
        load_official(large, path)
        save_official(large, path)
    written = torch.load(path, map_location="cpu", weights_only=True)
    kept = official_state(model)
    if written.keys() != kept.keys():
        raise ExportError("The written file lacks keys; please report it.")
    return {
        "builder": f"segment_anything.sam_model_registry['{builder}'](checkpoint=...)",
        "size": f"{OFFICIAL_SIZE} px"
        + (f", positions interpolated from {model.image_size} px" if resized else ""),
        "class-masks": {
            "tokens": list(model.class_tokens),
            "note": "with multimask_output=True, mask t - 1 is the class of token t",
        },
        "tensors": len(written),
    }


def _plain_sam(source: ModelSource) -> Sam:
    """Refuse what the format cannot hold."""
    model = source.network
    if not isinstance(model, Sam):
        raise ExportError(
            f"Official SAM keys are for the SAM family, got '{source.recipe.name}'. "
            "Export it with --to onnx."
        )
    own = sorted(
        {
            name.split(".")[0]
            for name in model.state_dict()
            if name.startswith(OWN_PARTS)
        }
    )
    if own:
        raise ExportError(
            f"'{source.recipe.name}' has parts that official SAM has no keys for "
            f"({', '.join(own)}), and its outputs would change without them. Export it "
            "with --to onnx, or train sam-vit-b."
        )
    return model
