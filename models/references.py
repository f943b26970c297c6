"""The networks that ours are compared with, by name.

DeepLabV3+ and U-Net++ on a ResNet come from segmentation_models_pytorch, Attention
U-Net and Swin U-Net from MONAI, TransUNet's encoder from timm, CE-Net's from
torchvision; the plain U-Net++ is ours, as no library has the published one. All have
random weights: nothing is ever downloaded. A library is imported when a network that
needs it is built, because each takes seconds.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from models.attention_unet import build_attention_unet, build_attention_unet_small
from models.ce_net import build_ce_net
from models.frame_size import check_frame_size
from models.network import SegmentationNetwork, SegmentationOutput
from models.swin_unet import build_swin_unet
from models.torchvision_ops import make_torchvision_importable
from models.trans_unet import build_trans_unet, build_trans_unet_fedefm
from models.unet_plus_plus import build_unet_plus_plus


class LibraryNetwork(SegmentationNetwork):
    """A network of segmentation_models_pytorch behind our interface."""

    def __init__(
        self,
        model: Any,  # noqa: ANN401 - the library has no types
        *,
        image_size: int,
        num_classes: int,
    ) -> None:
        """Take the parts of a network.

        Args:
            model: A `SegmentationModel` for three channels, without activation.
            image_size: Side of the frames that it will get, px.
            num_classes: Number of logit maps that it gives.
        """
        super().__init__()
        self.image_size, self.num_classes = image_size, num_classes
        self.encoder, self.decoder = model.encoder, model.decoder
        self.head = model.segmentation_head

    def forward_with_features(self, images: Tensor) -> SegmentationOutput:
        """Segment images; the features are the encoder's last.

        Args:
            images: (batch, 1, size, size), float.

        Returns:
            Logits (batch, classes, size, size) and features (batch, dim, h, w).

        Raises:
            ValueError: If the images are not of that shape.
        """
        self.check_images(images)
        stages = self.encoder(images.expand(-1, 3, -1, -1))
        return SegmentationOutput(self.head(self.decoder(stages)), stages[-1])


def build_unet_plus_plus_resnet34(
    *, image_size: int, num_classes: int
) -> LibraryNetwork:
    """Build U-Net++ on a ResNet-34: 26.1 million parameters.

    Zhou et al., "UNet++", DLMIA 2018, arXiv 1807.10165, without deep supervision:
    73.80 of the FGA-Net paper's "GFLOPs". The paper's own U-Net++, 139.61, is
    `models.unet_plus_plus`.

    Args:
        image_size: Side of the frames, px, divisible by 32, at least 64.
        num_classes: Number of logit maps.

    Returns:
        The network with random weights.

    Raises:
        ValueError: If the size does not fit.
    """
    check_frame_size(image_size, multiple=32, smallest=64)
    model = _library().UnetPlusPlus(
        "resnet34", encoder_weights=None, in_channels=3, classes=num_classes
    )
    return LibraryNetwork(model, image_size=image_size, num_classes=num_classes)


def build_deeplab_v3_plus(*, image_size: int, num_classes: int) -> LibraryNetwork:
    """Build DeepLabV3+ on a ResNet-101, output stride 16: 45.7 million parameters.

    Chen et al., "Encoder-Decoder with Atrous Separable Convolution", ECCV 2018, arXiv
    1802.02611. 56.40 of the FGA-Net paper's "GFLOPs" against its 83.32, whose encoder
    is not stated in our facts. It normalises one pooled pixel per frame over the batch,
    so it cannot train on batches of a single frame.

    Args:
        image_size: Side of the frames, px, divisible by 16, at least 32.
        num_classes: Number of logit maps.

    Returns:
        The network with random weights.

    Raises:
        ValueError: If the size does not fit.
    """
    check_frame_size(image_size, multiple=16, smallest=32)
    model = _library().DeepLabV3Plus(
        "resnet101", encoder_weights=None, in_channels=3, classes=num_classes
    )
    return LibraryNetwork(model, image_size=image_size, num_classes=num_classes)


REFERENCES: dict[str, Callable[..., SegmentationNetwork]] = {
    "unet-plus-plus": build_unet_plus_plus,
    "unet-plus-plus-resnet34": build_unet_plus_plus_resnet34,
    "attention-unet": build_attention_unet,
    "attention-unet-small": build_attention_unet_small,
    "deeplab-v3-plus": build_deeplab_v3_plus,
    "ce-net": build_ce_net,
    "trans-unet": build_trans_unet,
    "trans-unet-fedefm": build_trans_unet_fedefm,
    "swin-unet": build_swin_unet,
}


def _library() -> Any:  # noqa: ANN401 - a module without types
    make_torchvision_importable()
    # Here, because it and timm take seconds to import and few runs need them.
    import segmentation_models_pytorch

    return segmentation_models_pytorch
