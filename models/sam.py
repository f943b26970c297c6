"""Segment Anything (SAM), trainable by its front door, with or without prompts.

Built from the modules of `segment_anything` (Kirillov et al., "Segment Anything",
ICCV 2023): the image encoder, the prompt encoder and the two-way mask decoder. Classes
use the decoder's mask tokens, one token a class, as SAMed does (Zhang & Liu, arXiv
2304.13785). Knows nothing of files or hospitals.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from models.detail import DetailBranch
from models.network import SegmentationNetwork, SegmentationOutput
from models.sam_prompts import Prompts
from models.stem import ConvolutionalStem
from models.torchvision_ops import make_torchvision_importable

make_torchvision_importable()

from segment_anything.modeling import (  # noqa: E402 - needs the line above
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
)

# SAM's statistics of an RGB image with values 0 to 255.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


class Sam(SegmentationNetwork):
    """SAM with a class per mask token: an image in, one logit map per class out.

    Without prompts it is the prompt-free network of federated training; what only
    prompts and predicted IoU use keeps its values and does not travel.
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
        class_tokens: Sequence[int] | None = None,
        detail: DetailBranch | None = None,
        foreground_prior: float | None = None,
        activation_checkpointing: bool = False,
    ) -> None:
        """Join the parts.

        Args:
            image_encoder: Maps (batch, 3, size, size) to (batch, dim, h, w).
            prompt_encoder: Embeds points, boxes and masks, and the lack of them.
            mask_decoder: Has a mask token for each class.
            num_classes: Number of logit maps to produce.
            class_tokens: Mask token of every class; 0 is the single mask of the
                original, from 1 on come its multi-masks. None = 1, 2, ...
            detail: Adds features of high resolution; None is the original SAM.
            foreground_prior: Share of foreground to expect before training, 0 to 1
                exclusive; adds a trainable bias a class, log(p / (1 - p)) at first
                (Lin et al., "Focal Loss", ICCV 2017, sec. 4.1). None is the original.
            activation_checkpointing: Compute encoder blocks again in the backward
                pass instead of keeping their activations: less memory, more time.

        Raises:
            ValueError: If a class has no token of its own, or the prior is out of
                range.
        """
        super().__init__()
        tokens = tuple(class_tokens or range(1, 1 + num_classes))
        self.class_tokens = _check_tokens(tokens, num_classes, mask_decoder)
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.detail = detail
        self.num_classes = num_classes
        self.image_size: int = image_encoder.img_size
        self.activation_checkpointing = activation_checkpointing
        self.logit_bias = _bias_from(foreground_prior, num_classes)
        self.register_buffer(
            "pixel_mean", torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1), persistent=False
        )
        self.register_buffer(
            "pixel_std", torch.tensor(PIXEL_STD).view(1, 3, 1, 1), persistent=False
        )
        self._freeze_unused_parts()

    def forward_with_features(
        self, images: Tensor, prompts: Prompts | None = None
    ) -> SegmentationOutput:
        """Segment images and keep the encoder's features of the same pass.

        Args:
            images: (batch, 1, size, size), float, values 0 to 1.
            prompts: One set per image, or None.

        Returns:
            Logits at input size and features (batch, dim, h, w).

        Raises:
            ValueError: If images or prompts are not of that shape.
        """
        features = self.encode(images)
        logits = functional.interpolate(
            self.decode(features, images, prompts),
            size=images.shape[-2:],
            mode="bilinear",
            align_corners=False,
        )
        return SegmentationOutput(logits, features)

    def transformer_parts(self) -> tuple[nn.Module, ...]:
        """Return the image encoder but a stem of convolutions, and the decoder's."""
        encoder, decoder = self.image_encoder, self.mask_decoder.transformer
        if isinstance(encoder.patch_embed, ConvolutionalStem):
            return encoder.blocks, encoder.neck, decoder
        return encoder, decoder

    def encode(
        self, images: Tensor, prompt_layers: nn.ModuleList | None = None
    ) -> Tensor:
        """Compute image embeddings.

        Args:
            images: (batch, 1, size, size), float, values 0 to 1.
            prompt_layers: One a block, on (batch, width, h, w); what it computes is
                added to the block's input. See `models/prompt_layers.py`.

        Returns:
            Embeddings (batch, dim, size / patch, size / patch).

        Raises:
            ValueError: If the images are not of that shape.
        """
        self.check_images(images)
        colour = images.expand(-1, 3, -1, -1) * 255.0
        encoder = self.image_encoder
        tokens = encoder.patch_embed((colour - self.pixel_mean) / self.pixel_std)
        if encoder.pos_embed is not None:
            tokens = tokens + encoder.pos_embed
        again = self.activation_checkpointing and torch.is_grad_enabled()
        for number, block in enumerate(encoder.blocks):
            if prompt_layers is not None:
                picture = tokens.permute(0, 3, 1, 2)
                added = prompt_layers[number](picture)
                tokens = tokens + added.permute(0, 2, 3, 1)
            if again:
                tokens = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens = block(tokens)
        embeddings: Tensor = encoder.neck(tokens.permute(0, 3, 1, 2))
        return embeddings

    def decode(
        self, features: Tensor, images: Tensor, prompts: Prompts | None = None
    ) -> Tensor:
        """Turn embeddings into low-resolution class logits.

        The original decoder repeats one image for several prompts; this one takes a
        batch of images with one set of prompts each and is otherwise the same.

        Args:
            features: Embeddings (batch, dim, h, w).
            images: What they were computed from; only the detail branch looks.
            prompts: One set per image; None = no prompt.

        Returns:
            Logits (batch, classes, 4 h, 4 w), or with a detail branch
            (batch, classes, size / 2, size / 2).

        Raises:
            ValueError: If the prompts are for another number of images.
        """
        decoder = self.mask_decoder
        batch = features.shape[0]
        sparse, dense = self._embed_prompts(prompts, batch)
        position = self.prompt_encoder.get_dense_pe().expand(batch, -1, -1, -1)
        tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([tokens.expand(batch, -1, -1), sparse], dim=1)
        tokens, pixels = decoder.transformer(features + dense, position, tokens)
        pixels = pixels.transpose(1, 2).reshape(features.shape)
        upscaled = decoder.output_upscaling(pixels)  # (batch, dim / 8, 4 h, 4 w)
        if self.detail is not None:
            upscaled = self.detail(images, upscaled)  # (..., size / 2, size / 2)
        # Tokens: 0 predicted IoU, then the mask tokens, then the prompts.
        weights = torch.stack(
            [
                decoder.output_hypernetworks_mlps[token](tokens[:, 1 + token])
                for token in self.class_tokens
            ],
            dim=1,
        )  # (batch, classes, dim / 8)
        logits = torch.einsum("bcd,bdhw->bchw", weights, upscaled)
        return logits if self.logit_bias is None else logits + self.logit_bias

    def _embed_prompts(
        self, prompts: Prompts | None, batch: int
    ) -> tuple[Tensor, Tensor]:
        """Return sparse (batch, count, dim) and dense (batch, dim, h or 1, w or 1)."""
        encoder = self.prompt_encoder
        if prompts is None:
            # The no-mask embedding is what SAM adds when no mask prompt is given.
            dense = encoder.no_mask_embed.weight.view(1, -1, 1, 1)
            return dense.new_zeros(batch, 0, dense.shape[1]), dense
        prompts.check_batch(batch)
        sparse, dense = encoder(prompts.pair(), prompts.boxes, prompts.masks)
        return sparse.expand(batch, -1, -1), dense

    def _freeze_unused_parts(self) -> None:
        self.prompt_encoder.requires_grad_(False)
        self.prompt_encoder.no_mask_embed.requires_grad_(True)
        self.mask_decoder.iou_prediction_head.requires_grad_(False)
        for token, head in enumerate(self.mask_decoder.output_hypernetworks_mlps):
            head.requires_grad_(token in self.class_tokens)


def _check_tokens(
    tokens: tuple[int, ...], num_classes: int, decoder: MaskDecoder
) -> tuple[int, ...]:
    count = decoder.num_mask_tokens
    fits = len(set(tokens)) == len(tokens) == num_classes
    if not fits or min(tokens) < 0 or max(tokens) >= count:
        raise ValueError(
            f"{num_classes} class(es) need one of the decoder's mask tokens "
            f"0 to {count - 1} each, got {tokens}. Build it with more "
            "num_multimask_outputs or choose other class_tokens."
        )
    return tokens


def _bias_from(prior: float | None, num_classes: int) -> nn.Parameter | None:
    if prior is None:
        return None
    if not 0 < prior < 1:
        raise ValueError(f"foreground_prior must be between 0 and 1, got {prior}.")
    bias = math.log(prior / (1 - prior))
    return nn.Parameter(torch.full((num_classes, 1, 1), bias))
