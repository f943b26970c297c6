"""Simulated devices on real backgrounds, with exact labels: eq. (1).

Wen et al., arXiv 2410.07460, equation (1) and its section on the coarse stage:
X_syn = Y X + (1 - Y) B + N(0, sigma^2), with X a simulated frame, Y the mask of its
devices and B a random patch of target background. Nothing is warped and no network is
used, so the label stays exact. The paper's compositing code was never released;
"attenuate", feathering and the estimate of sigma are ours.
"""

import logging
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from clients.adaptation.background_filling import ground_beneath
from clients.adaptation.background_lines import lines_are_dark
from clients.adaptation.backgrounds import (
    Backgrounds,
    collect_backgrounds,
    draw_numbers,
    estimate_noise,
)
from clients.adaptation.style_polarity import devices_are_dark, inverted
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from strategies.adaptation_settings import AdaptationSettings
from strategies.randomness import derive_seed, generator_from

HALO = 2  # px beside a device that its blur still darkens
DARKEST_GROUND = 0.05  # of a simulated frame; below, transmission means nothing

_log = logging.getLogger(__name__)


class _Noise(NamedTuple):
    """How much noise is added."""

    everywhere: float | None  # sigma of eq. (1); None = only what devices lack
    target: float  # estimated sigma of target and source
    source: float


def restyle(
    source: FrameSet,
    target: FrameSet,
    settings: AdaptationSettings,
    *,
    seed: int,
    target_is_dark: bool | None = None,
) -> FrameSet:
    """Give simulated frames the style of unlabelled ones.

    Composition "paste" is eq. (1). "attenuate" takes from the simulated frame only
    what the device lets through, its grey divided by that of the ground beneath, and
    darkens the background by it.

    With `settings.noise` >= 0 that sigma is added everywhere, as in eq. (1). Estimated
    noise is added inside the device only, and so much that device and background end
    up alike: the background is a piece of a real frame and has its noise already.

    Frames of the opposite polarity are inverted first, see `style_polarity`. With
    background "none" the drawn frames are returned as they are, not inverted either.

    Args:
        source: Simulated frames with labels.
        target: Unlabelled frames of the same size; their masks are not looked at.
        settings: What the composition needs: source_frames, background, composition,
            noise, feather.
        seed: Of everything that is random; the same seed gives the same bits.
        target_is_dark: Whether the target's devices are darker than their ground;
            None = found out from its lines.

    Returns:
        `settings.source_frames` frames, each of the source once before one comes
        again; masks and annotated classes as in the source; sequences and patients as
        in the source, numbered from 0; valid where the background is.

    Raises:
        DataError: If sizes differ, the source has no device or the target no valid
            pixel.
    """
    _check(source, target)
    rng = np.random.default_rng(_seed(seed, "draw"))
    numbers = islice(draw_numbers(len(source), rng), settings.source_frames)
    drawn = _renumbered(source.subset(torch.tensor(list(numbers))))
    if settings.background == "none":
        return drawn
    dark = lines_are_dark(target) if target_is_dark is None else target_is_dark
    if devices_are_dark(source) != dark:
        _log.info("Simulated frames have the other polarity and are inverted.")
        drawn = inverted(drawn)
    backgrounds = style_backgrounds(
        target, settings, seed=seed, count=len(drawn), target_is_dark=dark
    )
    is_given = settings.noise >= 0
    noise = _Noise(
        settings.noise if is_given else None,
        0.0 if is_given else estimate_noise(target),
        0.0 if is_given else estimate_noise(source),
    )
    images = _compose_all(drawn, backgrounds, settings, noise, dark=dark, seed=seed)
    return FrameSet(
        images=images,
        masks=drawn.masks,
        annotated=drawn.annotated,
        sequences=drawn.sequences,
        patients=drawn.patients,
        valid=backgrounds.valid,
    )


def style_backgrounds(
    target: FrameSet,
    settings: AdaptationSettings,
    *,
    seed: int,
    count: int,
    target_is_dark: bool | None = None,
) -> Backgrounds:
    """Return the first backgrounds that `restyle` with the same seed composes on.

    Args:
        target: As there.
        settings: As there, background not "none".
        seed: As there.
        count: How many, >= 1.
        target_is_dark: As there.

    Returns:
        Background k lies behind synthetic frame k.

    Raises:
        DataError: As `collect_backgrounds`.
    """
    return collect_backgrounds(
        target,
        method=settings.background,
        count=count,
        seed=_seed(seed, "backgrounds"),
        dark=target_is_dark,
    )


