"""A Swin U-Net: a Swin transformer encoder with a convolutional decoder.

Hatamizadeh et al., "Swin UNETR", BrainLes 2021, arXiv 2201.01266, in two dimensions.
The modules are MONAI's `SwinUNETR`. Their way through the transformer is written out
here: MONAI's own needs the optional package einops for changing the order of axes, and
does not give the features.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from models.frame_size import check_frame_size
from models.network import SegmentationNetwork, SegmentationOutput

WIDTH = 48
"""Channels of the first stage, as in the paper; MONAI's default is half of it."""


class SwinUNet(SegmentationNetwork):
    """MONAI's network behind our interface; its parameters keep MONAI's names."""

    def __init__(
        self, *, image_size: int, num_classes: int = 1, width: int = WIDTH
    ) -> None:
        """Build it with random weights.

        Args:
            image_size: Side of the frames, px, divisible by 32, at least 64.
            num_classes: Number of logit maps.
            width: Channels of the first stage, divisible by 12.

        Raises:
            ValueError: If the size or the width does not fit.
        """
        # Here, because MONAI takes seconds to import and few runs need it.
        from monai.networks.nets.swin_unetr import SwinUNETR

        super().__init__()
        check_frame_size(image_size, multiple=32, smallest=64)
        self.image_size, self.num_classes = image_size, num_classes
        self.model = SwinUNETR(
            in_channels=3, out_channels=num_classes, feature_size=width, spatial_dims=2
        )

    def transformer_parts(self) -> tuple[nn.Module, ...]:
        """Return the encoder."""
        encoder: nn.Module = self.model.swinViT
        return (encoder,)

    def forward_with_features(self, images: Tensor) -> SegmentationOutput:
        """Segment images; the features are the transformer's last, normalised.

        Args:
            images: (batch, 1, size, size), float.

        Returns:
            Logits (batch, classes, size, size) and features (batch, 16 * width,
            size / 32, size / 32).

        Raises:
            ValueError: If the images are not of that shape.
        """
        self.check_images(images)
        model: Any = self.model  # nn.Module would hide the types of its parts
        frames = images.expand(-1, 3, -1, -1)
        half, quarter, eighth, sixteenth, deepest = _encode(model.swinViT, frames)
        features = model.decoder5(model.encoder10(deepest), sixteenth)
        features = model.decoder4(features, model.encoder4(eighth))
        features = model.decoder3(features, model.encoder3(quarter))
        features = model.decoder2(features, model.encoder2(half))
        features = model.decoder1(features, model.encoder1(frames))
        return SegmentationOutput(model.out(features), deepest)


def _encode(transformer: Any, frames: Tensor) -> list[Tensor]:  # noqa: ANN401 - MONAI's SwinTransformer; nn.Module would hide its parts
    """Return the normalised features of the patch embedding and of all four stages."""
    features = transformer.pos_drop(transformer.patch_embed(frames))
    found = [_normalise(features)]
    for stage in (
        transformer.layers1,
        transformer.layers2,
        transformer.layers3,
        transformer.layers4,
    ):
        features = _pass_stage(stage[0], features)
        found.append(_normalise(features))
    return found


def _pass_stage(stage: Any, features: Tensor) -> Tensor:  # noqa: ANN401 - MONAI's BasicLayer; nn.Module would hide its parts
    """Attend within windows, then halve; MONAI's blocks want the channels last."""
    from monai.networks.nets import swin_unetr

    monai: Any = swin_unetr  # these two functions carry no types
    size = features.shape[2:]
    window, shift = monai.get_window_size(size, stage.window_size, stage.shift_size)
    # The blocks pad to whole windows; the mask must cover what they pad.
    padded = [-(-side // one) * one for side, one in zip(size, window, strict=True)]
    mask = monai.compute_mask(padded, window, shift, features.device)
    features = features.permute(0, 2, 3, 1)
    for block in stage.blocks:
        features = block(features, mask)
    halved: Tensor = stage.downsample(features)
    return halved.permute(0, 3, 1, 2)


def _normalise(features: Tensor) -> Tensor:
    """Normalise over the channels of (batch, channels, height, width)."""
    channels_last = features.permute(0, 2, 3, 1)
    normal = functional.layer_norm(channels_last, channels_last.shape[-1:])
    return normal.permute(0, 3, 1, 2)


def build_swin_unet(*, image_size: int, num_classes: int) -> SwinUNet:
    """Build the network at the width of the paper."""
    return SwinUNet(image_size=image_size, num_classes=num_classes)
