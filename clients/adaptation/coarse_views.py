"""Random changes of the simulated frames that the coarse network learns from.

The recipe of the released code of arXiv 2410.07460: colour jitter, flips, intensity,
noise. Every frame is changed in its own way, and as many numbers are drawn for any
content.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from clients.data.augmentation import weak_view
from clients.data.frames import FrameSet
from clients.data.preprocessing import valid_moments

# Of the paper's code. Its noise, once on, is never off again; this is what it means.
FACTOR_RANGE = (0.5, 1.5)
SHIFT_RANGE = (-0.5, 0.5)  # in means of the frame
NOISE_CHANCE = 0.5
MAX_NOISE = 0.1  # standard deviation, in units of the range

# Colour jitter of a grey frame; the ranges are ours.
BRIGHTNESS_RANGE = (0.8, 1.2)  # factor
CONTRAST_RANGE = (0.8, 1.2)  # factor about the mean


class CoarseView(NamedTuple):
    """A changed batch; masks, valid pixels and images moved together."""

    images: Tensor  # float32 (batch, 1, size, size), NOT within [0, 1]; 0 if not valid
    masks: Tensor  # uint8 (batch, classes, size, size)
    annotated: Tensor  # bool (batch, classes)
    valid: Tensor  # bool (batch, 1, size, size)


def coarse_view(frames: FrameSet, *, generator: torch.Generator) -> CoarseView:
    """Flip frames and change their brightness, contrast, intensity and noise.

    Brightness and contrast times U(0.8, 1.2) each; vertical and horizontal flip with
    probability 0.5 each; x U(0.5, 1.5) + U(-0.5, 0.5) mean; with probability 0.5 white
    noise of standard deviation U(0, 0.1). Means are of the valid pixels.

    Nothing is clipped to [0, 1]: a bright frame times 1.5 would be white all over, and
    the network would learn that there is a wire where none can be seen. A SAM shifts
    and scales its input and takes any number.

    Args:
        frames: A batch; stays as it is.
        generator: Source of all randomness, on the CPU.

    Returns:
        The changed batch.
    """
    flipped = weak_view(frames, generator=generator)
    numbers = torch.rand(len(frames), 6, generator=generator)
    noise = torch.randn(flipped.images.shape, generator=generator)
    images, valid = flipped.images, flipped.valid

    def uniform(column: int, limits: tuple[float, float]) -> Tensor:
        low, high = limits
        return (low + (high - low) * numbers[:, column])[:, None, None, None]

    images = images * uniform(0, BRIGHTNESS_RANGE)
    mean = valid_moments(images, valid).mean
    images = (images - mean) * uniform(1, CONTRAST_RANGE) + mean
    # The mean is that of the frame after the jitter, which contrast leaves alone.
    images = images * uniform(2, FACTOR_RANGE) + uniform(3, SHIFT_RANGE) * mean
    has_noise = (numbers[:, 4] < NOISE_CHANCE).float()[:, None, None, None]
    images = images + has_noise * uniform(5, (0.0, MAX_NOISE)) * noise
    return CoarseView(
        images=torch.where(valid, images, 0.0),
        masks=flipped.masks,
        annotated=flipped.annotated,
        valid=valid,
    )
