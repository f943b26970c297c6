"""The one list of model names."""

from collections.abc import Callable
from functools import partial

import torch

from models.classes import CLASS_NAMES
from models.fga_net import build_fga_net, build_fga_net_small
from models.network import SegmentationNetwork
from models.references import REFERENCES
from models.sam_sizes import SIZES, build_sam
from models.unet import UNet

BUILDERS: dict[str, Callable[..., SegmentationNetwork]] = {
    **{name: partial(build_sam, name) for name in SIZES},
    "fga-net-small": build_fga_net_small,
    "fga-net": build_fga_net,
    "unet": UNet,
    **REFERENCES,
}


WITH_AUXILIARY_HEADS = ("fga-net-small", "fga-net")
"""Networks that can be built for deep supervision."""


def build_model(
    name: str, *, image_size: int, seed: int, deep_supervision: bool = False
) -> SegmentationNetwork:
    """Build a network whose initial weights depend on nothing but the arguments.

    The weights are drawn on the CPU, so every hospital starts from the same numbers
    whatever device it trains on, also for the parts that never travel.

    Args:
        name: One of `BUILDERS`.
        image_size: Side of the square input in pixels, divisible by 16.
        seed: Seed of the initial weights, >= 0.
        deep_supervision: Whether to add auxiliary heads.

    Returns:
        The network on the CPU, in training mode.

    Raises:
        ValueError: If the name is unknown, the size is not what the network takes
            (divisible by 16; by 32 and at least 64 for FGA-Net) or it has no
            auxiliary heads.
    """
    if name not in BUILDERS:
        raise ValueError(
            f"model.name must be one of {', '.join(BUILDERS)}, got '{name}'."
        )
    if image_size < 16 or image_size % 16:
        raise ValueError(
            f"model.image-size must be a positive multiple of 16, got {image_size}."
        )
    if deep_supervision and name not in WITH_AUXILIARY_HEADS:
        raise ValueError(
            f"model.deep-supervision is for {' and '.join(WITH_AUXILIARY_HEADS)}, "
            f"got model.name '{name}'."
        )
    heads = {"deep_supervision": True} if deep_supervision else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BUILDERS[name](
            image_size=image_size, num_classes=len(CLASS_NAMES), **heads
        )
