"""TransUNet: a hybrid transformer encoder with a U-Net decoder.

Chen et al., "TransUNet: Transformers Make Strong Encoders for Medical Image
Segmentation", 2021, arXiv 2102.04306. FedEFM (arXiv 2501.16992) fine-tunes the same
decoder, without skips, on its own encoder.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.hybrid_vit import STEM_WIDTHS, HybridViT
from models.network import SegmentationNetwork, SegmentationOutput

WIDTHS = (256, 128, 64, 16)
"""Output channels of the decoder's stages."""
FIRST_WIDTH = 512  # channels that the tokens are brought to


class TransUNet(SegmentationNetwork):
    """The encoder's tokens, grown four times, with the stem's features beside them."""

    def __init__(
        self,
        *,
        encoder: HybridViT,
        num_classes: int = 1,
        num_skips: int = 3,
        widths: Sequence[int] = WIDTHS,
    ) -> None:
        """Build the decoder with random weights.

        Args:
            encoder: Already built; it says what size the frames have.
            num_classes: Number of logit maps.
            num_skips: How many features of the stem are joined, the deepest first, 0
                to 3. TransUNet has 3, FedEFM's fine-tuning 0.
            widths: Output channels of the decoder's four stages.

        Raises:
            ValueError: If the number of skips or of widths does not fit.
        """
        super().__init__()
        available = STEM_WIDTHS[-2::-1]
        if not 0 <= num_skips <= len(available):
            raise ValueError(
                f"num_skips must be 0 to {len(available)}, got {num_skips}."
            )
        if len(widths) != len(WIDTHS):
            raise ValueError(f"widths must be four numbers, got {tuple(widths)}.")
        self.image_size, self.num_classes = encoder.image_size, num_classes
        self.num_skips = num_skips
        self.encoder = encoder
        self.widen = _convolve(encoder.dim, FIRST_WIDTH)
        self.grow = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        joined = [*available[:num_skips], *(len(widths) - num_skips) * [0]]
        self.up = nn.ModuleList(
            nn.Sequential(_convolve(before + skip, after), _convolve(after, after))
            for before, skip, after in zip(
                (FIRST_WIDTH, *widths[:-1]), joined, widths, strict=True
            )
        )
        self.head = nn.Conv2d(widths[-1], num_classes, 3, padding=1)

    def transformer_parts(self) -> tuple[nn.Module, ...]:
        """Return the encoder's blocks."""
        return (self.encoder.blocks,)

    def forward_with_features(self, images: Tensor) -> SegmentationOutput:
        """Segment images; the features are the transformer's tokens on their grid.

        Args:
            images: (batch, 1, size, size), float.

        Returns:
            Logits (batch, classes, size, size), features (batch, dim, size / 16, ...).

        Raises:
            ValueError: If the images are not of that shape.
        """
        self.check_images(images)
        encoded = self.encoder(images.expand(-1, 3, -1, -1))
        features = self.widen(encoded.tokens)
        for stage, up in enumerate(self.up):
            features = self.grow(features)
            if stage < self.num_skips:
                features = torch.cat([features, encoded.skips[stage]], dim=1)
            features = up(features)
        return SegmentationOutput(self.head(features), encoded.tokens)


def _convolve(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )


def build_trans_unet(*, image_size: int, num_classes: int) -> TransUNet:
    """Build the published network (R50 + ViT-B/16): 105 million parameters."""
    encoder = HybridViT(image_size=image_size, depth=12, num_heads=12, mlp_width=3072)
    return TransUNet(encoder=encoder, num_classes=num_classes)


def build_trans_unet_fedefm(*, image_size: int, num_classes: int) -> TransUNet:
    """Build what FedEFM fine-tunes: its foundation model's encoder, no skips."""
    encoder = HybridViT(image_size=image_size)
    return TransUNet(encoder=encoder, num_classes=num_classes, num_skips=0)
