"""The features of any part of a network, beside its logits.

FedEFM (arXiv 2501.16992) does not say from which layer the features of eq. (3) come,
so it is a setting: a dotted name, as in `named_modules`.
"""

import difflib

import torch
from torch import Tensor, nn

from models.network import SegmentationNetwork, SegmentationOutput
from models.sam import Sam
from models.sam_prompts import Prompts
from models.torchvision_ops import make_torchvision_importable

make_torchvision_importable()

from segment_anything.modeling import ImageEncoderViT  # noqa: E402 - needs the above


class TapError(ValueError):
    """A tap does not fit the network; the message names the setting only."""


def forward_with_tap(
    model: SegmentationNetwork,
    images: Tensor,
    tap: str,
    prompts: Prompts | None = None,
) -> SegmentationOutput:
    """Segment images and keep what one part of the network made of them.

    Args:
        model: Not changed. Gradients flow through the tapped features; works inside
            `torch.func.functional_call`, too.
        images: (batch, 1, size, size), as the network takes them.
        tap: Dotted name of a part whose output is a feature map, for example
            "image_encoder.blocks.1" or "down.3"; "" = the encoder's deepest features.
        prompts: One set per image, which a SAM alone can take; None = none.

    Returns:
        What `forward_with_features` returns, with the features (batch, dim, h, w)
        those of the tap; of its last use if the pass uses it more than once.

    Raises:
        TapError: If there is no such part, the pass does not use it, or its output is
            no feature map of the batch.
        ValueError: If the images are not of that shape.
    """
    if not tap:
        return _forward(model, images, prompts)
    try:
        part = model.get_submodule(tap)
    except AttributeError:
        reason = "which the network does not have"
        raise TapError(_advice(model, tap, reason)) from None
    caught: list[object] = []

    def keep(_: nn.Module, __: object, output: object) -> None:
        # A copy: what follows may work in place, as `ReLU(inplace=True)` does.
        caught[:] = [output.clone() if isinstance(output, Tensor) else output]

    hook = part.register_forward_hook(keep)
    try:
        output = _forward(model, images, prompts)
    finally:
        hook.remove()
    if not caught:
        raise TapError(_advice(model, tap, "which no pass goes through as a whole"))
    features = caught[0]
    if (
        not isinstance(features, Tensor)
        or features.ndim != 4
        or len(features) != len(images)
    ):
        raise TapError(_advice(model, tap, f"which yields {_describe(features)}"))
    if _has_channels_last(model, tap):
        features = features.permute(0, 3, 1, 2)
    return output._replace(features=features)


def _forward(
    model: SegmentationNetwork, images: Tensor, prompts: Prompts | None
) -> SegmentationOutput:
    if prompts is None:
        return model.forward_with_features(images)
    if not isinstance(model, Sam):
        raise ValueError(f"Only a SAM takes prompts, got {type(model).__name__}.")
    return model.forward_with_features(images, prompts)


def _has_channels_last(model: SegmentationNetwork, tap: str) -> bool:
    """Tell whether a tap lies in a SAM encoder's blocks: (batch, h, w, dim)."""
    names = tap.split(".")
    for depth, name in enumerate(names):
        encoder = model.get_submodule(".".join(names[:depth]))
        if isinstance(encoder, ImageEncoderViT):
            return name == "blocks" or names[depth:] == ["patch_embed"]
    return False


def _describe(output: object) -> str:
    if isinstance(output, torch.Tensor):
        return f"{tuple(output.shape)} and no map (batch, dim, h, w)"
    return "no tensor"


def _advice(model: SegmentationNetwork, tap: str, problem: str) -> str:
    # Stages of a network lie in lists; they are what one taps.
    stages = [
        name
        for parent, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
        for name in [f"{parent}.{number}" for number in range(len(module))]
        if not any(part.isdigit() for part in parent.split("."))
    ]
    close = difflib.get_close_matches(tap, stages, n=3, cutoff=0.5)
    named = ", ".join(f"'{name}'" for name in [*close, *stages][:3])
    return (
        f"The tap is '{tap}', {problem}. Use '' for the encoder's deepest features"
        + (f" or a part like {named}." if named else ".")
    )
