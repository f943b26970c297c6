"""SAM's encoder with learnable prompt layers and a plain decoder.

The coarse network of arXiv 2410.07460 (SAM from simulation to real), after Learnable
Ophthalmology SAM: the frozen encoder gets a small convolutional branch before every
block, and its features go through a light decoder. With ViT-B and two classes
3,764,274 parameters train.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.network import SegmentationNetwork, SegmentationOutput
from models.sam import Sam
from models.torchvision_ops import make_torchvision_importable

make_torchvision_importable()

from segment_anything.modeling.common import LayerNorm2d  # noqa: E402 - as above

REDUCTION = 4  # of the channels inside a prompt layer
SCALES = (1, 2, 3)  # dilations of the decoder's depthwise convolutions


class PromptLayer(nn.Sequential):
    """P of x <- block(x + P(x)), on (batch, dim, h, w)."""

    def __init__(self, dim: int) -> None:
        """Build it for tokens of a width."""
        inner = dim // REDUCTION
        norm = LayerNorm2d(dim)
        super().__init__(
            nn.Conv2d(dim, inner, 1),
            LayerNorm2d(inner),
            nn.GELU(),
            nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False),
            LayerNorm2d(inner),
            nn.GELU(),
            nn.Conv2d(inner, dim, 1),
            norm,
            nn.GELU(),
        )
        self._scales = (norm.weight, norm.bias)

    def silence(self) -> None:
        """Start at zero, so that the encoder is unchanged before training."""
        for scale in self._scales:
            nn.init.zeros_(scale)


class MultiScale(nn.Module):
    """Four groups of channels, each seen at another scale."""

    def __init__(self, channels: int) -> None:
        """Build it for a number of channels divisible by four."""
        super().__init__()
        group = channels // (1 + len(SCALES))
        self.point = nn.Conv2d(group, group, 1)
        self.dilated = nn.ModuleList(
            nn.Conv2d(group, group, 3, padding=d, dilation=d, groups=group)
            for d in SCALES
        )
        self.norm = nn.Sequential(nn.BatchNorm2d(channels), nn.GELU())

    def forward(self, features: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to the same shape."""
        first, *others = features.chunk(1 + len(SCALES), dim=1)
        seen = [self.point(first)]
        seen += [layer(x) for layer, x in zip(self.dilated, others, strict=True)]
        result: Tensor = self.norm(torch.cat(seen, dim=1))
        return result


class PromptedEncoderNetwork(SegmentationNetwork):
    """The coarse network: frozen encoder, prompt layers, plain decoder."""

    def __init__(self, sam: Sam, *, zero_init: bool = False) -> None:
        """Freeze the encoder and add what trains.

        Args:
            sam: Its encoder is used; prompt encoder and mask decoder are not.
            zero_init: Start the prompt layers at zero. The original does not: its
                last GELU perturbs the encoder from the start.
        """
        super().__init__()
        self.image_size, self.num_classes = sam.image_size, sam.num_classes
        self.sam = sam.requires_grad_(False)
        encoder = sam.image_encoder
        width, dim = encoder.patch_embed.proj.out_channels, encoder.neck[0].out_channels
        layers = [PromptLayer(width) for _ in encoder.blocks]
        if zero_init:
            for layer in layers:
                layer.silence()
        self.prompts = nn.ModuleList(layers)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 2, 2, stride=2),
            LayerNorm2d(dim // 2),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 2, dim // 4, 2, stride=2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            MultiScale(dim // 4),
            nn.Conv2d(dim // 4, sam.num_classes, 1),
        )

    def forward_with_features(self, images: Tensor) -> SegmentationOutput:
        """Segment images.

        Args:
            images: (batch, 1, size, size), float, values 0 to 1.

        Returns:
            Logits at input size and features (batch, dim, h, w).

        Raises:
            ValueError: If the images are not of that shape.
        """
        features = self.sam.encode(images, self.prompts)
        logits = functional.interpolate(
            self.decoder(features),
            size=images.shape[-2:],
            mode="bilinear",
            align_corners=True,
        )
        return SegmentationOutput(logits, features)
