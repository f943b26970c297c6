"""LoRA on SAM's attention through peft.

Hu et al., "LoRA", ICLR 2022; rank 4 on q and v of every block as in arXiv 2410.07460
(SAM from simulation to real). SAM has one fused layer for q, k and v, and peft cannot
adapt two thirds of a layer; so the layer is split into three of the same weights
first, and fused again for export.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models.sam import Sam
from models.torchvision_ops import make_torchvision_importable

if TYPE_CHECKING:
    from peft import PeftModel

TARGETS = r".*image_encoder\.blocks\.\d+\.attn\.qkv\.(q|v)"


class SplitQkv(nn.Module):
    """The fused layer as three; concatenates what they compute."""

    def __init__(self, fused: nn.Linear) -> None:
        """Copy the rows of a fused layer.

        Args:
            fused: Maps dim to 3 dim: q, k and v one after the other.
        """
        super().__init__()
        self.q, self.k, self.v = (
            _linear(weight, bias)
            for weight, bias in zip(
                fused.weight.chunk(3), _bias_of(fused).chunk(3), strict=True
            )
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (..., dim) to (..., 3 dim)."""
        return torch.cat([self.q(tokens), self.k(tokens), self.v(tokens)], dim=-1)


def split_qkv(model: Sam) -> None:
    """Split the fused layer of every encoder block in place; outputs stay the same."""
    for block in model.image_encoder.blocks:
        if isinstance(block.attn.qkv, nn.Linear):
            block.attn.qkv = SplitQkv(block.attn.qkv)


def fuse_qkv(model: Sam) -> None:
    """Undo `split_qkv`, in place.

    Args:
        model: Without adapters: merge them first.

    Raises:
        ValueError: If an adapter is still there.
    """
    for block in model.image_encoder.blocks:
        parts = block.attn.qkv
        if not isinstance(parts, SplitQkv):
            continue
        layers = [parts.q, parts.k, parts.v]
        if any(type(layer) is not nn.Linear for layer in layers):
            raise ValueError(
                "The attention still carries adapters; call merge_lora, which merges "
                "and fuses."
            )
        block.attn.qkv = _linear(
            torch.cat([layer.weight for layer in layers]),
            torch.cat([_bias_of(layer) for layer in layers]),
        )


def add_lora(model: Sam, *, rank: int = 4) -> "PeftModel":
    """Add adapters to q and v of every block; nothing else trains afterwards.

    Args:
        model: Changed in place; outputs stay the same until something is trained.
        rank: Of the adapters, >= 1. The scale alpha / rank is 1, as in the paper.

    Returns:
        peft's handle on the same model; `save_pretrained(folder)` writes a standard
        adapter.

    Raises:
        ValueError: If the rank is below 1.
    """
    if rank < 1:
        raise ValueError(f"The rank of LoRA must be at least 1, got {rank}.")
    make_torchvision_importable()
    # Importing peft takes six seconds, which only those with adapters should wait for.
    from peft import LoraConfig, get_peft_model

    split_qkv(model)
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        lora_dropout=0.0,
        bias="none",
        target_modules=TARGETS,
    )
    return get_peft_model(model, config)


def load_lora(model: Sam, folder: Path, *, is_trainable: bool = False) -> "PeftModel":
    """Put a saved adapter on a model.

    Args:
        model: Of the kind the adapter was trained on; changed in place.
        folder: With adapter_config.json and adapter_model.safetensors.
        is_trainable: Whether training goes on.

    Returns:
        peft's handle on the same model.
    """
    make_torchvision_importable()
    from peft import PeftModel

    split_qkv(model)
    return PeftModel.from_pretrained(model, str(folder), is_trainable=is_trainable)


def merge_lora(adapted: "PeftModel") -> Sam:
    """Fold the adapters into the weights and fuse q, k and v again.

    Args:
        adapted: What `add_lora` or `load_lora` returned.

    Returns:
        The plain model with the original keys and the same outputs.
    """
    model: Sam = adapted.merge_and_unload()
    fuse_qkv(model)
    return model


def merge_adapters(model: Sam) -> None:
    """Do what `merge_lora` does without peft's handle, in place.

    Args:
        model: With adapters of `add_lora`, or without: then it stays as it is.

    Raises:
        ValueError: If a merged weight would not be finite.
    """
    if not any(isinstance(part, SplitQkv) for part in model.modules()):
        return
    make_torchvision_importable()
    from peft.tuners.lora import LoraLayer

    for part in model.modules():
        if not isinstance(part, SplitQkv):
            continue
        for name in ("q", "k", "v"):
            layer = getattr(part, name)
            if isinstance(layer, LoraLayer):
                layer.merge(safe_merge=True)
                setattr(part, name, layer.get_base_layer())
    fuse_qkv(model)
    # What peft leaves behind makes it warn when new adapters are added.
    model.__dict__.pop("peft_config", None)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


def _bias_of(layer: nn.Linear) -> Tensor:
    bias: Tensor | None = layer.bias
    return layer.weight.new_zeros(len(layer.weight)) if bias is None else bias
