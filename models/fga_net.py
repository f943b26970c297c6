"""FGA-Net: a lightweight attention network for guidewires.

Wang et al., "Lightweight attention network for guidewire segmentation and
localization", Quant Imaging Med Surg 2025, doi 10.21037/qims-2024-2926. A six-stage
U-Net with shift and deformable attention (SDA) in its deep stages and bilateral guided
aggregation (BGA) of skips. Where text and published cost disagree, the cost decides;
each such choice is a switch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.deformable import DeformableConvolution
from models.frame_size import check_frame_size
from models.network import SegmentationNetwork, SegmentationOutput

WIDTHS = (32, 64, 128, 256, 512, 512)
"""Output channels of the encoder's stages. The paper's text says 1024 for the last;
its published cost is that of 512."""
FIRST_ATTENTION = 2  # stages 1 and 2 have none, for speed
# (rows, columns) that each eighth of the channels is fetched from.
SHIFTS = ((-1, 0), (1, 0), (0, -1), (0, 1), (1, 1), (1, -1), (-1, 1), (-1, -1))


class DoubleConvolution(nn.Sequential):
    """Twice: 3x3 convolution, batch normalisation, dropout, leaky ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, middle: int = 0, dropout: float = 0.2
    ) -> None:
        """Build it; `middle` channels between the two, 0 = as many as come out."""
        middle = middle or out_channels
        super().__init__()
        for before, after in ((in_channels, middle), (middle, out_channels)):
            self.append(nn.Conv2d(before, after, 3, padding=1, bias=False))
            self.append(nn.BatchNorm2d(after))
            self.append(nn.Dropout(dropout))
            self.append(nn.LeakyReLU(0.01, inplace=True))


