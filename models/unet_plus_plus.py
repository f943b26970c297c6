"""The plain U-Net++ that the FGA-Net paper compares with: a grid of nested skips.

Zhou et al., "UNet++: A Nested U-Net Architecture for Medical Image Segmentation",
DLMIA 2018, arXiv 1807.10165, eq. (1), without deep supervision. Widths 32 to 512 and
parameter-free bilinear growth: 139.61 of the paper's "GFLOPs" at 512 px. MONAI's
`BasicUNetPlusPlus` is another network, whose features pass a convolution before or
while they grow: 125.75 or 154.08.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.frame_size import check_frame_size
from models.network import SegmentationNetwork, SegmentationOutput
from models.unet import WIDTHS, double_convolution


class UNetPlusPlus(SegmentationNetwork):
    """Five levels; every skip is a chain of nodes that see all before them."""

    def __init__(
        self, *, image_size: int, num_classes: int = 1, widths: Sequence[int] = WIDTHS
    ) -> None:
        """Build it with random weights.

        Args:
            image_size: Side of the frames, px, divisible by 2 for every level down.
            num_classes: Number of logit maps.
            widths: Channels of the levels, two at least.

        Raises:
            ValueError: If the size cannot be halved often enough.
        """
        super().__init__()
        factor = 2 ** (len(widths) - 1)
        check_frame_size(image_size, multiple=factor, smallest=2 * factor)
        self.image_size, self.num_classes = image_size, num_classes
        self.down = nn.ModuleList(
            double_convolution(before, after)
            for before, after in zip((3, *widths[:-1]), widths, strict=True)
        )
        self.grow = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        # nested[i][j] is the paper's X of level i and column j + 1.
        self.nested = nn.ModuleList(
            nn.ModuleList(
                double_convolution((column + 1) * width + below, width)
                for column in range(len(widths) - 1 - level)
            )
            for level, (width, below) in enumerate(pairwise(widths))
        )
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward_with_features(self, images: Tensor) -> SegmentationOutput:
        """Segment images; the features are those of the deepest level.

        Args:
            images: (batch, 1, size, size), float.

        Returns:
            Logits (batch, classes, size, size) and features (batch, dim, h, w).

        Raises:
            ValueError: If the images are not of that shape.
        """
        self.check_images(images)
        features = images.expand(-1, 3, -1, -1)
        rows: list[list[Tensor]] = []  # all nodes of every level so far
        for level, stage in enumerate(self.down):
            features = stage(functional.max_pool2d(features, 2) if level else features)
            rows.append([features])
        # Column after column: a node needs the one below it in the column before.
        for column in range(len(rows) - 1):
            for level in range(len(rows) - 1 - column):
                risen = self.grow(rows[level + 1][column])
                node = self.nested[level][column]  # type: ignore[index]
                rows[level].append(node(torch.cat([*rows[level], risen], dim=1)))
        return SegmentationOutput(self.head(rows[0][-1]), rows[-1][0])


def build_unet_plus_plus(*, image_size: int, num_classes: int) -> UNetPlusPlus:
    """Build the published network: 9.2 million parameters."""
    return UNetPlusPlus(image_size=image_size, num_classes=num_classes)
