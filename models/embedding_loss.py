"""The embedding loss of adaptation from simulation to real X-ray, with its prototypes.

Wen et al., arXiv 2410.07460, eqs. (5) and (6). The released loss is identically zero
and normalises over the batch; here channels are normalised, and the released one is
kept under the name "zero". Knows nothing of prompts or training.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

KINDS = ("infonce", "positive", "zero")


class Prototypes(NamedTuple):
    """What the device and what the rest of every image look like on average."""

    foreground: Tensor  # (batch, dim), zeros where there is none
    background: Tensor  # (batch, dim), zeros where there is none
    has_foreground: Tensor  # (batch,), bool
    has_background: Tensor  # (batch,), bool


def prototypes(
    features: Tensor, masks: Tensor, valid: Tensor | None = None
) -> Prototypes:
    """Average embeddings over the device and over the rest, eq. (5).

    A cell of the embedding grid belongs to the device if any of its pixels does.

    Args:
        features: Embeddings (batch, dim, h, w).
        masks: (batch, height, width), nonzero = device; of any size.
        valid: (batch, height, width), bool; cells without a valid pixel belong to
            neither. None = all are valid.

    Returns:
        The two means of every image, and which of them exist.

    Raises:
        ValueError: If the shapes disagree.
    """
    _check_masks(features, masks, valid)
    grid = features.shape[-2:]
    device = masks.to(features.device) != 0
    if valid is None:
        rest = ~_cells(device, grid)
    else:
        seen = valid.to(device=features.device, dtype=torch.bool)
        device = device & seen
        rest = _cells(seen, grid) & ~_cells(device, grid)
    inside = _cells(device, grid)
    return Prototypes(
        foreground=_mean_over(features, inside),
        background=_mean_over(features, rest),
        has_foreground=inside.flatten(1).any(dim=1),
        has_background=rest.flatten(1).any(dim=1),
    )


def embedding_loss(
    student: Tensor,
    teacher: Tensor,
    masks: Tensor,
    *,
    kind: str,
    temperature: float,
    valid: Tensor | None = None,
) -> Tensor:
    """Pull the student's device to the teacher's, eq. (6) for one view.

    "infonce" is -log(exp(c+ / t) / (exp(c+ / t) + sum exp(c- / t))), c = cosine over
    channels of the student's foreground prototype with: c+, the teacher's foreground of
    the same image; c-, the teacher's background of the same image and its foreground of
    each other image. "positive" is mean(1 - c+) / t. "zero" is what was released: the
    diagonal of the softmax over similarities divided by its own sum, whose logarithm is
    0 with no gradient, for any features.

    Args:
        student: Embeddings (batch, dim, h, w).
        teacher: The same, of the same view; may have another grid.
        masks: (batch, height, width), pseudo-labels, nonzero = device. Images without
            a device are left out.
        kind: One of `KINDS`.
        temperature: tau, > 0.
        valid: (batch, height, width), bool, or None for the whole images.

    Returns:
        A float32 scalar >= 0, mean over the images with a device; 0 with a gradient of
        zeros if there is none. Gradients flow to both sides.

    Raises:
        ValueError: If shapes, kind or temperature are not as above.
    """
    _check(student, teacher, kind, temperature)
    # Autocast must not bring half precision back: exp(1 / 0.1) is large.
    with torch.autocast(student.device.type, enabled=False):
        nothing = 0.0 * (student.float().sum() + teacher.float().sum())
        learns = prototypes(student.float(), masks, valid)
        known = learns.has_foreground
        if kind == "zero" or not bool(known.any()):
            return nothing
        teaches = prototypes(teacher.float(), masks, valid)
        own = functional.normalize(learns.foreground[known], dim=1)
        wanted = functional.normalize(teaches.foreground[known], dim=1)
        if kind == "positive":
            return (1.0 - (own * wanted).sum(dim=1)).mean() / temperature
        rest = functional.normalize(teaches.background[known], dim=1)
        # The diagonal holds c+, the rest of a row the other images.
        devices = own @ wanted.T
        rests = (own * rest).sum(dim=1, keepdim=True)
        rests = rests.masked_fill(~teaches.has_background[known][:, None], -torch.inf)
        scores = torch.cat([devices, rests], dim=1) / temperature
        return functional.cross_entropy(
            scores, torch.arange(len(own), device=scores.device)
        )


def _cells(pixels: Tensor, grid: torch.Size) -> Tensor:
    """Say which cells have a pixel: (batch, height, width) to (batch, h, w), bool."""
    shares = functional.interpolate(pixels[:, None].float(), tuple(grid), mode="area")
    return shares[:, 0] > 0


def _mean_over(features: Tensor, cells: Tensor) -> Tensor:
    weights = cells[:, None].to(features.dtype)
    total = (features * weights).sum(dim=(2, 3))
    return total / weights.sum(dim=(2, 3)).clamp(min=1.0)


def _check(student: Tensor, teacher: Tensor, kind: str, temperature: float) -> None:
    if kind not in KINDS:
        raise ValueError(
            f"An embedding loss must be one of {', '.join(KINDS)}, got '{kind}'."
        )
    if not temperature > 0:
        raise ValueError(f"The temperature must be > 0, got {temperature}.")
    if student.shape[:2] != teacher.shape[:2]:
        raise ValueError(
            "Student and teacher need embeddings of one batch and width, got "
            f"{tuple(student.shape)} and {tuple(teacher.shape)}. Take two networks of "
            "one kind, or give the embedding loss the weight 0."
        )


def _check_masks(features: Tensor, masks: Tensor, valid: Tensor | None) -> None:
    fits = valid is None or valid.shape == masks.shape
    if features.ndim != 4 or masks.ndim != 3 or len(features) != len(masks) or not fits:
        came = None if valid is None else tuple(valid.shape)
        raise ValueError(
            "Prototypes need features (batch, dim, h, w), masks (batch, height, width) "
            f"and valid of their shape or None, got {tuple(features.shape)}, "
            f"{tuple(masks.shape)} and {came}."
        )
