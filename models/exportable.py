"""A network as one plain function of images, ready to leave PyTorch.

Exported graphs hold the prompt-free pass and nothing of training. Fully convolutional
networks lose the check of their one size, so that a graph may take any that can be
halved as often as the network halves it; where positions are learned, as in every
transformer here, the size stays the network's own.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from models.network import SegmentationNetwork

SIZE_MULTIPLES = {
    "unet": 16,
    "unet-plus-plus": 16,
    "unet-plus-plus-resnet34": 32,
    "attention-unet": 16,
    "attention-unet-small": 16,
    "deeplab-v3-plus": 16,
    "fga-net": 32,
    "fga-net-small": 32,
}
"""Networks whose graphs take any size, and what the sides must be multiples of, px."""
LARGEST_BATCH = 1024
LARGEST_SIDE = 4096  # px


class Exportable(nn.Module):
    """Images in, logits out; a frozen copy of a network in evaluation mode."""

    def __init__(self, network: SegmentationNetwork, *, any_size: bool) -> None:
        """Copy a network.

        Args:
            network: Plain, without adapters; stays as it is.
            any_size: Whether frames of another size than the network's may come.
        """
        super().__init__()
        self.network = copy.deepcopy(network).cpu().eval().requires_grad_(False)
        if any_size:
            self.network.check_images = _take_any  # type: ignore[method-assign]

    def forward(self, images: Tensor) -> Tensor:
        """Map images (batch, 1, height, width) to logits (batch, classes, ...)."""
        logits: Tensor = self.network(images)
        return logits


def size_multiple(name: str) -> int:
    """Return what the sides of frames must be multiples of; 0 = one size only.

    Args:
        name: Of a network in the registry.
    """
    return SIZE_MULTIPLES.get(name, 0)


def example_images(network: SegmentationNetwork) -> Tensor:
    """Return images to trace with: two, as a batch of one would become a constant."""
    return torch.rand(2, 1, network.image_size, network.image_size)


def dynamic_shapes(name: str) -> tuple[dict[int, Any]]:
    """Return which axes of the images may vary, as `torch.export` wants it.

    Args:
        name: Of a network in the registry.

    Returns:
        For the one argument of `Exportable`: axis -> dimension.
    """
    axes: dict[int, Any] = {0: Dim("batch", min=1, max=LARGEST_BATCH)}
    multiple = size_multiple(name)
    if multiple:
        most = LARGEST_SIDE // multiple
        for axis, side in ((2, "rows"), (3, "columns")):
            axes[axis] = multiple * Dim(side, min=2, max=most)
    return (axes,)


def _take_any(images: Tensor) -> None:
    """Check nothing: the graph's own shapes are the check."""
