"""CE-Net: a context encoder network.

Gu et al., "CE-Net: Context Encoder Network for 2D Medical Image Segmentation", IEEE
Transactions on Medical Imaging 2019, arXiv 1903.02740. The encoder is a ResNet-34
(torchvision's, random weights), then dense atrous convolution (DAC) and residual
multi-kernel pooling (RMP), and a decoder that adds the encoder's features.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.frame_size import check_frame_size
from models.network import SegmentationNetwork, SegmentationOutput
from models.torchvision_ops import make_torchvision_importable

DEEPEST = 512  # channels that ResNet-34 ends with
POOLS = (2, 3, 5, 6)  # kernels of the multi-kernel pooling


class DenseAtrousConvolution(nn.Module):
    """DAC: four branches whose fields of view are 3, 7, 9 and 19 pixels wide.

    The branches share their convolutions, so the block has three of them and one 1x1
    convolution. (Unshared, the network would have 39 instead of 29 million
    parameters.) What two branches have in common is computed once: the published cost
    of 35.60 counts all seven atrous convolutions, these four make it 33.79.
    """

    def __init__(self, channels: int) -> None:
        """Build it for so many channels."""
        super().__init__()
        self.atrous = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=rate, dilation=rate)
            for rate in (1, 3, 5)
        )
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Add the branches to features (batch, channels, height, width)."""
        near, middle, far = self.atrous
        first = near(features)
        second = middle(first)
        branches = (
            first,
            self.mix(middle(features)),
            self.mix(second),
            self.mix(far(second)),
        )
        for branch in branches:
            features = features + functional.relu(branch)
        return features


class ResidualMultiKernelPooling(nn.Module):
    """RMP: one channel of context from each of four pooling kernels, concatenated."""

    def __init__(self, channels: int) -> None:
        """Build it for so many channels; four more come out."""
        super().__init__()
        self.reduce = nn.ModuleList(nn.Conv2d(channels, 1, 1) for _ in POOLS)

    def forward(self, features: Tensor) -> Tensor:
        """Append context to features (batch, channels, height, width).

        A kernel larger than the features shrinks to their size, which happens below
        frames of 192 px.
        """
        size = features.shape[2:]
        context = [
            functional.interpolate(
                reduce(functional.max_pool2d(features, min(kernel, *size))),
                size=size,
                mode="bilinear",
                align_corners=False,
            )
            for kernel, reduce in zip(POOLS, self.reduce, strict=True)
        ]
        return torch.cat([*context, features], dim=1)


class CENet(SegmentationNetwork):
    """The network: five stages down, context, five stages up."""

    def __init__(self, *, image_size: int, num_classes: int = 1) -> None:
        """Build it with random weights.

        Args:
            image_size: Side of the frames, px, divisible by 32, at least 64.
            num_classes: Number of logit maps.

        Raises:
            ValueError: If the size does not fit.
        """
        super().__init__()
        check_frame_size(image_size, multiple=32, smallest=64)
        self.image_size, self.num_classes = image_size, num_classes
        make_torchvision_importable()
        # Here, because torchvision takes seconds to import and few runs need it.
        from torchvision.models import resnet34

        resnet = resnet34(weights=None)
        self.first = nn.Sequential(
            resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool
        )
        self.stages = nn.ModuleList(
            [resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4]
        )
        self.context = nn.Sequential(
            DenseAtrousConvolution(DEEPEST), ResidualMultiKernelPooling(DEEPEST)
        )
        self.grow = nn.ModuleList(
            [
                _grow(DEEPEST + len(POOLS), 256),
                _grow(256, 128),
                _grow(128, 64),
                _grow(64, 64),
            ]
        )
        self.head = nn.Sequential(
            nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, num_classes, 3, padding=1),
        )

    def forward_with_features(self, images: Tensor) -> SegmentationOutput:
        """Segment images; the features are those of the last stage of the ResNet.

        Args:
            images: (batch, 1, size, size), float.

        Returns:
            Logits (batch, classes, size, size), features (batch, 512, size / 32, ...).

        Raises:
            ValueError: If the images are not of that shape.
        """
        self.check_images(images)
        features = self.first(images.expand(-1, 3, -1, -1))
        skips: list[Tensor] = []
        for stage in self.stages:
            features = stage(features)
            skips.append(features)
        deepest = skips.pop()
        features = self.context(deepest)
        for grow in self.grow:
            features = grow(features)
            if skips:
                features = features + skips.pop()
        return SegmentationOutput(self.head(features), deepest)


def _grow(before: int, after: int) -> nn.Sequential:
    """Return a block that doubles the size through a quarter of the channels."""
    middle = before // 4
    return nn.Sequential(
        nn.Conv2d(before, middle, 1),
        nn.BatchNorm2d(middle),
        nn.ReLU(),
        nn.ConvTranspose2d(middle, middle, 3, stride=2, padding=1, output_padding=1),
        nn.BatchNorm2d(middle),
        nn.ReLU(),
        nn.Conv2d(middle, after, 1),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )


def build_ce_net(*, image_size: int, num_classes: int) -> CENet:
    """Build the published network: 29.0 million parameters."""
    return CENet(image_size=image_size, num_classes=num_classes)
