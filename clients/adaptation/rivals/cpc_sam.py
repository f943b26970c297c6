"""CPC-SAM: two decoders on one encoder teach each other by prompts.

Miao et al., "Cross Prompting Consistency with Segment Anything Model for
Semi-supervised Medical Image Segmentation", MICCAI 2024, and its code. Here the
labelled half of every batch is simulated, the other half is the target. An iteration
has one optimiser step, and after a share of all iterations three, each with a pass of
its own:

1. both decoders without prompts; sup(first) + sup(second) on labels, with
   sup = 0.2 CE + 0.8 Dice;
2. points drawn from the second decoder's output prompt the first, twice. The mean of
   both outputs is the pseudo-label y of the target half:
   sup(both) + 0.4 * 1/2 (CE + Dice)(second, y) + 0.05 * 1/2 (CE + Dice)(again, y);
3. the same with the roles swapped.

Ours: points of all adapted classes together (SAM knows device and background points
only); the first decoder keeps SAM's weights and the second begins with new heads for
the classes, since two equal decoders would stay equal (the code gives both random
weights); losses at full size, as everywhere here. As in the code the first decoder is
the one that is used in the end, without prompts.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from clients.adaptation.prompting import prompts_from
from clients.adaptation.rivals.budget import (
    RampedSteps,
    adapted_flags,
    adapted_only,
    endless,
    generator_of,
    on_device,
    seeded,
    trainable_copy,
    trained_parameters,
)
from clients.data.augmentation import weak_view
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from models.loss_terms import CrossEntropyTerm, DiceTerm
from models.mixed_loss import MixedLoss
from models.sam import Sam
from models.sam_prompts import Prompts
from strategies.adaptation_settings import AdaptationSettings

SUPERVISED = MixedLoss([(0.2, CrossEntropyTerm()), (0.8, DiceTerm())], pooling="class")
CONSISTENCY = MixedLoss([(0.5, CrossEntropyTerm()), (0.5, DiceTerm())], pooling="class")
CROSS_WEIGHT = 0.4
PROMPT_WEIGHT = 0.05
SWITCH = 5_000 / 30_000
WEIGHT_DECAY = 0.1


class Branches(NamedTuple):
    """Two SAMs with one encoder and one prompt encoder."""

    first: Sam
    second: Sam


class Halves(NamedTuple):
    """A batch: labelled frames before unlabelled ones."""

    images: Tensor
    valid: Tensor
    labelled: FrameSet
    unlabelled: FrameSet


def adapt_cpc_sam(
    sam: Sam,
    frames: FrameSet,
    source: FrameSet,
    settings: AdaptationSettings,
    *,
    seed: int,
    device: torch.device,
    switch: float = SWITCH,
    learning_rate: float = 1e-3,
    points: int = 1,
) -> Sam:
    """Train a copy of a SAM on labelled and unlabelled frames together.

    Args:
        sam: Stays as it is.
        frames: The target, of the network's size; its labels are not looked at.
        source: Labelled, of the same size.
        settings: Classes, rank, threshold and budget: as many iterations as the fine
            stage has steps, with its batch size in either half.
        seed: Of adapters, heads, order, flips and points.
        device: Where to train.
        switch: Share of the iterations before the decoders teach each other.
        learning_rate: Of AdamW, after the ramp.
        points: Inside, and as many outside, of each set.

    Returns:
        The SAM with the first decoder, on the device, in evaluation mode.

    Raises:
        DataError: If the source has no labels of an adapted class, or a number is out
            of range.
        TrainingError: If the loss is not finite.
    """
    if not 0 <= switch <= 1 or points < 1:
        raise DataError(
            "CPC-SAM needs a switch between 0 and 1 and at least one point, got "
            f"{switch} and {points}."
        )
    generator = generator_of(seed, "batches")
    branches = build_branches(sam, settings, seed=seed)
    for one in branches:
        one.to(device).train()
    optimiser = torch.optim.AdamW(
        trained_parameters(*branches), lr=learning_rate, weight_decay=WEIGHT_DECAY
    )
    steps = RampedSteps(optimiser, learning_rate, settings.ramp_steps)
    total = settings.epochs * math.ceil(len(frames) / settings.batch_size)
    batches = _halves(frames, source, settings, generator, device)
    for iteration in range(total):
        halves = next(batches)
        steps.descend(unprompted_loss(branches, halves))
        if iteration < switch * total:
            continue
        for prompted, plain in (branches, (branches.second, branches.first)):
            loss = cross_prompt_loss(
                prompted,
                plain,
                halves,
                threshold=settings.logit_threshold,
                points=points,
                generator=generator,
            )
            steps.descend(loss)
    return branches.first.eval()


def build_branches(sam: Sam, settings: AdaptationSettings, *, seed: int) -> Branches:
    """Copy a SAM, adapt its encoder by LoRA and give it a second decoder.

    Args:
        sam: Stays as it is.
        settings: Rank of the adapters.
        seed: Of adapters and of the second decoder's heads.

    Returns:
        Both, on the CPU. Decoders, adapters and the embeddings of points train.
    """
    first = trainable_copy(sam, settings, mode="lora-decoder", seed=seed)
    encoder = first.prompt_encoder
    encoder.point_embeddings.requires_grad_(True)
    encoder.not_a_point_embed.requires_grad_(True)
    shared = (first.image_encoder, encoder)
    second = copy.deepcopy(first, {id(part): part for part in shared})
    with seeded(seed, "heads"):
        for token in second.class_tokens:
            head = second.mask_decoder.output_hypernetworks_mlps[token]
            for layer in head.modules():
                if isinstance(layer, nn.Linear):
                    layer.reset_parameters()
    return Branches(first, second)


def unprompted_loss(branches: Branches, halves: Halves) -> Tensor:
    """Compute the loss of step 1, on the labelled half."""
    labelled = halves.labelled
    features = branches.first.encode(labelled.images)
    losses = [
        _label_loss(_decode(one, features, labelled.images, None), labelled)
        for one in branches
    ]
    return torch.stack(losses).sum()


def cross_prompt_loss(
    prompted: Sam,
    plain: Sam,
    halves: Halves,
    *,
    threshold: float,
    points: int,
    generator: torch.Generator,
) -> Tensor:
    """Compute the loss of step 2 (or 3, with the arguments swapped).

    Args:
        prompted: Branch that is prompted; it makes the pseudo-label.
        plain: Branch without prompts, whose output the points are drawn from; it
            learns the pseudo-label.
        halves: The batch.
        threshold: Logit above which a pixel is a device.
        points: Inside, and as many outside, of each of the two sets.
        generator: Of the points.

    Returns:
        A scalar.
    """
    images, labelled, unlabelled = halves.images, halves.labelled, halves.unlabelled
    features = prompted.encode(images)
    answer = _decode(plain, features, images, None)
    # Of the target all adapted classes are wanted, of the source those with labels.
    known = torch.cat([labelled.annotated, unlabelled.annotated])
    devices = ((answer.detach() > threshold) & known[:, :, None, None]).any(dim=1)
    first, again = (
        _decode(prompted, features, images, _points(devices, halves, points, generator))
        for _ in range(2)
    )
    count = len(labelled)
    target = pseudo_label(first[count:], again[count:], threshold)
    flags, valid = unlabelled.annotated, unlabelled.valid
    learnt = CONSISTENCY(answer[count:], target, flags, valid)
    steady = CONSISTENCY(again[count:], target, flags, valid)
    taught: Tensor = _label_loss(first[:count], labelled) + _label_loss(
        again[:count], labelled
    )
    return taught + CROSS_WEIGHT * learnt + PROMPT_WEIGHT * steady


def pseudo_label(first: Tensor, again: Tensor, threshold: float) -> Tensor:
    """Binarise the mean probability of two outputs.

    Args:
        first: Logits of any shape.
        again: Logits of the same shape.
        threshold: Logit that counts as a device from above.

    Returns:
        uint8, the same shape; no gradient.
    """
    mean = (first.detach().sigmoid() + again.detach().sigmoid()) / 2
    return (mean > torch.tensor(threshold).sigmoid()).to(torch.uint8)


def _points(
    devices: Tensor, halves: Halves, count: int, generator: torch.Generator
) -> Prompts | None:
    return prompts_from(
        devices,
        "points",
        generator=generator,
        positives=count,
        negatives=count,
        valid=halves.valid[:, 0],
    )


def _label_loss(logits: Tensor, batch: FrameSet) -> Tensor:
    loss: Tensor = SUPERVISED(logits, batch.masks, batch.annotated, batch.valid)
    return loss


def _decode(
    branch: Sam, features: Tensor, images: Tensor, prompts: Prompts | None
) -> Tensor:
    logits = branch.decode(features, images, prompts)
    return functional.interpolate(logits, size=images.shape[-2:], mode="bilinear")


def _halves(
    frames: FrameSet,
    source: FrameSet,
    settings: AdaptationSettings,
    generator: torch.Generator,
    device: torch.device,
) -> Iterator[Halves]:
    """Yield batches for ever; the target's labels are hidden, its classes all wanted.

    The last batch of an epoch of the target may be small, as in the fine stage.
    """
    flags = adapted_flags(settings, len(frames))
    hidden = replace(frames, masks=torch.zeros_like(frames.masks), annotated=flags)
    labels = adapted_only(source, settings)
    for pair in zip(
        endless(labels, settings.batch_size, generator),
        endless(hidden, settings.batch_size, generator),
        strict=False,  # neither ends
    ):
        parts = [
            on_device(weak_view(part, generator=generator), device) for part in pair
        ]
        images = torch.cat([part.images for part in parts])
        yield Halves(images, torch.cat([part.valid for part in parts]), *parts)
