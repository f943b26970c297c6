"""The coarse stage: train a small network on simulated frames with exact labels.

arXiv 2410.07460 (SAM from simulation to real), section on the coarse stage, with the
recipe of its released code. What the network predicts of real frames becomes their
pseudo-labels. Plain torch; knows nothing of Flower.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from clients.adaptation.coarse_views import CoarseView, coarse_view
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from clients.optimisation import TrainingError, take_step
from models.classes import CLASS_NAMES
from models.losses import cross_entropy_loss
from models.network import SegmentationNetwork
from models.prompt_layers import PromptedEncoderNetwork
from models.sam import Sam
from models.training_modes import choose_trainable
from strategies.adaptation_settings import AdaptationSettings
from strategies.randomness import derive_seed, generator_from

LOSS_WEIGHT = 10.0
DECAY_POWER = 0.9

OnStep = Callable[[int, int, float], None]
"""Hears the step, from 1, of how many, and its loss."""


def train_coarse(
    sam: SegmentationNetwork,
    synthetic: FrameSet,
    settings: AdaptationSettings,
    *,
    seed: int,
    device: torch.device,
    on_step: OnStep | None = None,
) -> SegmentationNetwork:
    """Train the network of the coarse stage.

    AdamW, poly decay (1 - step / steps)^0.9 of the learning rate, no warm-up and no
    clipping of gradients, loss 10 x cross-entropy. The released network has two
    outputs and a softmax; its cross-entropy is the binary one of their difference:
    -log softmax(z0, z1)_1 = -log sigmoid(z1 - z0). One sigmoid a class is therefore
    the same loss, and classes may overlap. The released code feeds the encoder images
    of mean and deviation 0.5; our SAM normalises inside, as its weights were trained,
    and that is kept.

    Args:
        sam: Stays as it is; a copy is trained. Usually a `Sam`; other networks go
            with `coarse_network` "sam" and `training` "full".
        synthetic: Frames of the network's size with exact labels. Only the classes
            that are adapted count.
        settings: "prompt-layers" trains prompt layers and a plain decoder on the
            frozen encoder, the paper's; "sam" what `training` says of a SAM.
        seed: Decides initial weights, batches and augmentation.
        device: Where to train.
        on_step: Told of every step.

    Returns:
        The network, on the device and in evaluation mode.

    Raises:
        DataError: If the frames are of another size or annotate none of a class, or
            prompt layers are wanted of a network that is no SAM.
        TrainingError: If the loss is not finite.
    """
    frames = _only_adapted(sam, synthetic, settings)
    network = _build(sam, settings, seed).to(device).train()
    optimiser = torch.optim.AdamW(
        [one for one in network.parameters() if one.requires_grad],
        lr=settings.coarse_learning_rate,
        weight_decay=settings.coarse_weight_decay,
        fused=True,  # a third of the time for a network of many small tensors
    )
    steps = settings.coarse_epochs * math.ceil(len(frames) / settings.coarse_batch_size)
    for step, view in enumerate(_views(frames, settings, seed)):
        rate = settings.coarse_learning_rate * (1 - step / steps) ** DECAY_POWER
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss = _loss(network, view, device)
        if not bool(torch.isfinite(loss)):
            raise TrainingError(
                f"The loss of the coarse stage became {loss.item()} in step "
                f"{step + 1} of {steps}. Lower adapt.coarse-learning-rate."
            )
        take_step(optimiser, loss, clip_norm=math.inf)
        if on_step is not None:
            on_step(step + 1, steps, float(loss.detach()))
    return network.eval()


def _only_adapted(
    sam: SegmentationNetwork, synthetic: FrameSet, settings: AdaptationSettings
) -> FrameSet:
    """Forget the labels of classes that are not adapted; refuse what cannot train."""
    size = synthetic.images.shape[-1]
    if size != sam.image_size:
        raise DataError(
            f"Simulated frames of {sam.image_size} px were wanted, as the network "
            f"takes them, got {size} px. Draw them at the network's size."
        )
    adapted = torch.tensor([name in settings.class_names for name in CLASS_NAMES])
    annotated = synthetic.annotated & adapted
    for name, is_known in zip(CLASS_NAMES, annotated.any(0).tolist(), strict=True):
        if name in settings.class_names and not is_known:
            raise DataError(
                f"Simulated frames with labels of the class '{name}' were wanted, got "
                f"{len(synthetic)} without. Take it out of adapt.classes or use "
                "another source."
            )
    masks = synthetic.masks * adapted[:, None, None].byte()
    return replace(synthetic, annotated=annotated, masks=masks)


def _build(
    sam: SegmentationNetwork, settings: AdaptationSettings, seed: int
) -> SegmentationNetwork:
    """Copy a SAM into the network to train; new weights depend on the seed alone."""
    copied = copy.deepcopy(sam).cpu()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_derived(seed, "coarse weights"))
        if settings.coarse_network == "sam":
            return choose_trainable(copied, settings.training, rank=settings.lora_rank)
        if isinstance(copied, Sam):
            return PromptedEncoderNetwork(copied, zero_init=settings.zero_init)
    raise DataError(
        f"Prompt layers need a SAM, got a {type(sam).__name__}. Set "
        "adapt.coarse-network = 'sam' and adapt.training = 'full'."
    )


def _views(
    frames: FrameSet, settings: AdaptationSettings, seed: int
) -> Iterator[CoarseView]:
    """Yield changed batches; every epoch has each frame once, in another order."""
    generator = generator_from(_derived(seed, "coarse batches"))
    for _ in range(settings.coarse_epochs):
        order = torch.randperm(len(frames), generator=generator)
        for chosen in order.split(settings.coarse_batch_size):
            yield coarse_view(frames.subset(chosen), generator=generator)


def _loss(
    network: SegmentationNetwork, view: CoarseView, device: torch.device
) -> Tensor:
    loss = cross_entropy_loss(
        network(view.images.to(device)),
        view.masks.to(device),
        view.annotated.to(device),
        valid=view.valid.to(device),
    )
    return LOSS_WEIGHT * loss


def _derived(seed: int, phase: str) -> int:
    return derive_seed(seed, round_number=0, phase=phase, site="")
