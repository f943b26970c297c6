"""One size and one range of grey for frames from any device.

The front doors are `prepare_frame`, from an archive's frame to a square in [0, 1], and
`standardise`, the z-score that FGA-Net's input has. Real and simulated frames pass
through the same functions.
"""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clients.data.errors import DataError
from clients.data.placement import Box, Placement
from clients.data.valid_region import find_valid_region
from strategies.data_settings import DataSettings

CLIP_PERCENTILE = 0.5
HALF_SHADOW = 0.02  # width of a collimator's edge, in longer sides


class Prepared(NamedTuple):
    """A frame as a network may see it."""

    image: NDArray[np.float32]  # (size, size) in [0, 1], 0 where not valid
    valid: NDArray[np.bool_]  # (size, size), False behind blades and in the padding
    placement: Placement  # leads back to the original frame


class Moments(NamedTuple):
    """Mean and standard deviation of the valid pixels of frames."""

    mean: Tensor  # (batch, 1, 1, 1)
    deviation: Tensor  # (batch, 1, 1, 1), >= 0


def prepare_frame(
    pixels: NDArray[np.number], settings: DataSettings, *, invert: bool
) -> Prepared:
    """Turn a frame of an archive into one of a run.

    The valid region is found, grey values are stretched over it alone (without the
    blades' half-shadow), the frame is cropped to the region's bounding box if the
    settings say so, padded to a square and scaled.
    Where the region's edge runs through a placed pixel, only its valid part counts.

    Args:
        pixels: (height, width), any real type and range.
        settings: Size, crop and percentiles.
        invert: Exchange dark and bright inside the valid region.

    Returns:
        The frame, 0 outside the valid region whatever the polarity, as after FGA-Net's
        normalisation.

    Raises:
        DataError: If the image is not two-dimensional, is empty or is not finite.
    """
    region = find_valid_region(pixels)
    core = None if region.all() else _core(region)
    grey = normalise_frame(pixels, core, settings.clip_percentile)
    grey = np.where(region, 1 - grey if invert else grey, np.float32(0))
    box = _bounding_box(region) if settings.crop == "collimator" else None
    placement = Placement.of(grey.shape, settings.frame_size, box=box)
    image, valid = placement.frame(grey), placement.valid(region)
    if not region.all():  # average over the valid part of each pixel
        image = image / np.maximum(placement.frame(region), 1e-3)
    return Prepared(np.where(valid, image, np.float32(0)).clip(0, 1), valid, placement)


def standardise(
    images: Tensor, valid: Tensor, *, moments: Moments | None = None
) -> Tensor:
    """Give frames mean 0 and standard deviation 1 over their valid region.

    FGA-Net's z-score "over the region" (doi 10.21037/qims-2024-2926, its
    preprocessing). It is taken of the whole frame **before** patches are cut and
    before augmentation, which it would otherwise undo: measure with `valid_moments`
    first, then pass them here.

    Args:
        images: (batch, 1, height, width).
        valid: bool, the same shape.
        moments: Of each frame; None = measured here.

    Returns:
        The same shape, 0 outside the valid region. A frame that is constant or valid
        nowhere becomes zeros.

    Raises:
        DataError: If the shapes differ.
    """
    mean, deviation = valid_moments(images, valid) if moments is None else moments
    # Rounding gives a constant frame a deviation that is not exactly 0.
    scale = torch.where(deviation > 1e-6, 1 / deviation.clamp_min(1e-6), 0.0)
    return torch.where(valid, (images - mean) * scale, 0.0)


def valid_moments(images: Tensor, valid: Tensor) -> Moments:
    """Measure the grey values of frames inside their valid regions.

    Args:
        images: (batch, 1, height, width).
        valid: bool, the same shape.

    Returns:
        Mean and (population) standard deviation of each frame; 0 and 0 where nothing
        is valid.

    Raises:
        DataError: If the shapes differ.
    """
    if images.ndim != 4 or images.shape != valid.shape:
        raise DataError(
            "Images and their valid region need one shape of four axes, got "
            f"{tuple(images.shape)} and {tuple(valid.shape)}."
        )
    count = valid.sum(dim=(1, 2, 3), keepdim=True).clamp_min(1)
    inside = torch.where(valid, images, 0.0)
    mean = inside.sum(dim=(1, 2, 3), keepdim=True) / count
    away = torch.where(valid, images - mean, 0.0)
    return Moments(
        mean, (away.square().sum(dim=(1, 2, 3), keepdim=True) / count).sqrt()
    )


def normalise_frame(
    pixels: NDArray[np.number],
    valid: NDArray[np.bool_] | None = None,
    clip_percentile: float = CLIP_PERCENTILE,
) -> NDArray[np.float32]:
    """Stretch the grey values of a frame to [0, 1].

    By default the 0.5th percentile becomes 0 and the 99.5th becomes 1; values beyond
    are clipped, so a few hot or dead pixels do not set the range. Where these
    percentiles are equal (a thin device on a perfectly flat ground), minimum and
    maximum are used. A constant image holds no information and becomes zeros.

    Args:
        pixels: (height, width), any real type and range.
        valid: (height, width), the pixels whose percentiles count; None = all. The
            others are stretched alike. With no valid pixel, all count.
        clip_percentile: Percentile that is clipped at either end, 0 to below 50.

    Returns:
        (height, width) in [0, 1].

    Raises:
        DataError: If the image is not two-dimensional, is empty or is not finite, or
            the region has another shape.
    """
    if pixels.ndim != 2 or pixels.size == 0:
        raise DataError(f"A frame needs height and width, got shape {pixels.shape}.")
    if valid is not None and valid.shape != pixels.shape:
        raise DataError(
            f"The valid region of a frame of {pixels.shape} needs the same shape, got "
            f"{valid.shape}."
        )
    grey = pixels.astype(np.float64)
    if not np.isfinite(grey).all():
        raise DataError("the image holds pixels that are not finite (NaN or infinity)")
    counted = grey if valid is None or not valid.any() else grey[valid]
    low, high = np.percentile(counted, (clip_percentile, 100 - clip_percentile))
    if high <= low:
        low, high = counted.min(), counted.max()
    if high <= low:
        return np.zeros(grey.shape, np.float32)
    return np.clip((grey - low) / (high - low), 0, 1).astype(np.float32)


def resize_frame(pixels: NDArray[np.number], size: int) -> NDArray[np.float32]:
    """Pad a frame to a square and scale it, see `Placement.frame`.

    Args:
        pixels: (height, width), real values.
        size: Side of the result, px, >= 1.

    Returns:
        (size, size), no value outside the range of the input.
    """
    return Placement.of(pixels.shape, size).frame(pixels)


def resize_mask(mask: NDArray[np.number], size: int) -> NDArray[np.uint8]:
    """Pad a mask to a square and scale it, see `Placement.mask`.

    Args:
        mask: (height, width); nonzero = device.
        size: Side of the result, px, >= 1.

    Returns:
        (size, size) in {0, 1}; thin wires stay in one piece.
    """
    return Placement.of(mask.shape, size).mask(mask)


def _core(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a valid region without its rim, as far as something is left."""
    reach = 2 * round(HALF_SHADOW * max(region.shape)) + 1
    flags = cv2.erode(region.astype(np.uint8), np.ones((reach, reach), np.uint8))
    return flags > 0 if flags.any() else region


def _bounding_box(region: NDArray[np.bool_]) -> Box:
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(0))
    if not len(rows):
        return 0, 0, *region.shape
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
