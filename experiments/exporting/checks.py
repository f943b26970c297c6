"""Does what was exported compute what the network computes?

The measure is the largest difference of a logit, over the largest logit where that is
above 1: float32 keeps seven digits, not seven decimals.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from clients.data.simulator import MIN_IMAGE_SIZE, simulate_frames
from experiments.exporting.staging import ExportError
from experiments.model_source import ModelSource
from models.exportable import size_multiple

TOLERANCE = 1e-4
SEED = 20260701  # of the inputs; nobody trains with it


def check_inputs(source: ModelSource) -> dict[str, Tensor]:
    """Return images to compare on.

    Args:
        source: The model.

    Returns:
        By name: random ones of batch 1 and 3, simulated ones, and random ones of
        another, oblong size where the network takes it.
    """
    size = source.network.image_size
    drawn = torch.Generator().manual_seed(SEED)
    inputs = {
        "random, batch 1": torch.rand(1, 1, size, size, generator=drawn),
        "random, batch 3": torch.rand(3, 1, size, size, generator=drawn),
        "z-scores, batch 2": torch.randn(2, 1, size, size, generator=drawn),
    }
    if size >= MIN_IMAGE_SIZE:
        frames = simulate_frames(
            "phantom", patients=2, frames_per_patient=1, image_size=size, seed=SEED
        )
        inputs["simulated, batch 2"] = frames.images
    multiple = size_multiple(source.recipe.name)
    if multiple:
        shape = (2, 1, 2 * multiple, 3 * multiple)
        inputs["random, another size"] = torch.rand(shape, generator=drawn)
    return inputs


def compare(
    wanted: Callable[[Tensor], Tensor],
    found: Callable[[Tensor], Tensor],
    inputs: Mapping[str, Tensor],
    *,
    tolerance: float = TOLERANCE,
) -> dict[str, float]:
    """Compare two ways to compute the same.

    Args:
        wanted: The network.
        found: What was exported.
        inputs: Images by name.
        tolerance: Of the measure above.

    Returns:
        The measure, by name of the input.

    Raises:
        ExportError: If it is larger than the tolerance or no number.
    """
    differences = {}
    for name, images in inputs.items():
        with torch.no_grad():
            expected, got = wanted(images), found(images)
        if expected.shape != got.shape:
            raise ExportError(
                f"The exported model gave {tuple(got.shape)} in place of "
                f"{tuple(expected.shape)} ({name}); nothing was written."
            )
        scale = max(1.0, float(expected.abs().max()))
        differences[name] = float((got - expected).abs().max()) / scale
    wrong = {name: one for name, one in differences.items() if not one <= tolerance}
    if wrong:
        worst = max(wrong, key=lambda name: wrong[name])
        raise ExportError(
            f"The exported model differs from the network by {wrong[worst]:.1e} "
            f"({worst}), more than {tolerance:.0e}; nothing was written. Please report "
            "it with the name of the network."
        )
    return differences
