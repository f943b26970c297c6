"""SAM's attention with relative positions, without ever forming the attention matrix.

`segment_anything` adds a decomposed relative position to the logits [Li et al.,
"MViTv2", CVPR 2022, eq. 4]: logit(q, k) = s q·k + q·R_h[row] + q·R_w[column]. Either
way below, memory grows with the number of tokens and not with its square.

On a CPU in float32 `models/block_attention.py` adds the two terms block by block.
Elsewhere they become scalar products too, of the query's position scores with one-hot
codes of the key's row and column; appended to query and key, they let PyTorch's fused
attention do the whole sum. That kernel wants the value as wide as the key, so at
1024 px it multiplies three times what is needed. Measured on one core in float32,
forward and backward: blocks take 0.6 of its time at 512 px and half at 1024 px.

ONNX has neither: there the bias is formed and added, as the runtime forms the matrix
in any case.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.block_attention import attend_in_blocks
from models.torchvision_ops import make_torchvision_importable

make_torchvision_importable()

from segment_anything.modeling.image_encoder import (  # noqa: E402 - as above
    Attention,
    ImageEncoderViT,
    get_rel_pos,
)


class FusedAttention(nn.Module):
    """A drop-in for `Attention` of an image encoder; parameters and keys are shared."""

    def __init__(self, original: Attention) -> None:
        """Take over the parts of an attention layer.

        Args:
            original: Built by `segment_anything`, with or without relative positions.
        """
        super().__init__()
        self.num_heads: int = original.num_heads
        self.scale: float = original.scale
        self.qkv = original.qkv
        self.proj = original.proj
        self.use_rel_pos: bool = original.use_rel_pos
        if self.use_rel_pos:
            self.rel_pos_h = original.rel_pos_h
            self.rel_pos_w = original.rel_pos_w

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend over all tokens of an image or window.

        Args:
            tokens: (batch, height, width, dim).

        Returns:
            (batch, height, width, dim).
        """
        batch, height, width, dim = tokens.shape
        count, heads = height * width, self.num_heads
        parts = self.qkv(tokens).view(batch, count, 3, heads, dim // heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        if self.use_rel_pos:
            attended = self._attend_with_positions(query, key, value, height, width)
        else:
            attended = functional.scaled_dot_product_attention(query, key, value)
        # (batch, heads, tokens, head dim) -> (batch, height, width, dim)
        joined = attended.transpose(1, 2).reshape(batch, height, width, dim)
        result: Tensor = self.proj(joined)
        return result

    def _attend_with_positions(
        self, query: Tensor, key: Tensor, value: Tensor, height: int, width: int
    ) -> Tensor:
        batch, heads, _, head_dim = query.shape
        grid = query.reshape(batch, heads, height, width, head_dim)
        by_row = get_rel_pos(height, height, self.rel_pos_h).to(query.dtype)
        by_column = get_rel_pos(width, width, self.rel_pos_w).to(query.dtype)
        rows = torch.einsum("nahwc,hkc->nahwk", grid, by_row).flatten(2, 3)
        columns = torch.einsum("nahwc,wkc->nahwk", grid, by_column).flatten(2, 3)
        if torch.onnx.is_in_onnx_export():
            bias = (rows[..., :, None] + columns[..., None, :]).flatten(3)
            return functional.scaled_dot_product_attention(
                query, key, value, attn_mask=bias, scale=self.scale
            )
        # The scores, and not the query, have the precision that autocast wants. An
        # exported graph is for any device, without operators of this package.
        on_cpu = rows.device.type == "cpu" and rows.dtype == torch.float32
        if on_cpu and not torch.compiler.is_exporting():
            parts = (query, key, value, rows, columns)
            attended, _ = attend_in_blocks(
                *(part.flatten(0, 1) for part in parts), self.scale
            )
            result: Tensor = attended.view(batch, heads, -1, head_dim)
            return result
        return _attend_widened(query * self.scale, key, value, rows, columns)


def fuse_attention(encoder: ImageEncoderViT) -> None:
    """Replace the attention of every block of an image encoder, in place.

    Args:
        encoder: Of `segment_anything`. Its outputs stay the same
            within rounding, its parameters keep their names and values.
    """
    for block in encoder.blocks:
        if isinstance(block.attn, Attention):
            block.attn = FusedAttention(block.attn)


def _attend_widened(
    query: Tensor, key: Tensor, value: Tensor, rows: Tensor, columns: Tensor
) -> Tensor:
    """Attend with the position scores as further products of query and key."""
    height, width = rows.shape[-1], columns.shape[-1]
    codes = _position_codes(height, width, like=key)
    long_query = torch.cat([query, rows, columns], dim=-1)
    long_key = torch.cat([key, codes.expand(*key.shape[:3], -1)], dim=-1)
    # The fused kernels want equal widths of query, key and value.
    padded = functional.pad(value, (0, height + width))
    attended = functional.scaled_dot_product_attention(
        long_query, long_key, padded, scale=1.0
    )
    return attended[..., : value.shape[-1]]


def _position_codes(height: int, width: int, *, like: Tensor) -> Tensor:
    """Return one-hot rows and columns of every token, (tokens, height + width)."""
    rows = torch.eye(height, device=like.device, dtype=like.dtype)
    columns = torch.eye(width, device=like.device, dtype=like.dtype)
    return torch.cat(
        [rows.repeat_interleave(width, 0), columns.repeat(height, 1)], dim=1
    )
