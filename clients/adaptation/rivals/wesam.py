"""WeSAM: self-training of one SAM, held by a frozen one.

Zhang et al., "Improving the Generalization of Segmentation Foundation Model under
Distribution Shift via Weakly Supervised Adaptation", CVPR 2024, and its code. Teacher
(weak view) and student (strong view) are one model with LoRA; the anchor is the SAM as
it came. With b() for binarised, per frame and class:

    L = 20 Focal(stu, b(tea)) + Dice(stu, b(tea)) + MSE(predicted IoU, IoU)
        + 1/2 Dice(stu, anchor) + 1/2 Dice(tea, anchor) + InfoNCE(tea, anchor)

WeSAM* of arXiv 2410.07460, the default here: the anchor's masks are the pseudo-labels,
and there are no prompts.

Where we differ from the released code: its contrast weighs the embedding by raw logits,
looks at one image at a time (one device in a frame then contrasts with nothing) and
leaves an empty mask undefined; ours takes the anchor's masks and all devices of the
batch. Two empty masks have an IoU of 1.
"""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from clients.adaptation.prompting import PROMPT_KINDS, prompts_from
from clients.adaptation.rivals.budget import (
    OnEpoch,
    adapted_only,
    descend_on_views,
    generator_of,
    trainable_copy,
)
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from models.loss_terms import DiceTerm, FocalTerm
from models.mixed_loss import MixedLoss
from models.sam import Sam
from models.sam_prompts import Prompts
from strategies.adaptation_settings import AdaptationSettings

ANCHORS = ("pseudo-labels", "sam")
TEMPERATURE = 0.3

# The code focuses the mean cross-entropy of an image, not that of every pixel.
FOCAL = MixedLoss([(1.0, FocalTerm(alpha=0.8, balanced=False, of_mean=True))])
DICE = MixedLoss([(1.0, DiceTerm())])


class Seen(NamedTuple):
    """What one pass through a SAM yields."""

    logits: Tensor  # (batch, classes, size, size)
    features: Tensor  # (batch, dim, h, w)
    predicted_iou: Tensor  # (batch, classes), of the decoder's own head


class Anchor(NamedTuple):
    """What must not be forgotten."""

    masks: Tensor  # (batch, classes, size, size), 0 or 1
    features: Tensor  # (batch, dim, h, w)


def adapt_wesam(
    sam: Sam,
    frames: FrameSet,
    settings: AdaptationSettings,
    *,
    seed: int,
    device: torch.device,
    prompts: str = "none",
    anchor: str = "pseudo-labels",
    iou_weight: float = 1.0,
    on_epoch: OnEpoch | None = None,
) -> Sam:
    """Adapt a copy of a SAM to frames with pseudo-labels.

    Args:
        sam: Stays as it is, and is the anchor.
        frames: With pseudo-labels of the adapted classes, of the network's size.
        settings: Classes, trainable part, threshold and budget.
        seed: Of adapters, order, views and points.
        device: Where to train.
        prompts: Of all three, from the pseudo-labels: one of `PROMPT_KINDS`.
        anchor: Whose masks are held on to: "pseudo-labels", or those that the
            unchanged "sam" finds.
        iou_weight: Of the predicted IoU, as published 1. Its head is frozen here;
            where it has never been trained (a SAM that is not an official one) it asks
            for nothing sensible: use 0.
        on_epoch: See `OnEpoch`.

    Returns:
        The adapted copy, on the device, in evaluation mode.

    Raises:
        DataError: If a choice is unknown, no adapted class has labels, or nothing
            trains.
        TrainingError: If the loss is not finite.
    """
    _check("prompts", prompts, PROMPT_KINDS)
    _check("anchor", anchor, ANCHORS)
    labelled = adapted_only(frames, settings)
    adapting = trainable_copy(sam, settings, mode=settings.training, seed=seed)
    former = copy.deepcopy(sam).to(device).eval().requires_grad_(False)
    generator = generator_of(seed, "prompts")
    threshold = settings.logit_threshold

    def loss_of(weak: FrameSet, strong: FrameSet) -> Tensor:
        devices = weak.masks.amax(dim=1)  # of the adapted classes alone
        seen = weak.valid[:, 0]
        given = prompts_from(devices, prompts, generator=generator, valid=seen)
        held = Anchor(weak.masks, former.encode(weak.images))
        if anchor == "sam":
            found = look(former, weak.images, given).logits
            held = held._replace(masks=(found > threshold).to(weak.masks.dtype))
        teacher = look(adapting, weak.images, given)
        student = look(adapting, strong.images, given)
        return wesam_loss(
            student, teacher, held, weak, threshold=threshold, iou_weight=iou_weight
        )

    descend_on_views(
        adapting,
        labelled,
        settings,
        seed=seed,
        device=device,
        loss_of=loss_of,
        on_epoch=on_epoch,
    )
    return adapting


