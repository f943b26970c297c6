"""How much a frozen encoder already knows: one linear layer on its features."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.network import SegmentationNetwork, SegmentationOutput
from models.sam import Sam


class LinearProbe(SegmentationNetwork):
    """A 1x1 convolution on a frozen image encoder, interpolated to the input size."""

    def __init__(self, sam: Sam) -> None:
        """Freeze the encoder and put a new layer on it.

        Args:
            sam: Its encoder is used as it is; its decoder is not used.
        """
        super().__init__()
        self.image_size, self.num_classes = sam.image_size, sam.num_classes
        self.sam = sam.requires_grad_(False)
        dim = sam.image_encoder.neck[0].out_channels
        self.probe = nn.Conv2d(dim, sam.num_classes, 1)

    def forward_with_features(self, images: Tensor) -> SegmentationOutput:
        """Segment images from the encoder's features alone.

        Args:
            images: (batch, 1, size, size), float, values 0 to 1.

        Returns:
            Logits at input size and features (batch, dim, h, w).

        Raises:
            ValueError: If the images are not of that shape.
        """
        with torch.no_grad():
            features = self.sam.encode(images)
        logits = functional.interpolate(
            self.probe(features), size=images.shape[-2:], mode="bilinear"
        )
        return SegmentationOutput(logits, features)