def compose(image: Tensor, device: Tensor, background: Tensor, noise: Tensor) -> Tensor:
    """Put a device on a background: eq. (1) of arXiv 2410.07460.

    Args:
        image: X, (..., size, size) in [0, 1].
        device: Y, the same shape, 0 to 1; between where the edge is feathered.
        background: B, the same shape, in [0, 1].
        noise: N, the same shape.

    Returns:
        Y X + (1 - Y) B + N, clipped to [0, 1].
    """
    return (device * image + (1 - device) * background + noise).clamp(0, 1)


def transmission(image: Tensor, device: Tensor, valid: Tensor) -> Tensor:
    """Estimate which share of the light devices of a frame let through.

    Args:
        image: (size, size) in [0, 1], devices dark.
        device: bool, the same shape.
        valid: bool, the same shape.

    Returns:
        (size, size), from 0 to 1: grey over that of the ground, which is inpainted
        from beyond the device's blur; 1 where there is no device.
    """
    beside = np.ones((3, 3), np.uint8)
    wide = cv2.dilate(device.numpy().astype(np.uint8), beside, iterations=HALO)
    near, seen = wide > 0, valid.numpy()
    ground = torch.from_numpy(ground_beneath(image.numpy(), near & seen, seen))
    share = (image / ground.clamp(min=DARKEST_GROUND)).clamp(0, 1)
    return torch.where(torch.from_numpy(near), share, 1.0)


def _compose_all(
    drawn: FrameSet,
    backgrounds: Backgrounds,
    settings: AdaptationSettings,
    noise: _Noise,
    *,
    dark: bool,
    seed: int,
) -> Tensor:
    """Compose frame by frame: 254 frames of 1024 px are a gigabyte already."""
    generator = generator_from(_seed(seed, "noise"))
    images = torch.empty_like(drawn.images)
    for number in range(len(drawn)):
        device = drawn.masks[number].amax(dim=0) > 0
        share = _feathered(device, settings.feather)
        grey, background = drawn.images[number, 0], backgrounds.images[number, 0]
        through: Tensor | None = None
        if settings.composition == "attenuate":
            seen = drawn.valid[number, 0]
            # What is dark on one display is what is bright on the other.
            through = transmission(grey if dark else 1 - grey, device, seen)
            grey = background * through if dark else 1 - (1 - background) * through
        white = torch.randn(device.shape, generator=generator)
        added = white * _missing_noise(share, through, noise)
        composed = compose(grey, share, background, added)
        images[number, 0] = torch.where(backgrounds.valid[number, 0], composed, 0.0)
    return images


def _feathered(device: Tensor, feather: float) -> Tensor:
    mask = device.float()
    if feather == 0 or not device.any():
        return mask
    return torch.from_numpy(cv2.GaussianBlur(mask.numpy(), (0, 0), feather)).clamp(0, 1)


def _missing_noise(share: Tensor, through: Tensor | None, noise: _Noise) -> Tensor:
    """Return the sigma that every pixel lacks, given what its parts bring along.

    Variances of independent parts add up with the squares of their shares.
    """
    if noise.everywhere is not None:
        return torch.full_like(share, noise.everywhere)
    if through is None:
        brought = (share * noise.source).square()
        brought += ((1 - share) * noise.target).square()
    else:  # the background's own noise, weakened as its light
        brought = ((1 - share + share * through) * noise.target).square()
    missing = (noise.target**2 - brought).clamp(min=0).sqrt()
    return torch.where(share > 0, missing, 0.0)


def _renumbered(frames: FrameSet) -> FrameSet:
    """Count sequences and patients from 0; what belonged together still does."""
    return FrameSet.trusted(
        images=frames.images,
        masks=frames.masks,
        annotated=frames.annotated,
        sequences=torch.unique(frames.sequences, return_inverse=True)[1],
        patients=torch.unique(frames.patients, return_inverse=True)[1],
        valid=frames.valid,
    )


def _seed(seed: int, purpose: str) -> int:
    return derive_seed(seed, round_number=0, phase="style-transfer", site=purpose)


def _check(source: FrameSet, target: FrameSet) -> None:
    sizes = source.images.shape[-1], target.images.shape[-1]
    if sizes[0] != sizes[1]:
        raise DataError(
            "Simulated and target frames need one size, got "
            f"{sizes[0]} and {sizes[1]} px; simulate frames of the target's size."
        )
    if not source.masks.any():
        raise DataError(
            "The source frames have no device in any mask, so there is nothing to put "
            "on the target's backgrounds; give labelled or simulated frames."
        )
