"""Random changes of grey, in three recipes; masks stay as they are.

Every function takes images (batch, 1, size, size) in [0, 1] with the region in which
their pixels are valid, and returns new images in [0, 1] that are 0 outside of it.
Statistics are taken over the valid region. Every frame is changed in its own way, and
as many numbers are drawn for any content.
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate

from clients.data.preprocessing import valid_moments
from models.torchvision_ops import make_torchvision_importable

make_torchvision_importable()

from torchvision.transforms.v2 import functional  # noqa: E402 - needs the line above

Range = tuple[float, float]

# "light": ours.
MAX_BRIGHTNESS = 0.1  # added, in units of the image's range
CONTRAST_RANGE = (0.75, 1.33)  # factor around the mean
GAMMA_RANGE = (0.7, 1.4)  # exponent
MAX_NOISE = 0.03  # standard deviation of white noise

# "weak": FGA-Net, doi 10.21037/qims-2024-2926, its released recipe (nnU-Net style).
WEAK_NOISE_CHANCE = 0.1
MAX_WEAK_NOISE = 0.1  # standard deviation, in those of the frame
WEAK_BLUR = (0.5, 1.0)  # standard deviation, px
WEAK_BRIGHTNESS = (0.75, 1.25)
WEAK_CONTRAST = (0.75, 1.25)
WEAK_ZOOM = (0.5, 1.0)
WEAK_GAMMA = (0.7, 1.5)
BLUR_KERNEL = 7  # px, three standard deviations to either side

# "strong": arXiv 2410.07460, section on the fine stage, with the default ranges of
# albumentations 1.3.1. Thresholds of 8-bit images are divided by their range.
STRONG_CHANCE = 0.5
POSTER_BITS = 4
SHARPEN_SHARE = (0.2, 0.5)
SHARPEN_LIGHTNESS = (0.5, 1.0)
SOLARIZE_FROM = 128 / 255
STRONG_LIMIT = 0.2  # of brightness, in units of the range, and of contrast
SHADOW_FACTOR = 0.5
SHADOW_FROM = 0.5  # shadows fall on the rows below this share of the height
SHADOW_CORNERS = 5
MAX_SHADOWS = 2


def change_lightly(
    images: Tensor, valid: Tensor, *, generator: torch.Generator
) -> Tensor:
    """Change contrast, brightness, gamma and noise of every frame a little.

    Args:
        images: (batch, 1, size, size) in [0, 1].
        valid: bool, the same shape.
        generator: Source of all randomness, on the CPU.

    Returns:
        New images in [0, 1].
    """

    def uniform(low: float, high: float) -> Tensor:
        numbers = torch.rand(len(images), 1, 1, 1, generator=generator)
        return low + (high - low) * numbers

    everywhere = bool(valid.all())  # saves a third of the time
    inside = images if everywhere else torch.where(valid, images, 0.0)
    count = valid[0].numel() if everywhere else valid.sum((1, 2, 3), keepdim=True)
    mean = inside.sum((1, 2, 3), keepdim=True) / count
    changed = (images - mean) * uniform(*CONTRAST_RANGE) + mean
    changed = changed + uniform(-MAX_BRIGHTNESS, MAX_BRIGHTNESS)
    changed = changed.clamp(0, 1) ** uniform(*GAMMA_RANGE)
    noise = torch.randn(images.shape, generator=generator)
    changed = (changed + uniform(0, MAX_NOISE) * noise).clamp(0, 1)
    return changed if everywhere else torch.where(valid, changed, 0.0)


def change_weakly(
    images: Tensor, valid: Tensor, *, generator: torch.Generator
) -> Tensor:
    """Change frames as FGA-Net and nnU-Net do: each step on some of them, in order.

    Noise (probability 0.1), blur (0.2), brightness (0.15), contrast (0.15), low
    resolution (0.25), gamma of the inverted frame (0.1) and of the frame (0.3).
    FGA-Net has z-scored frames here, ours are in [0, 1]: noise is scaled by the
    frame's own deviation, and brightness multiplies the grey value.

    Args:
        images: (batch, 1, size, size) in [0, 1].
        valid: bool, the same shape.
        generator: Source of all randomness, on the CPU.

    Returns:
        New images in [0, 1].
    """
    chances = torch.rand(len(images), 1 + len(_WEAK_STEPS), generator=generator)
    draws = torch.rand(len(images), 1 + len(_WEAK_STEPS), 2, generator=generator)
    noise = torch.randn(images.shape, generator=generator)
    amount = MAX_WEAK_NOISE * draws[:, 0, 0] * (chances[:, 0] < WEAK_NOISE_CHANCE)
    deviation = valid_moments(images, valid).deviation
    changed = (images + _per_frame(amount) * deviation * noise).clamp(0, 1)
    for number, (share, change) in enumerate(_WEAK_STEPS, start=1):
        some = chances[:, number] < share
        if bool(some.any()):
            found = change(changed[some], valid[some], draws[some, number])
            changed[some] = found.clamp(0, 1)
    return torch.where(valid, changed, 0.0)


def change_strongly(
    images: Tensor, valid: Tensor, *, generator: torch.Generator
) -> Tensor:
    """Make the strong view of sim-to-real adaptation, grey values only.

    Posterize, Equalize, Sharpen, Solarize, RandomBrightnessContrast and RandomShadow
    of albumentations 1.3.1, each with probability 0.5, in this order.

    Args:
        images: (batch, 1, size, size) in [0, 1].
        valid: bool, the same shape.
        generator: Source of all randomness, on the CPU.

    Returns:
        New images in [0, 1].
    """
    chances = torch.rand(len(images), len(_STRONG_STEPS), generator=generator)
    size = (len(images), len(_STRONG_STEPS), 1 + 2 * MAX_SHADOWS * SHADOW_CORNERS)
    draws = torch.rand(size, generator=generator)
    changed = torch.where(valid, images, 0.0)
    for number, change in enumerate(_STRONG_STEPS):
        some = chances[:, number] < STRONG_CHANCE
        if bool(some.any()):
            found = change(changed[some], valid[some], draws[some, number])
            changed[some] = torch.where(valid[some], found.clamp(0, 1), 0.0)
    return changed


def _per_frame(numbers: Tensor) -> Tensor:
    return numbers[:, None, None, None]


def _between(draws: Tensor, limits: Range) -> Tensor:
    return _per_frame(limits[0] + (limits[1] - limits[0]) * draws)


def two_sided(draws: Tensor, limits: Range) -> Tensor:
    """Draw a factor below 1 as often as above, as nnU-Net does.

    Args:
        draws: (frames, 2), uniform in [0, 1).
        limits: Smallest and largest factor, around 1.

    Returns:
        (frames,).
    """
    below = limits[0] + (1 - limits[0]) * draws[:, 1]
    above = 1 + (limits[1] - 1) * draws[:, 1]
    return torch.where(draws[:, 0] < 0.5, below, above)


def _blur(images: Tensor, _: Tensor, draws: Tensor) -> Tensor:
    low, high = WEAK_BLUR
    blurred = [
        functional.gaussian_blur(image, [BLUR_KERNEL] * 2, [low + (high - low) * draw])
        for image, draw in zip(images, draws[:, 0].tolist(), strict=True)
    ]
    return torch.stack(blurred)


def _multiply(images: Tensor, _: Tensor, draws: Tensor) -> Tensor:
    return images * _between(draws[:, 0], WEAK_BRIGHTNESS)


def _contrast(images: Tensor, valid: Tensor, draws: Tensor) -> Tensor:
    """Stretch about the mean, within the frame's own range."""
    mean = valid_moments(images, valid).mean
    low, high = _range(images, valid)
    factor = _per_frame(two_sided(draws, WEAK_CONTRAST))
    return ((images - mean) * factor + mean).clamp(low, high)


