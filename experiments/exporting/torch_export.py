"""`torch.export`: the same graph for PyTorch programs without this package."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch

from experiments.exporting.checks import check_inputs, compare
from experiments.exporting.onnx_export import metadata_of
from experiments.exporting.staging import ExportError
from experiments.model_source import ModelSource
from models.exportable import (
    Exportable,
    dynamic_shapes,
    example_images,
    size_multiple,
)

METADATA_FILE = "endofed.json"  # inside the archive


def export_torch(source: ModelSource, path: Path) -> dict[str, Any]:
    """Write a network as a `.pt2` archive, load it back and compare.

    Args:
        source: The model; stays as it is.
        path: File to write, in a folder that exists.

    Returns:
        For `export.json`: which axes vary, the largest differences.

    Raises:
        ExportError: If the network cannot be traced or the results differ.
    """
    any_size = size_multiple(source.recipe.name) > 0
    plain = Exportable(source.network, any_size=any_size)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(
                plain,
                (example_images(source.network),),
                dynamic_shapes=dynamic_shapes(source.recipe.name),
                strict=False,
            )
    except Exception as error:  # noqa: BLE001 - tracing raises whatever it meets
        raise ExportError(
            f"torch.export cannot trace this network ({type(error).__name__}); please "
            "report it with its name."
        ) from None
    metadata = json.dumps(metadata_of(source), ensure_ascii=False)
    torch.export.save(program, path, extra_files={METADATA_FILE: metadata})
    found = torch.export.load(path).module()
    return {
        "format": f"torch.export archive of torch {torch.__version__}",
        "dynamic-batch": True,
        "size": f"any multiple of {size_multiple(source.recipe.name)} px"
        if any_size
        else f"{source.network.image_size} px",
        "differences": compare(plain, found, check_inputs(source)),
    }