def shift_eight(features: Tensor) -> Tensor:
    """Move each eighth of the channels by one pixel into another direction.

    Args:
        features: (batch, channels, height, width); channels divisible by 8.

    Returns:
        The same shape; group g at (y, x) holds what was at (y, x) + SHIFTS[g], zero
        where that lies outside.
    """
    height, width = features.shape[2:]
    padded = functional.pad(features, (1, 1, 1, 1))
    return torch.cat(
        [
            group[:, :, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
            for group, (down, right) in zip(padded.chunk(8, 1), SHIFTS, strict=True)
        ],
        dim=1,
    )


class ShiftDeformableAttention(nn.Module):
    """SDA: a gate between 0 and 1 from shifted and deformably convolved features."""

    def __init__(self, channels: int, modulated: bool = False) -> None:
        """Build it.

        Args:
            channels: Divisible by 8.
            modulated: Deformable convolution v2, as the text says; the released code
                has v1.

        Raises:
            ValueError: If the channels are not divisible by 8.
        """
        super().__init__()
        if channels % len(SHIFTS):
            raise ValueError(f"channels must be divisible by 8, got {channels}.")
        self.modulated = modulated
        self.project = nn.Conv2d(channels, channels, 1)
        self.normalise = nn.InstanceNorm2d(channels)
        self.offset = nn.Conv2d(channels, 27 if modulated else 18, 3, padding=1)
        self.deform = DeformableConvolution(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Weigh features (batch, channels, height, width) by their attention."""
        shifted = shift_eight(self.project(features))
        shifted = functional.gelu(self.normalise(shifted))
        moves = self.offset(shifted)
        mask = moves[:, 18:].sigmoid() if self.modulated else None
        deformed = self.deform(shifted, moves[:, :18], mask)
        # The layer norm over (C, H, W), as one group: it keeps the memory format.
        # Without affine parameters, which would fix the input's size.
        normed = functional.group_norm(deformed, 1)
        return features * normed.sigmoid_()


class BilateralAggregation(nn.Module):
    """BGA: a skip and the deeper features below it, each gated by the other.

    The guided aggregation of BiSeNetV2 (Yu et al., IJCV 2021) at a ratio of 2.
    """

    def __init__(self, channels: int, out_kernel: int = 3) -> None:
        """Build it.

        Args:
            channels: Of the skip and of the deeper features.
            out_kernel: Of the last convolution: 3 is what the published cost needs,
                1 is what the text says.
        """
        super().__init__()

        def convolve(kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
            return [
                nn.Conv2d(
                    channels,
                    channels,
                    kernel,
                    stride,
                    kernel // 2,
                    groups=groups,
                    bias=False,
                ),
                nn.BatchNorm2d(channels),
            ]

        def separable() -> nn.Sequential:
            mix = nn.Conv2d(channels, channels, 1, bias=False)
            return nn.Sequential(*convolve(3, groups=channels), mix)

        self.skip_keep = separable()
        self.skip_reduce = nn.Sequential(*convolve(3, stride=2))
        self.deep_grow = nn.Sequential(*convolve(3))
        self.deep_keep = separable()
        self.out = nn.Sequential(*convolve(out_kernel), nn.ReLU(inplace=True))

    def forward(self, skip: Tensor, deep: Tensor) -> Tensor:
        """Join (batch, c, h, w) and (batch, c, h / 2, w / 2) to (batch, c, h, w)."""
        size = skip.shape[2:]
        # In place where no gradient needs what was there, and sum and product in one:
        # at full size every pass over the memory costs as much as a small convolution.
        coarse = self.skip_reduce(skip) * self.deep_keep(deep).sigmoid_()
        gate = resize(self.deep_grow(deep), size).sigmoid_()
        fine = torch.addcmul(resize(coarse, size), self.skip_keep(skip), gate)
        joined: Tensor = self.out(fine)
        return joined


def resize(features: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate bilinearly with aligned corners, as the paper's decoder does."""
    return functional.interpolate(
        features, size=tuple(size), mode="bilinear", align_corners=True
    )


class FGANet(SegmentationNetwork):
    """The network: six stages down, five up, one logit map per class."""

    def __init__(
        self,
        *,
        image_size: int,
        num_classes: int = 1,
        widths: Sequence[int] = WIDTHS,
        modulated: bool = False,
        bga_out_kernel: int = 3,
        deep_supervision: bool = False,
        dropout: float = 0.2,
    ) -> None:
        """Build it with random weights.

        Args:
            image_size: Side of the frames, px, divisible by 32, at least 64 (below,
                the deepest stage would normalise a single pixel).
            num_classes: Number of logit maps; the paper has one.
            widths: Output channels of the six encoder stages; the last two are equal.
            modulated: See `ShiftDeformableAttention`.
            bga_out_kernel: See `BilateralAggregation`.
            deep_supervision: Add auxiliary heads, see `forward_with_auxiliaries`.
            dropout: Of every convolution, 0 to 1.

        Raises:
            ValueError: If size or widths do not fit.
        """
        super().__init__()
        check_frame_size(image_size, multiple=32, smallest=64)
        if len(widths) != len(WIDTHS) or widths[-1] != widths[-2]:
            raise ValueError(
                "widths must be six numbers, the last two equal (the aggregation "
                f"joins equal channels), got {tuple(widths)}."
            )
        self.image_size, self.num_classes = image_size, num_classes
        self.down = nn.ModuleList()
        for stage, width in enumerate(widths):
            before = widths[stage - 1] if stage else 3
            attend = _attention(before, modulated, stage >= FIRST_ATTENTION)
            double = DoubleConvolution(before, width, dropout=dropout)
            self.down.append(nn.Sequential(attend, double))
        self.join, self.up = nn.ModuleList(), nn.ModuleList()
        self.grow = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        for stage in range(len(widths) - 2, -1, -1):
            width, after = widths[stage], widths[max(stage - 1, 0)]
            self.join.append(BilateralAggregation(width, bga_out_kernel))
            attend = _attention(2 * width, modulated, stage >= FIRST_ATTENTION)
            double = DoubleConvolution(2 * width, after, middle=width, dropout=dropout)
            self.up.append(nn.Sequential(attend, double))
        self.head = nn.Conv2d(widths[0], num_classes, 1)
        deep = (widths[-1], *widths[-3::-1], widths[0])[:5]
        self.auxiliary = nn.ModuleList(
            nn.Conv2d(width, num_classes, 1) for width in deep if deep_supervision
        )

    def forward_with_features(self, images: Tensor) -> SegmentationOutput:
        """Segment images; the features are those of the deepest stage.

        Args:
            images: (batch, 1, size, size), float.

        Returns:
            Logits (batch, classes, size, size), features (batch, 512, size / 32, ...)
            and, in training, the logits of the auxiliary heads if it has any.

        Raises:
            ValueError: If the images are not of that shape.
        """
        stages = self._stages(images)
        auxiliaries = self._auxiliaries(stages, images) if self.training else ()
        return SegmentationOutput(self.head(stages[-1]), stages[0], auxiliaries)

    def forward_with_auxiliaries(
        self, images: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Segment images with every head, in training or not.

        Args:
            images: (batch, 1, size, size), float.

        Returns:
            The final logits and those of the auxiliary heads, deepest first, all
            (batch, classes, size, size). The paper weighs them 1/32 ... 1/2.

        Raises:
            ValueError: If the images are not of that shape.
        """
        stages = self._stages(images)
        return self.head(stages[-1]), self._auxiliaries(stages, images)

    def _auxiliaries(self, stages: list[Tensor], images: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            resize(head(features), images.shape[2:])
            for head, features in zip(self.auxiliary, stages, strict=False)
        )

    def _stages(self, images: Tensor) -> list[Tensor]:
        """Return the features of the deepest stage and of every stage on the way up."""
        self.check_images(images)
        features = images.expand(-1, 3, -1, -1)
        skips: list[Tensor] = []
        for number, stage in enumerate(self.down):
            features = stage(functional.max_pool2d(features, 2) if number else features)
            skips.append(features)
        stages = [skips.pop()]
        for join, up in zip(self.join, self.up, strict=True):
            skip, deep = skips.pop(), stages[-1]
            both = torch.cat([join(skip, deep), self.grow(deep)], dim=1)
            stages.append(up(both))
        return stages


def build_fga_net(
    *, image_size: int, num_classes: int, deep_supervision: bool = False
) -> FGANet:
    """Build the published network: 45.1 million parameters with one class."""
    return FGANet(
        image_size=image_size,
        num_classes=num_classes,
        deep_supervision=deep_supervision,
    )


def build_fga_net_small(
    *, image_size: int, num_classes: int, deep_supervision: bool = False
) -> FGANet:
    """Build FGA-Net at a quarter of its width, for a CPU."""
    return FGANet(
        image_size=image_size,
        num_classes=num_classes,
        widths=[width // 4 for width in WIDTHS],
        deep_supervision=deep_supervision,
    )


def _attention(channels: int, modulated: bool, is_deep: bool) -> nn.Module:
    return ShiftDeformableAttention(channels, modulated) if is_deep else nn.Identity()