def _coarsen(images: Tensor, _: Tensor, draws: Tensor) -> Tensor:
    """Take every n-th pixel and interpolate back, cubic."""
    size = images.shape[-1]
    low, high = WEAK_ZOOM
    found = []
    for image, draw in zip(images, draws[:, 0].tolist(), strict=True):
        small = max(1, round(size * (low + (high - low) * draw)))
        coarse = interpolate(image[None], (small, small), mode="nearest-exact")
        found.append(interpolate(coarse, (size, size), mode="bicubic")[0])
    return torch.stack(found)


def _gamma(images: Tensor, valid: Tensor, draws: Tensor) -> Tensor:
    """Apply an exponent to the frame's own range; keep its mean and deviation."""
    low, high = _range(images, valid)
    width = (high - low).clamp_min(1e-6)
    exponent = _per_frame(two_sided(draws, WEAK_GAMMA))
    curved = ((images - low) / width).clamp(0, 1) ** exponent * width + low
    before, after = valid_moments(images, valid), valid_moments(curved, valid)
    scale = before.deviation / after.deviation.clamp_min(1e-6)
    return (curved - after.mean) * scale + before.mean


def _inverted_gamma(images: Tensor, valid: Tensor, draws: Tensor) -> Tensor:
    return 1 - _gamma(1 - images, valid, draws)


