"""How a model lies in the registry: MLflow's format around two files of ours.

Nothing is pickled: the format names this module, and `mlflow.pyfunc.load_model` calls
`_load_pyfunc` with the folder of the files.
"""

import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.simulator import MIN_IMAGE_SIZE, simulate_frames
from experiments.exporting.onnx_export import digest_of
from experiments.model_source import ModelSource, open_model

WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "model.json"
REQUIREMENTS = ("endofed", "torch", "numpy", "safetensors")
EXAMPLE_SEED = 20260703


class RegisteredModel:
    """What MLflow calls: arrays in, arrays out."""

    def __init__(self, weights: Path) -> None:
        """Read a model.

        Args:
            weights: Of the registry, with its card beside it.

        Raises:
            CheckpointError: If the files are no model.
        """
        self._network = open_model(str(weights)).network.eval()

    def predict(
        self, images: NDArray[np.float32], params: dict[str, object] | None = None
    ) -> NDArray[np.float32]:
        """Segment images.

        Args:
            images: (batch, 1, size, size) float32, prepared as the card says.
            params: Not used; MLflow gives it.

        Returns:
            Logits (batch, classes, size, size).
        """
        with torch.no_grad():
            logits: torch.Tensor = self._network(
                torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))
            )
        return logits.numpy()


def _load_pyfunc(data_path: str) -> RegisteredModel:
    """Do what MLflow's format asks of a loader module."""
    return RegisteredModel(Path(data_path) / WEIGHTS_FILE)


def save_registered(source: ModelSource, path: Path, place: Path) -> None:
    """Write MLflow's format: two files of ours, a signature and an example.

    Args:
        source: The model.
        path: Its `.safetensors` file, with its card beside it.
        place: Folder to write; its parent is empty.
    """
    import mlflow.pyfunc
    from mlflow.models import infer_signature

    size = source.network.image_size
    image = torch.zeros(1, 1, size, size)
    if size >= MIN_IMAGE_SIZE:
        image = simulate_frames(
            "phantom",
            patients=1,
            frames_per_patient=1,
            image_size=size,
            seed=EXAMPLE_SEED,
        ).images
    example = image.numpy().round(2)  # it is kept as text
    with torch.no_grad():
        logits = source.network.eval()(torch.from_numpy(example)).numpy()
    files = place.parent / "files"
    files.mkdir()
    shutil.copyfile(path, files / WEIGHTS_FILE)
    shutil.copyfile(path.with_suffix(".json"), files / CARD_FILE)
    mlflow.pyfunc.save_model(
        str(place),
        loader_module=__name__,
        data_path=str(files),
        signature=infer_signature(example, logits),
        input_example=example,
        pip_requirements=[f"{one}=={version(one)}" for one in REQUIREMENTS],
    )


def tags_of(source: ModelSource) -> dict[str, str]:
    """Return what a version is told apart by.

    Args:
        source: The model.
    """
    scores = source.card.get("metrics", {}).get("global", {})
    dice = scores.get("test/dice") if isinstance(scores, Mapping) else None
    tags = {
        "network": source.recipe.name,
        "image-size": str(source.network.image_size),
        "kind": source.kind,
        "digest": digest_of(source),
        "parent": source.card.get("parent", {}).get("weights-digest", ""),
    }
    return tags if dice is None else {**tags, "dice": f"{dice:.4f}"}
