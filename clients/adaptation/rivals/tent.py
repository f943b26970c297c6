"""TENT: adapt the scales of normalisation so that predictions become certain.

Wang et al., "Tent: Fully Test-Time Adaptation by Entropy Minimization", ICLR 2021.
Batch normalisations use the statistics of the batch instead of running ones; per batch
one Adam step on the mean entropy of the outputs. A SAM has no batch normalisation:
arXiv 2410.07460 ran TENT on the coarse network, whose only one has 128 numbers with
ViT-B. For networks without any we offer the affines of layer normalisations, which is
not in TENT's paper.

Dropout and the like stay off, so that a prediction depends on nothing but its batch.
"""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from clients.adaptation.rivals.budget import (
    adapted_flags,
    generator_of,
    on_device,
    shuffled,
)
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from models.losses import cross_entropy_loss
from models.network import SegmentationNetwork
from models.torchvision_ops import make_torchvision_importable
from strategies.adaptation_settings import AdaptationSettings

make_torchvision_importable()

from segment_anything.modeling.common import LayerNorm2d  # noqa: E402 - as above

NORMS = ("auto", "batch", "layer")
LAYER_NORMS = (nn.LayerNorm, LayerNorm2d, nn.GroupNorm)


class Adapted(NamedTuple):
    """A network that adapted while it predicted, and what it predicted."""

    network: SegmentationNetwork
    logits: Tensor  # float32 (frames, classes, size, size), on the CPU, frames in order


def adapt_tent(
    network: SegmentationNetwork,
    frames: FrameSet,
    settings: AdaptationSettings,
    *,
    seed: int,
    device: torch.device,
    norms: str = "auto",
    learning_rate: float = 1e-3,
    steps: int = 1,
    episodic: bool = False,
) -> Adapted:
    """See every frame once, in batches; predict, then adapt to the batch.

    Args:
        network: Stays as it is.
        frames: To adapt to, of the network's size; their labels are not looked at.
        settings: Adapted classes and batch size.
        seed: Of the order, for neighbours in a video are too much alike for a batch.
        device: Where to adapt.
        norms: "batch"; "layer": layer and group normalisations; "auto": "layer" only
            where there is no batch normalisation.
        learning_rate: Of Adam, constant.
        steps: Optimiser steps a batch; the outputs are those before the last.
        episodic: Forget each batch before the next.

    Returns:
        The adapted copy, on the device, whose batch normalisations keep using the
        statistics of each batch, and the logits from before the step of each batch.

    Raises:
        DataError: If the network has no such normalisation, `norms` is unknown or
            there are no steps.
    """
    if steps < 1:
        raise DataError(f"TENT needs at least one step a batch, got {steps}.")
    adapting = copy.deepcopy(network).to(device).eval()
    trained = free_norms(adapting, norms)
    start = [one.detach().clone() for one in trained]
    optimiser = torch.optim.Adam(trained, lr=learning_rate, betas=(0.9, 0.999))
    fresh = copy.deepcopy(optimiser.state_dict())
    logits = torch.empty(frames.masks.shape)
    generator = generator_of(seed, "batches")
    for chosen in shuffled(len(frames), settings.batch_size, generator):
        batch = on_device(frames.subset(chosen), device)
        for _ in range(steps):
            found = adapting(batch.images)
            optimiser.zero_grad(set_to_none=True)
            flags = adapted_flags(settings, len(batch))
            mean_entropy(found, flags, batch.valid).backward()
            optimiser.step()
        logits[chosen] = found.detach().float().cpu()
        if episodic:
            with torch.no_grad():
                for one, value in zip(trained, start, strict=True):
                    one.copy_(value)
            optimiser.load_state_dict(fresh)
    return Adapted(adapting, logits)


def free_norms(network: nn.Module, norms: str) -> list[nn.Parameter]:
    """Freeze a network but for the affines of its normalisations.

    Args:
        network: Changed in place: chosen batch normalisations lose their running
            statistics.
        norms: See `adapt_tent`.

    Returns:
        What trains.

    Raises:
        DataError: If there is none, or `norms` is unknown.
    """
    if norms not in NORMS:
        raise DataError(f"norms must be one of {', '.join(NORMS)}, got '{norms}'.")
    parts = list(network.modules())
    chosen: list[nn.Module] = [one for one in parts if isinstance(one, nn.BatchNorm2d)]
    if norms == "layer" or (norms == "auto" and not chosen):
        chosen = [one for one in parts if isinstance(one, LAYER_NORMS)]
    network.requires_grad_(False)
    for part in chosen:
        part.requires_grad_(True)
        if isinstance(part, nn.BatchNorm2d):
            part.track_running_stats = False
            part.running_mean = part.running_var = part.num_batches_tracked = None
    trained = [one for one in network.parameters() if one.requires_grad]
    if not trained:
        raise DataError(
            f"TENT needs a network with {norms} normalisation that has weights, got "
            "one without. Use the coarse network 'prompt-layers' or norms 'layer'."
        )
    return trained


def mean_entropy(logits: Tensor, flags: Tensor, valid: Tensor) -> Tensor:
    """Compute the mean binary entropy over the valid pixels of the adapted classes.

    The softmax entropy of (background, device) with logits (0, z) is the binary
    entropy of sigmoid(z), and that is the cross-entropy of the prediction with itself.

    Args:
        logits: (batch, classes, height, width).
        flags: bool (batch, classes).
        valid: bool (batch, 1, height, width).

    Returns:
        A scalar from 0 to ln 2.
    """
    return cross_entropy_loss(
        logits, logits.sigmoid(), flags, valid=valid, pooling="batch"
    )