def look(sam: Sam, images: Tensor, prompts: Prompts | None) -> Seen:
    """Segment images and predict how good each mask is.

    Args:
        sam: Any.
        images: (batch, 1, size, size), values 0 to 1.
        prompts: One set an image, or None.

    Returns:
        Logits, features and predicted IoU of the same pass.
    """
    decoder = sam.mask_decoder
    caught: list[Tensor] = []

    def catch(_: nn.Module, __: object, output: tuple[Tensor, Tensor]) -> None:
        caught.append(output[0][:, 0])  # the first token predicts IoU

    handle = decoder.transformer.register_forward_hook(catch)
    try:
        logits, features, _ = sam.forward_with_features(images, prompts)
    finally:
        handle.remove()
    predicted = decoder.iou_prediction_head(caught[0])
    return Seen(logits, features, predicted[:, list(sam.class_tokens)])


def wesam_loss(
    student: Seen,
    teacher: Seen,
    anchor: Anchor,
    batch: FrameSet,
    *,
    threshold: float,
    iou_weight: float = 1.0,
) -> Tensor:
    """Compute the loss of the module's first lines.

    Args:
        student: Of the strong view.
        teacher: Of the weak view, by the same model.
        anchor: Of the weak view.
        batch: Says which classes and pixels count.
        threshold: Logit of b().
        iou_weight: Of the predicted IoU, >= 0.

    Returns:
        A scalar.
    """
    known, valid = batch.annotated, batch.valid
    found = (teacher.logits.detach() > threshold).to(torch.uint8)
    loss: Tensor = 20 * FOCAL(student.logits, found, known, valid)
    loss = loss + DICE(student.logits, found, known, valid)
    loss = loss + DICE(student.logits, anchor.masks, known, valid) / 2
    loss = loss + DICE(teacher.logits, anchor.masks, known, valid) / 2
    if iou_weight > 0:
        reached = overlap(student.logits > threshold, found > 0, valid)
        gap = functional.mse_loss(student.predicted_iou[known], reached[known])
        loss = loss + iou_weight * gap
    masks = anchor.masks * known[:, :, None, None] * valid
    return loss + contrast(teacher.features, anchor.features, masks)


def overlap(masks: Tensor, others: Tensor, valid: Tensor) -> Tensor:
    """Compute the IoU of every frame and class.

    Args:
        masks: bool (batch, classes, height, width).
        others: bool, the same shape.
        valid: bool (batch, 1, height, width), the pixels that count.

    Returns:
        float32 (batch, classes), 0 to 1; 1 where both are empty.
    """
    both = (masks & others & valid).sum(dim=(2, 3)).float()
    either = ((masks | others) & valid).sum(dim=(2, 3)).float()
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)


def contrast(
    features: Tensor,
    anchors: Tensor,
    masks: Tensor,
    *,
    temperature: float = TEMPERATURE,
) -> Tensor:
    """Compute -log(sum_i exp(s_ii / tau) / sum_ij exp(s_ij / tau)).

    s_ij is the cosine of the prototypes of devices i and j, one in each of the two
    embeddings: means of the normalised embedding over the cells that a mask touches.

    Args:
        features: (batch, dim, h, w).
        anchors: The same shape.
        masks: (batch, classes, height, width), 0 or 1; each that is not empty is a
            device.
        temperature: tau, > 0.

    Returns:
        A scalar >= 0; 0 for less than two devices.
    """
    cells = functional.adaptive_max_pool2d(masks.float(), features.shape[-2:])
    frame, number = torch.nonzero(cells.amax(dim=(2, 3)), as_tuple=True)
    if len(frame) < 2:
        return features.sum() * 0.0
    chosen = cells[frame, number]  # (devices, h, w)
    ours, theirs = (
        functional.normalize(
            torch.einsum(
                "nchw,nhw->nc", functional.normalize(maps, dim=1)[frame], chosen
            ),
            dim=1,
        )
        for maps in (features, anchors)
    )
    similar = ours @ theirs.T / temperature
    same: Tensor = similar.diagonal().logsumexp(dim=0)
    return similar.flatten().logsumexp(dim=0) - same


def _check(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise DataError(f"{name} must be one of {', '.join(allowed)}, got '{value}'.")
