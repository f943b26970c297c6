"""Random changes of training frames that leave their meaning alone.

Flips and quarter turns are exact on the pixel grid, so a thin wire keeps its width
and its mask; brightness, contrast, gamma and noise change the frame only. Every number
comes from the generator that is passed in, and as many are drawn for any content.
"""

import torch
from torch import Tensor

from clients.data.errors import DataError

MAX_BRIGHTNESS = 0.1  # added, in units of the image's range
CONTRAST_RANGE = (0.75, 1.33)  # factor around the mean
GAMMA_RANGE = (0.7, 1.4)  # exponent
MAX_NOISE = 0.03  # standard deviation of white noise


def augment(
    images: Tensor, masks: Tensor, *, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Change every frame of a batch at random, each in its own way.

    Args:
        images: float32 (batch, 1, size, size) in [0, 1].
        masks: (batch, classes, size, size), any type.
        generator: Source of all randomness, on the CPU.

    Returns:
        New images in [0, 1] and masks with the same shapes and types; the masks have
        been flipped and turned exactly as their images.

    Raises:
        DataError: If the frames are not square or do not fit the masks.
    """
    fits = images.ndim == masks.ndim == 4 and len(images) == len(masks)
    if not fits or {*images.shape[2:]} != {*masks.shape[2:]} or _is_oblong(images):
        raise DataError(
            "Augmentation needs square images and masks of one size, got "
            f"{tuple(images.shape)} and {tuple(masks.shape)}."
        )
    turns = torch.randint(4, (len(images),), generator=generator).tolist()
    flips = torch.randint(2, (len(images),), generator=generator).tolist()
    return (
        _change_grey(_move(images, turns, flips), generator),
        _move(masks, turns, flips),
    )


def _is_oblong(images: Tensor) -> bool:
    return images.shape[2] != images.shape[3]


def _move(batch: Tensor, turns: list[int], flips: list[int]) -> Tensor:
    """Flip, then turn by quarters; together all eight symmetries of the square."""
    moved = [
        torch.rot90(sample.flip(-1) if flip else sample, turn, dims=(-2, -1))
        for sample, turn, flip in zip(batch, turns, flips, strict=True)
    ]
    return torch.stack(moved) if moved else batch.clone()


def _change_grey(images: Tensor, generator: torch.Generator) -> Tensor:
    def uniform(low: float, high: float) -> Tensor:
        numbers = torch.rand(len(images), 1, 1, 1, generator=generator)
        return (low + (high - low) * numbers).to(images)

    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    changed = (images - mean) * uniform(*CONTRAST_RANGE) + mean
    changed = changed + uniform(-MAX_BRIGHTNESS, MAX_BRIGHTNESS)
    changed = changed.clamp(0, 1) ** uniform(*GAMMA_RANGE)
    noise = torch.randn(images.shape, generator=generator).to(images)
    return (changed + uniform(0, MAX_NOISE) * noise).clamp(0, 1)
