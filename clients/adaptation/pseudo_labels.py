"""From the coarse network's predictions to labels that the fine stage learns from.

arXiv 2410.07460: predict, clean, and skip the frames of which nothing is left (on
which the released code crashes). How a mask is cleaned is in
`clients.adaptation.clusters`; how good the result is, in
`clients.adaptation.label_quality`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from clients.adaptation.clusters import clean_mask
from clients.adaptation.label_quality import (
    Agreement,
    PseudoLabelQuality,
    measure_quality,
)
from clients.adaptation.scores import score_masks
from clients.data.batches import evaluation_batches, predict
from clients.data.errors import DataError
from clients.data.frames import Frames, FrameSet
from models.classes import CLASS_NAMES
from models.network import SegmentationNetwork
from strategies.adaptation_settings import AdaptationSettings
from strategies.data_settings import DataSettings

UNCHANGED = DataSettings(
    frame_size=0,
    crop="none",
    clip_percentile=0.5,
    polarity="keep",
    normalise="unit",
    augmentation="none",
)
"""Networks see frames as a `FrameSet` holds them, in [0, 1]."""


class CleanedMasks(NamedTuple):
    """Masks of many frames after cleaning; of classes not adapted all is 0."""

    masks: Tensor  # uint8 (frames, classes, size, size)
    before: Tensor  # int64 (frames, classes), clusters found
    after: Tensor  # int64 (frames, classes), clusters kept


@dataclass(frozen=True)
class PseudoLabels:
    """The frames that keep a pseudo-label.

    Attributes:
        frames: Masks are the pseudo-labels; annotated are the adapted classes and no
            others, whatever anybody had annotated before.
        kept: int64, the numbers of these frames among all, rising.
        quality: What was kept of what was predicted.
    """

    frames: FrameSet
    kept: Tensor
    quality: PseudoLabelQuality


@torch.no_grad()
def predict_logits(
    network: SegmentationNetwork,
    frames: Frames,
    *,
    batch_size: int,
    device: torch.device,
    settings: DataSettings | None = None,
) -> Tensor:
    """Predict frames without prompts.

    Args:
        network: Ends on the device; its modes of training are as before afterwards.
        frames: Larger than the network = a sliding window.
        batch_size: Frames per pass.
        device: Where to compute.
        settings: How frames are normalised; None = not at all.

    Returns:
        Logits (frames, classes, size, size), float32 on the CPU, 0 where not valid.
    """
    found = _predictions(network, frames, batch_size, device, settings or UNCHANGED)
    return torch.cat([torch.where(valid, logits, 0.0) for logits, valid in found])


@torch.no_grad()
def predict_masks(
    network: SegmentationNetwork,
    frames: Frames,
    *,
    threshold_logit: float,
    batch_size: int,
    device: torch.device,
    settings: DataSettings | None = None,
) -> Tensor:
    """Do what `predict_logits` does and compare with a threshold.

    Args:
        network: See `predict_logits`, as for the others.
        frames: What to predict.
        threshold_logit: A pixel above it is a device: `settings.logit_threshold`.
        batch_size: Frames per pass.
        device: Where to compute.
        settings: How frames are normalised; None = not at all.

    Returns:
        uint8 (frames, classes, size, size) on the CPU, 0 where not valid.
    """
    found = _predictions(network, frames, batch_size, device, settings or UNCHANGED)
    return torch.cat([((z > threshold_logit) & valid).byte() for z, valid in found])


def clean_masks(masks: Tensor, settings: AdaptationSettings) -> CleanedMasks:
    """Clean predicted masks, one frame and class after the other.

    Args:
        masks: uint8 or bool (frames, classes of `CLASS_NAMES`, size, size).
        settings: Which classes, and how; see `clients.adaptation.clusters`.

    Returns:
        New masks and how many clusters there were and are.

    Raises:
        DataError: If the masks have another shape.
    """
    if masks.ndim != 4 or masks.shape[1] != len(CLASS_NAMES):
        raise DataError(
            f"Masks (frames, {len(CLASS_NAMES)}, size, size) were wanted, got "
            f"{tuple(masks.shape)}."
        )
    cleaned = torch.zeros_like(masks, dtype=torch.uint8, device="cpu")
    before = torch.zeros(masks.shape[:2], dtype=torch.int64)
    after = before.clone()
    for index, name in enumerate(CLASS_NAMES):
        if name not in settings.class_names:
            continue
        for number, mask in enumerate((masks[:, index] > 0).cpu().numpy()):
            found = clean_mask(mask, settings)
            cleaned[number, index] = torch.from_numpy(found.mask)
            before[number, index], after[number, index] = found.before, found.after
    return CleanedMasks(cleaned, before, after)


def pseudo_labelled(
    frames: FrameSet, masks: Tensor, settings: AdaptationSettings
) -> PseudoLabels:
    """Clean predicted masks and make them the labels of their frames.

    A class of which a frame shows nothing is labelled as absent, as long as the frame
    keeps a label of another; frames that keep none are skipped.

    Args:
        frames: What was predicted; their own labels are not looked at.
        masks: uint8 or bool, of the shape of the frames' masks.
        settings: Classes and cleaning.

    Returns:
        The frames that keep a label.

    Raises:
        DataError: If the shapes differ or no frame keeps a label.
    """
    if masks.shape != frames.masks.shape:
        raise DataError(
            f"Predictions of {tuple(frames.masks.shape)} were wanted, one for every "
            f"frame and class, got {tuple(masks.shape)}."
        )
    predicted = (masks > 0).cpu() & frames.valid
    cleaned = clean_masks(predicted, settings)
    quality = measure_quality(
        predicted, cleaned.masks, cleaned.before, cleaned.after, settings.class_names
    )
    kept = cleaned.masks.amax(dim=(1, 2, 3)).nonzero()[:, 0]
    if not len(kept):
        raise DataError(_none_left(quality))
    labelled = with_labels(frames, kept, cleaned.masks[kept], settings.class_names)
    return PseudoLabels(labelled, kept, quality)


def with_labels(
    frames: FrameSet, kept: Tensor, masks: Tensor, names: tuple[str, ...]
) -> FrameSet:
    """Give some frames other labels.

    Args:
        frames: All frames.
        kept: int64, numbers of the frames that are wanted.
        masks: uint8 (wanted frames, classes, size, size).
        names: Classes that count as annotated in each of them.

    Returns:
        These frames with these masks.

    Raises:
        DataError: If a shape, a type or a value does not fit.
    """
    chosen = frames.subset(kept)
    adapted = torch.tensor([name in names for name in CLASS_NAMES])
    annotated = adapted.expand(len(kept), -1).clone()
    return replace(chosen, masks=masks, annotated=annotated)


def agreement(labels: PseudoLabels, truth: FrameSet) -> Agreement:
    """Compare pseudo-labels with the annotations that some frames have.

    Nothing may be chosen by it where labels are said to be unknown.

    Args:
        labels: The pseudo-labels.
        truth: All frames, as far as somebody annotated them.

    Returns:
        Means over frames.

    Raises:
        DataError: If these are other frames.
    """
    names = tuple(labels.quality.classes)
    everything = torch.zeros_like(truth.masks)
    if labels.quality.frames != len(truth):
        raise DataError(
            f"The truth of {labels.quality.frames} frames was wanted, got "
            f"{len(truth)}. Give all frames, the skipped ones too."
        )
    everything[labels.kept] = labels.frames.masks
    return Agreement(
        kept=score_masks(labels.frames.masks, truth.subset(labels.kept), names),
        all=score_masks(everything, truth, names),
    )


def _none_left(quality: PseudoLabelQuality) -> str:
    """Say why no frame keeps a label and what may help."""
    predicted = max(one.predicted for one in quality.classes.values())
    advice = (
        "Lower adapt.min-cluster or adapt.cluster-pixels, or train the coarse stage "
        "longer (adapt.coarse-epochs)."
        if predicted
        else "Train the coarse stage longer (adapt.coarse-epochs) or lower "
        "adapt.threshold."
    )
    return (
        f"Pseudo-labels of {' or '.join(quality.classes)} were wanted, but none of "
        f"{quality.frames} frames keeps one; before cleaning at most {predicted} had "
        f"a prediction of one class. {advice}"
    )


def _predictions(
    network: SegmentationNetwork,
    frames: Frames,
    batch_size: int,
    device: torch.device,
    settings: DataSettings,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits (batch, classes, size, size) and valid pixels, on the CPU."""
    with _evaluating(network.to(device)):
        for batch in evaluation_batches(
            frames, batch_size=batch_size, settings=settings, device=device
        ):
            logits = predict(network, batch.images, network.image_size)
            yield logits.float().cpu(), batch.valid.cpu()


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
