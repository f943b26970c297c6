"""Convolutions in place of a transformer's patches.

Xiao et al., "Early Convolutions Help Transformers See Better", NeurIPS 2021: a stack of
stride-2 convolutions and a last one of 1x1 in place of the one large-stride projection.
A small transformer then learns within minutes, and thin wires keep their place within a
token.
"""

import itertools
import math

from torch import Tensor, nn

FIRST_WIDTH = 24  # channels after the first convolution; doubled by every other
GROUPS = 4


class ConvolutionalStem(nn.Module):
    """Turns images into tokens, as `patch_embed` of SAM's encoder does."""

    def __init__(self, *, patch_size: int, width: int) -> None:
        """Build it.

        Args:
            patch_size: Side of a token, px; a power of two.
            width: Channels of a token.

        Raises:
            ValueError: If the patch size is not a power of two above 1.
        """
        super().__init__()
        depth = int(math.log2(patch_size)) if patch_size > 1 else 0
        if 2**depth != patch_size or depth == 0:
            raise ValueError(
                f"patch_size must be a power of two above 1, got {patch_size}."
            )
        widths = [3, *(FIRST_WIDTH * 2**number for number in range(depth - 1)), width]
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
                nn.GroupNorm(GROUPS, outputs),  # batches differ between hospitals
                nn.GELU(),
            ]
        self.layers = nn.Sequential(*layers)
        self.proj = nn.Conv2d(width, width, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map (batch, 3, height, width) to (batch, h, w, dim)."""
        tokens: Tensor = self.proj(self.layers(images))
        return tokens.permute(0, 2, 3, 1)
