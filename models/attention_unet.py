"""Attention U-Net: a U-Net whose skips are gated by the features below them.

Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", MIDL 2018,
arXiv 1804.03999. The modules are MONAI's `AttentionUnet`, which merges with one
convolution a level where the network in the FGA-Net paper's table has two: 227.62
against 266.53 of its "GFLOPs".
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.frame_size import check_frame_size
from models.network import SegmentationNetwork, SegmentationOutput

WIDTHS = (64, 128, 256, 512, 1024)
"""Full width, as in the table of the FGA-Net paper, whose U-Net has half of it."""


class AttentionUNet(SegmentationNetwork):
    """MONAI's network behind our interface; its parameters keep MONAI's names."""

    def __init__(
        self, *, image_size: int, num_classes: int = 1, widths: Sequence[int] = WIDTHS
    ) -> None:
        """Build it with random weights.

        Args:
            image_size: Side of the frames, px, divisible by 2 for every stage down.
            num_classes: Number of logit maps.
            widths: Output channels of the stages.

        Raises:
            ValueError: If the size cannot be halved often enough.
        """
        # Here, because MONAI takes seconds to import and few runs need it.
        from monai.networks.nets.attentionunet import AttentionUnet

        super().__init__()
        factor = 2 ** (len(widths) - 1)
        check_frame_size(image_size, multiple=factor, smallest=2 * factor)
        self.image_size, self.num_classes = image_size, num_classes
        self.model = AttentionUnet(
            spatial_dims=2,
            in_channels=3,
            out_channels=num_classes,
            channels=tuple(widths),
            strides=(2,) * (len(widths) - 1),
        ).model

    def forward_with_features(self, images: Tensor) -> SegmentationOutput:
        """Segment images; the features are those of the deepest stage.

        Args:
            images: (batch, 1, size, size), float.

        Returns:
            Logits (batch, classes, size, size) and features (batch, dim, h, w).

        Raises:
            ValueError: If the images are not of that shape.
        """
        self.check_images(images)
        first, levels, head = self.model
        features, deepest = _through(levels, first(images.expand(-1, 3, -1, -1)))
        return SegmentationOutput(head(features), deepest)


def _through(level: Any, features: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - MONAI's recursive AttentionLayer; nn.Module would hide its parts
    """Pass one level and all below as MONAI does, and keep the deepest features."""
    below = level.submodule
    if isinstance(below, nn.Sequential):  # this level's convolutions and the next level
        lower, deepest = _through(below[1], below[0](features))
    else:  # the bottom
        lower = deepest = below(features)
    risen = level.upconv(lower)
    gated = level.attention(g=risen, x=features)
    return level.merge(torch.cat([gated, risen], dim=1)), deepest


def build_attention_unet(*, image_size: int, num_classes: int) -> AttentionUNet:
    """Build the network of full width: 31.7 million parameters."""
    return AttentionUNet(image_size=image_size, num_classes=num_classes)


def build_attention_unet_small(*, image_size: int, num_classes: int) -> AttentionUNet:
    """Build Attention U-Net at a quarter of its width, for a CPU."""
    widths = [width // 4 for width in WIDTHS]
    return AttentionUNet(image_size=image_size, num_classes=num_classes, widths=widths)
