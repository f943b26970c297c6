"""A prompt-free Segment Anything Model (SAM) that can be trained by its front door.

Built from the modules of `segment_anything` (Kirillov et al., "Segment Anything",
ICCV 2023): the image encoder, the prompt encoder's "no prompt" embeddings and the
two-way mask decoder. Classes use the decoder's multi-mask tokens, one token a class,
as SAMed does (Zhang & Liu, arXiv 2304.13785). Knows nothing of files or hospitals.
"""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.detail import DetailBranch
from models.network import SegmentationNetwork, SegmentationOutput
from models.torchvision_ops import make_torchvision_importable

make_torchvision_importable()

from segment_anything.modeling import (  # noqa: E402 - needs the line above
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    TwoWayTransformer,
)

# SAM's statistics of an RGB image with values 0 to 255.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


class PromptFreeSam(SegmentationNetwork):
    """SAM with empty prompts: an image in, one logit map per class out.

    Only what the prompt-free pass uses is trainable; the heads for points, boxes,
    mask prompts and predicted IoU keep their values and do not travel.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        *,
        image_encoder: ImageEncoderViT,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
        num_classes: int,
        detail: DetailBranch | None = None,
        foreground_prior: float | None = None,
    ) -> None:
        """Join the parts.

        Args:
            image_encoder: Maps (batch, 3, size, size) to (batch, dim, h, w).
            prompt_encoder: Gives the "no mask" embedding and the position code.
            mask_decoder: Has at least one multi-mask token for each class.
            num_classes: Number of logit maps to produce.
            detail: Adds features of high resolution; None is the original SAM.
            foreground_prior: Share of foreground to expect before training, 0 to 1
                exclusive; adds a trainable bias a class, log(p / (1 - p)) at first
                (Lin et al., "Focal Loss", ICCV 2017, sec. 4.1). None is the original.

        Raises:
            ValueError: If the decoder has fewer multi-mask tokens than classes, or
                the prior is out of range.
        """
        super().__init__()
        if mask_decoder.num_mask_tokens - 1 < num_classes:
            raise ValueError(
                f"The mask decoder has {mask_decoder.num_mask_tokens - 1} multi-mask "
                f"tokens, {num_classes} classes need one each. Build it with "
                f"num_multimask_outputs={num_classes}."
            )
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.detail = detail
        self.num_classes = num_classes
        self.image_size: int = image_encoder.img_size
        self.logit_bias = _bias_from(foreground_prior, num_classes)
        self.register_buffer(
            "pixel_mean", torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1), persistent=False
        )
        self.register_buffer(
            "pixel_std", torch.tensor(PIXEL_STD).view(1, 3, 1, 1), persistent=False
        )
        self._freeze_unused_parts()

    def forward_with_features(self, images: Tensor) -> SegmentationOutput:
        """Segment images and keep the encoder's features of the same pass.

        Args:
            images: (batch, 1, size, size), float, values 0 to 1.

        Returns:
            Logits at input size and features (batch, dim, h, w).

        Raises:
            ValueError: If the images are not of that shape.
        """
        features = self.encode(images)
        logits = functional.interpolate(
            self.decode(features, images),
            size=images.shape[-2:],
            mode="bilinear",
            align_corners=False,
        )
        return SegmentationOutput(logits, features)

    def encode(self, images: Tensor) -> Tensor:
        """Compute image embeddings.

        Args:
            images: (batch, 1, size, size), float, values 0 to 1.

        Returns:
            Embeddings (batch, dim, size / patch, size / patch).

        Raises:
            ValueError: If the images are not of that shape.
        """
        self.check_images(images)
        colour = images.expand(-1, 3, -1, -1) * 255.0
        embeddings: Tensor = self.image_encoder(
            (colour - self.pixel_mean) / self.pixel_std
        )
        return embeddings

    def decode(self, features: Tensor, images: Tensor) -> Tensor:
        """Turn embeddings into low-resolution class logits, without any prompt.

        The original decoder repeats one image for several prompts; this one takes a
        batch of images with one empty prompt each and is otherwise the same.

        Args:
            features: Embeddings (batch, dim, h, w).
            images: What they were computed from; only the detail branch looks.

        Returns:
            Logits (batch, classes, 4 h, 4 w), or with a detail branch
            (batch, classes, size / 2, size / 2).
        """
        decoder = self.mask_decoder
        batch = features.shape[0]
        # The no-mask embedding is what SAM adds when no mask prompt is given.
        dense = self.prompt_encoder.no_mask_embed.weight.view(1, -1, 1, 1)
        position = self.prompt_encoder.get_dense_pe().expand(batch, -1, -1, -1)
        tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens, pixels = decoder.transformer(
            features + dense, position, tokens.expand(batch, -1, -1)
        )
        pixels = pixels.transpose(1, 2).reshape(features.shape)
        upscaled = decoder.output_upscaling(pixels)  # (batch, dim / 8, 4 h, 4 w)
        if self.detail is not None:
            upscaled = self.detail(images, upscaled)  # (..., size / 2, size / 2)
        # Tokens: 0 predicted IoU, 1 the single mask, from 2 on the multi-masks.
        weights = torch.stack(
            [
                decoder.output_hypernetworks_mlps[1 + index](tokens[:, 2 + index])
                for index in range(self.num_classes)
            ],
            dim=1,
        )  # (batch, classes, dim / 8)
        logits = torch.einsum("bcd,bdhw->bchw", weights, upscaled)
        return logits if self.logit_bias is None else logits + self.logit_bias

    def _freeze_unused_parts(self) -> None:
        self.prompt_encoder.requires_grad_(False)
        self.prompt_encoder.no_mask_embed.requires_grad_(True)
        self.mask_decoder.iou_prediction_head.requires_grad_(False)
        used = range(1, 1 + self.num_classes)
        for index, head in enumerate(self.mask_decoder.output_hypernetworks_mlps):
            head.requires_grad_(index in used)


def build_sam_tiny(*, image_size: int, num_classes: int) -> PromptFreeSam:
    """Build the SAM for two CPU cores: about 3 M parameters, patch 16.

    Args:
        image_size: Side of the square input in pixels, divisible by 16.
        num_classes: Number of logit maps.

    Returns:
        The network with random weights.
    """
    dim = 128
    patch_size = 16
    grid_size = image_size // patch_size
    return PromptFreeSam(
        image_encoder=ImageEncoderViT(
            img_size=image_size,
            patch_size=patch_size,
            embed_dim=192,
            depth=5,
            num_heads=6,
            mlp_ratio=4,
            out_chans=dim,
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=8,
            global_attn_indexes=(1, 4),
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=dim,
            image_embedding_size=(grid_size, grid_size),
            input_image_size=(image_size, image_size),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=dim,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=dim, mlp_dim=512, num_heads=8
            ),
            num_multimask_outputs=num_classes,
            iou_head_depth=3,
            iou_head_hidden_dim=dim,
        ),
        num_classes=num_classes,
        detail=DetailBranch(embedding_dim=dim // 8),
        foreground_prior=0.02,  # wires cover one to two pixels in a hundred
    )


def _bias_from(prior: float | None, num_classes: int) -> nn.Parameter | None:
    if prior is None:
        return None
    if not 0 < prior < 1:
        raise ValueError(f"foreground_prior must be between 0 and 1, got {prior}.")
    bias = math.log(prior / (1 - prior))
    return nn.Parameter(torch.full((num_classes, 1, 1), bias))