def _range(images: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    low = torch.where(valid, images, 1.0).amin(dim=(1, 2, 3), keepdim=True)
    high = torch.where(valid, images, 0.0).amax(dim=(1, 2, 3), keepdim=True)
    return low, torch.maximum(low, high)


def _posterize(images: Tensor, _: Tensor, __: Tensor) -> Tensor:
    return functional.posterize(images, POSTER_BITS)


def _equalize(images: Tensor, valid: Tensor, _: Tensor) -> Tensor:
    """Equalise the 8-bit histogram of the valid pixels."""
    found = images.clone()
    for image, inside in zip(found, valid, strict=True):
        if bool(inside.any()):
            grey = (255 * image[inside]).round().to(torch.uint8).numpy()
            # torchvision's counts the black of the border; OpenCV's can be masked by
            # what it is given, and is albumentations' default, too.
            even = cv2.equalizeHist(grey[None])[0].astype(np.float32) / 255
            image[inside] = torch.from_numpy(even)
    return found


def _sharpen(images: Tensor, _: Tensor, draws: Tensor) -> Tensor:
    share = _between(draws[:, 0], SHARPEN_SHARE)
    lightness = _between(draws[:, 1], SHARPEN_LIGHTNESS)
    around = functional.pad(images, [1], padding_mode="reflect")
    sums = conv2d(around, torch.ones(1, 1, 3, 3))
    edges = (9 + lightness) * images - sums
    return (1 - share) * images + share * edges


def _solarize(images: Tensor, _: Tensor, __: Tensor) -> Tensor:
    return functional.solarize(images, SOLARIZE_FROM)


def _brighten(images: Tensor, _: Tensor, draws: Tensor) -> Tensor:
    limits = (-STRONG_LIMIT, STRONG_LIMIT)
    factor = 1 + _between(draws[:, 0], limits)
    return images * factor + _between(draws[:, 1], limits)


def _shade(images: Tensor, _: Tensor, draws: Tensor) -> Tensor:
    """Darken what one or two random polygons of the lower half cover."""
    size = images.shape[-1]
    scale = np.array([size, size * (1 - SHADOW_FROM)])
    found = images.clone()
    for image, numbers in zip(found, draws.double().numpy(), strict=True):
        count = 1 + int(numbers[0] * MAX_SHADOWS)
        corners = numbers[1:].reshape(MAX_SHADOWS, SHADOW_CORNERS, 2) * scale
        corners = np.floor(corners + np.array([0, size * SHADOW_FROM]))
        shadow = np.zeros((size, size), np.uint8)
        for polygon in corners[:count].astype(np.int32):
            cv2.fillPoly(shadow, [polygon], 1)
        image[0, torch.from_numpy(shadow) > 0] *= SHADOW_FACTOR
    return found


_Step = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Images, valid region and numbers of the chosen frames -> new images."""

_WEAK_STEPS: tuple[tuple[float, _Step], ...] = (
    (0.2, _blur),
    (0.15, _multiply),
    (0.15, _contrast),
    (0.25, _coarsen),
    (0.1, _inverted_gamma),
    (0.3, _gamma),
)
"""Probability and change, after noise."""

_STRONG_STEPS: tuple[_Step, ...] = (
    _posterize,
    _equalize,
    _sharpen,
    _solarize,
    _brighten,
    _shade,
)
