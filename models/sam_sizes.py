"""SAM in five sizes: the published ViT-B, -L and -H, and two small ones for two cores.

sam-tiny finds thin devices by its detail branch and hardly by its encoder; in sam-mini
everything goes through the encoder, so adapters, prompts and what the features are
compared for (the EMD) count.
"""

from dataclasses import dataclass
from functools import partial

from torch import nn

from models.attention import fuse_attention
from models.detail import DetailBranch
from models.sam import Sam
from models.stem import ConvolutionalStem
from models.torchvision_ops import make_torchvision_importable

make_torchvision_importable()

from segment_anything.modeling import (  # noqa: E402 - needs the line above
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    TwoWayTransformer,
)

PATCH_SIZE = 16  # px


@dataclass(frozen=True)
class SamSize:
    """What differs between the sizes."""

    width: int  # of the encoder's tokens
    depth: int  # blocks
    heads: int
    global_blocks: tuple[int, ...]  # the others attend within windows
    window: int = 14  # patches
    embedding: int = 256  # channels between encoder and decoder
    decoder_width: int = 2048  # hidden layer of the two-way transformer
    num_multimask_outputs: int = 3
    mlp_ratio: float = 4.0  # hidden layer of the encoder's blocks, times the width
    patch_size: int = PATCH_SIZE  # px
    has_stem: bool = False  # our additions for thin devices
    has_detail: bool = False
    foreground_prior: float | None = None


SIZES = {
    "sam-tiny": SamSize(
        width=192,
        depth=5,
        heads=6,
        global_blocks=(1, 4),
        window=8,
        embedding=128,
        decoder_width=512,
        num_multimask_outputs=2,
        has_detail=True,
        foreground_prior=0.02,  # wires cover one to two pixels in a hundred
    ),
    "sam-mini": SamSize(
        width=128,
        depth=4,
        heads=4,
        global_blocks=(1, 3),
        window=8,
        embedding=128,
        decoder_width=512,
        num_multimask_outputs=2,
        mlp_ratio=2.0,
        patch_size=8,
        has_stem=True,
        foreground_prior=0.02,
    ),
    "sam-vit-b": SamSize(768, 12, 12, (2, 5, 8, 11)),
    "sam-vit-l": SamSize(1024, 24, 16, (5, 11, 17, 23)),
    "sam-vit-h": SamSize(1280, 32, 16, (7, 15, 23, 31)),
}
"""Name -> size; the three largest are those of the official checkpoints."""


def build_sam(
    name: str,
    *,
    image_size: int,
    num_classes: int,
    activation_checkpointing: bool = False,
) -> Sam:
    """Build a SAM with random weights.

    Args:
        name: One of `SIZES`.
        image_size: Side of the square input in pixels, divisible by 16.
        num_classes: Number of logit maps, at most the decoder's multi-masks.
        activation_checkpointing: See `Sam`.

    Returns:
        The network; its attention is fused, its keys are the original ones.

    Raises:
        ValueError: If the size has too few mask tokens for the classes.
    """
    size = SIZES[name]
    grid = image_size // size.patch_size
    decoder = MaskDecoder(
        transformer_dim=size.embedding,
        transformer=TwoWayTransformer(
            depth=2,
            embedding_dim=size.embedding,
            mlp_dim=size.decoder_width,
            num_heads=8,
        ),
        num_multimask_outputs=size.num_multimask_outputs,
        iou_head_depth=3,
        iou_head_hidden_dim=size.embedding,
    )
    return Sam(
        image_encoder=_encoder(size, image_size),
        prompt_encoder=PromptEncoder(
            embed_dim=size.embedding,
            image_embedding_size=(grid, grid),
            input_image_size=(image_size, image_size),
            mask_in_chans=16,
        ),
        mask_decoder=decoder,
        num_classes=num_classes,
        detail=_detail(size),
        foreground_prior=size.foreground_prior,
        activation_checkpointing=activation_checkpointing,
    )


def _encoder(size: SamSize, image_size: int) -> ImageEncoderViT:
    encoder = ImageEncoderViT(
        img_size=image_size,
        patch_size=size.patch_size,
        embed_dim=size.width,
        depth=size.depth,
        num_heads=size.heads,
        mlp_ratio=size.mlp_ratio,
        out_chans=size.embedding,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=size.window,
        global_attn_indexes=size.global_blocks,
    )
    if size.has_stem:
        encoder.patch_embed = ConvolutionalStem(
            patch_size=size.patch_size, width=size.width
        )
    fuse_attention(encoder)
    return encoder


def _detail(size: SamSize) -> DetailBranch | None:
    if not size.has_detail:
        return None
    return DetailBranch(embedding_dim=size.embedding // 8)
