"""The half-width U-Net that the FGA-Net paper compares with.

Ronneberger et al., "U-Net", MICCAI 2015, with widths 32 to 512 and transposed
convolutions: 7,763,041 parameters with one class and 54.98 of the paper's "GFLOPs" at
512 px.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.network import SegmentationNetwork, SegmentationOutput

WIDTHS = (32, 64, 128, 256, 512)


class UNet(SegmentationNetwork):
    """Five stages down, four up; two convolutions with batch normalisation each."""

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
        super().__init__()
        factor = 2 ** (len(widths) - 1)
        if image_size < factor or image_size % factor:
            raise ValueError(
                f"image_size must be a multiple of {factor}, got {image_size}."
            )
        self.image_size, self.num_classes = image_size, num_classes
        self.down = nn.ModuleList(
            double_convolution(before, after)
            for before, after in zip((3, *widths[:-1]), widths, strict=True)
        )
        self.grow, self.up = nn.ModuleList(), nn.ModuleList()
        for width, below in zip(widths[-2::-1], widths[:0:-1], strict=True):
            self.grow.append(nn.ConvTranspose2d(below, width, 2, stride=2))
            self.up.append(double_convolution(2 * width, width))
        self.head = nn.Conv2d(widths[0], num_classes, 1)

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
        features = images.expand(-1, 3, -1, -1)
        skips: list[Tensor] = []
        for number, stage in enumerate(self.down):
            features = stage(functional.max_pool2d(features, 2) if number else features)
            skips.append(features)
        deepest = features = skips.pop()
        for grow, up in zip(self.grow, self.up, strict=True):
            features = up(torch.cat([skips.pop(), grow(features)], dim=1))
        return SegmentationOutput(self.head(features), deepest)


def double_convolution(before: int, after: int) -> nn.Sequential:
    """Build two 3 x 3 convolutions with batch normalisation and ReLU each.

    Args:
        before: Channels that come in.
        after: Channels that go out, of both.

    Returns:
        A module that keeps height and width.
    """
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers.append(nn.Conv2d(channels, after, 3, padding=1, bias=False))
        layers += [nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
