"""Segment frames with every kind of prompt: nothing, a box, points, or both.

Points are drawn as arXiv 2410.07460 (SAM from simulation to real) evaluates: five
inside a mask and five outside, uniformly with replacement. What the mask is, a
pseudo-label or the truth, is the caller's choice. Plain torch; knows nothing of Flower.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from clients.data.errors import DataError
from clients.data.frames import Frames, FrameSet
from models.network import SegmentationNetwork
from models.sam import Sam
from models.sam_prompts import Prompts, boxes_around
from strategies.randomness import derive_seed, generator_from

PROMPT_KINDS = ("none", "box", "points", "points-box")
POINTS = 5  # inside the mask, and as many outside
DEVICE, BACKGROUND, PADDING = 1, 0, -1  # labels of SAM's points


def prompts_from(
    masks: Tensor,
    kind: str,
    *,
    generator: torch.Generator,
    positives: int = POINTS,
    negatives: int = POINTS,
    valid: Tensor | None = None,
) -> Prompts | None:
    """Make the prompts of a batch out of one mask a frame.

    Args:
        masks: (batch, height, width), of the size of the network's input; nonzero =
            device. An empty mask gets the whole image as its box, and no positive
            points; a mask without any outside gets no negative ones.
        kind: One of `PROMPT_KINDS`.
        generator: On the CPU; a frame takes as many numbers whatever it shows.
        positives: Points inside a mask, >= 0.
        negatives: Points outside, >= 0.
        valid: bool (batch, height, width), where pixels can be seen; all else is
            neither inside nor outside. None = everywhere.

    Returns:
        The prompts, on the device of the masks; None for "none".

    Raises:
        DataError: If the kind is unknown, a shape is wrong, or no point is wanted.
    """
    _check_kind(kind)
    _check_masks(masks, valid)
    if kind == "none":
        return None
    seen = torch.ones_like(masks, dtype=torch.bool) if valid is None else valid
    inside = (masks > 0) & seen
    points = labels = None
    boxes = boxes_around(inside) if kind != "points" else None
    if kind != "box":
        counts = (positives, negatives)
        points, labels = _draw_points(inside, seen & ~inside, counts, generator)
    return Prompts(points=points, point_labels=labels, boxes=boxes)


@torch.no_grad()
def segment(
    model: SegmentationNetwork,
    frames: Frames,
    *,
    kind: str = "none",
    prompt_masks: Tensor | None = None,
    batch_size: int,
    device: torch.device,
    seed: int,
) -> Tensor:
    """Predict all frames, with prompts from a mask a frame where they are wanted.

    Args:
        model: Ends on the device; its modes of training are as before afterwards.
        frames: Of the network's size.
        kind: One of `PROMPT_KINDS`; all but "none" need a `Sam`.
        prompt_masks: (frames, height, width) or (frames, classes, height, width), of
            which the union counts: one set of prompts a frame, whatever the classes.
            Needed for all but "none". A network takes one prompt for all classes.
        batch_size: Frames per pass; prompts do not depend on it.
        device: Where to compute.
        seed: Decides the points, >= 0.

    Returns:
        Logits (frames, classes, size, size), float32 on the CPU, of every pixel, also
        of those that are not valid. `segment_masks` needs an eighth of the memory.

    Raises:
        DataError: If prompts are wanted of a network that takes none, masks are
            missing, or a shape does not fit.
    """
    batches = _logits(model, frames, kind, prompt_masks, batch_size, device, seed)
    return torch.cat([logits for logits, _ in batches])


@torch.no_grad()
def segment_masks(
    model: SegmentationNetwork,
    frames: Frames,
    *,
    threshold_logit: float,
    kind: str = "none",
    prompt_masks: Tensor | None = None,
    batch_size: int,
    device: torch.device,
    seed: int,
) -> Tensor:
    """Do what `segment` does and compare with a threshold.

    Args:
        model: See `segment`, as for all others.
        frames: What to predict.
        threshold_logit: A pixel above it is a device: `settings.logit_threshold`.
        kind: Of prompt.
        prompt_masks: Where prompts come from.
        batch_size: Frames per pass.
        device: Where to compute.
        seed: Of the points.

    Returns:
        uint8 (frames, classes, size, size) on the CPU, 0 where not valid.

    Raises:
        DataError: As `segment`.
    """
    batches = _logits(model, frames, kind, prompt_masks, batch_size, device, seed)
    return torch.cat(
        [((logits > threshold_logit) & valid).byte() for logits, valid in batches]
    )


def _logits(
    model: SegmentationNetwork,
    frames: Frames,
    kind: str,
    prompt_masks: Tensor | None,
    batch_size: int,
    device: torch.device,
    seed: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits (batch, classes, size, size) and valid pixels, both on the CPU."""
    _check_kind(kind)
    masks = None if kind == "none" else _prompt_masks(model, prompt_masks, len(frames))
    generator = generator_from(
        derive_seed(seed, round_number=0, phase="prompts", site="")
    )
    with _evaluating(model.to(device)):
        for start in range(0, len(frames), batch_size):
            end = min(start + batch_size, len(frames))
            part = frames.subset(torch.arange(start, end))
            _check_size(part, model)
            images = part.images.to(device)
            if masks is None or not isinstance(model, Sam):
                logits = model(images)
            else:
                prompts = prompts_from(
                    masks[start:end].cpu(),
                    kind,
                    generator=generator,
                    valid=part.valid[:, 0],
                )
                moved = _moved(prompts, device)
                logits = model.forward_with_features(images, moved).logits
            yield logits.float().cpu(), part.valid


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode for a while."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _draw_points(
    inside: Tensor,
    outside: Tensor,
    counts: tuple[int, int],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return points (batch, count, 2), x before y, and labels (batch, count)."""
    if min(counts) < 0 or sum(counts) == 0:
        raise DataError(
            f"At least one point is needed, got {counts[0]} and {counts[1]}."
        )
    drawn = torch.rand(
        (len(inside), sum(counts)), generator=generator, dtype=torch.float64
    ).split(counts, dim=1)
    points, labels = [], []
    for region, label, shares in zip(
        (inside, outside), (DEVICE, BACKGROUND), drawn, strict=True
    ):
        chosen = [
            _places(area, share) for area, share in zip(region, shares, strict=True)
        ]
        points.append(torch.stack([places for places, _ in chosen]))
        known = torch.tensor([is_known for _, is_known in chosen])
        labels.append(torch.where(known, label, PADDING)[:, None].expand_as(shares))
    where = inside.device
    return torch.cat(points, dim=1).to(where), torch.cat(labels, dim=1).to(where)


def _places(area: Tensor, shares: Tensor) -> tuple[Tensor, bool]:
    """Return pixels (count, 2) of an area at shares in [0, 1), and whether it has any.

    An area without pixels gives zeros, for which SAM has the label of padding.
    """
    pixels = area.nonzero().cpu().flip(1).float()  # x before y
    if not len(pixels):
        return torch.zeros(len(shares), 2), False
    return pixels[(shares * len(pixels)).long()], True


def _prompt_masks(
    model: SegmentationNetwork, masks: Tensor | None, count: int
) -> Tensor:
    """Return one mask a frame, (frames, size, size)."""
    if not isinstance(model, Sam):
        raise DataError(
            f"Prompts need a SAM, got a {type(model).__name__}, which takes none. Use "
            "the prompt kind 'none'."
        )
    size = model.image_size
    if masks is not None and masks.ndim == 4:
        masks = masks.amax(dim=1)
    if masks is None or tuple(masks.shape) != (count, size, size):
        came = "none" if masks is None else str(tuple(masks.shape))
        raise DataError(
            f"Prompts of {count} frame(s) need masks ({count}, {size}, {size}), or the "
            f"same with an axis of classes, got {came}."
        )
    return masks


def _moved(prompts: Prompts | None, device: torch.device) -> Prompts | None:
    if prompts is None:
        return None
    parts = vars(prompts).items()
    return Prompts(
        **{name: None if part is None else part.to(device) for name, part in parts}
    )


def _check_masks(masks: Tensor, valid: Tensor | None) -> None:
    if masks.ndim != 3 or (valid is not None and valid.shape != masks.shape):
        came = "none" if valid is None else str(tuple(valid.shape))
        raise DataError(
            "Prompts come from masks (batch, height, width) and valid pixels of the "
            f"same shape, got {tuple(masks.shape)} and {came}."
        )


def _check_size(frames: FrameSet, model: SegmentationNetwork) -> None:
    size = frames.images.shape[-1]
    if size != model.image_size:
        raise DataError(
            f"Frames of {model.image_size} px were wanted, as the network takes them, "
            f"got {size} px. Read them at the network's size."
        )


def _check_kind(kind: str) -> None:
    if kind not in PROMPT_KINDS:
        raise DataError(
            f"A prompt must be one of {', '.join(PROMPT_KINDS)}, got '{kind}'."
        )
