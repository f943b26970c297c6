"""One size and one range of grey for frames from any device.

Frames and masks share one geometry: padding to a square, centred, then scaling. Real
and simulated frames pass through the same functions. Polarity is left alone: whether
devices are dark or bright is a fact of the hospital that a model has to cope with.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize

from clients.data.errors import DataError

LOW_PERCENTILE = 0.5
HIGH_PERCENTILE = 99.5
MIN_COVERAGE = 0.5
"""A pixel belongs to a device when the device covers at least this share of it."""


def normalise_frame(pixels: NDArray[np.number]) -> NDArray[np.float32]:
    """Stretch the grey values of a frame to [0, 1].

    The 0.5th percentile becomes 0 and the 99.5th becomes 1; values beyond are clipped,
    so a few hot or dead pixels do not set the range. Where these percentiles are
    equal (a thin device on a perfectly flat ground), minimum and maximum are used. A
    constant image holds no information and becomes zeros.

    Args:
        pixels: (height, width), any real type and range.

    Returns:
        (height, width) in [0, 1].

    Raises:
        DataError: If the image is not two-dimensional, is empty or is not finite.
    """
    if pixels.ndim != 2 or pixels.size == 0:
        raise DataError(f"A frame needs height and width, got shape {pixels.shape}.")
    grey = pixels.astype(np.float64)
    if not np.isfinite(grey).all():
        raise DataError("the image holds pixels that are not finite (NaN or infinity)")
    low, high = np.percentile(grey, (LOW_PERCENTILE, HIGH_PERCENTILE))
    if high <= low:
        low, high = grey.min(), grey.max()
    if high <= low:
        return np.zeros(grey.shape, np.float32)
    return np.clip((grey - low) / (high - low), 0, 1).astype(np.float32)


def resize_frame(pixels: NDArray[np.number], size: int) -> NDArray[np.float32]:
    """Scale a frame to a square of a given size.

    A frame that is not square is first padded to one: centred, repeating the value of
    its edge. Shrinking averages areas, growing interpolates linearly.

    Args:
        pixels: (height, width), real values.
        size: Side of the result, px, >= 1.

    Returns:
        (size, size), no value outside the range of the input.
    """
    grey = pixels.astype(np.float32)
    square = cv2.copyMakeBorder(grey, *_padding(grey.shape), cv2.BORDER_REPLICATE)
    shrinks = size < square.shape[0]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(square, (size, size), interpolation=how)
    return np.clip(resized, grey.min(), grey.max())


def resize_mask(mask: NDArray[np.number], size: int) -> NDArray[np.uint8]:
    """Scale a mask as `resize_frame` scales its frame, without losing thin wires.

    A pixel of the result belongs to the device when the device covers at least half
    of it, which keeps the area of wide devices unbiased, **or** when the device's
    one-pixel skeleton runs through it. Coverage alone cannot do both: a 2 px wire at
    512 px that straddles two pixels of a 128 px mask covers a quarter of each, so one
    half tears it, and a quarter would widen every catheter by half a pixel (and would
    still tear the wire at 2048 px). The skeleton is connected wherever the mask is
    and stays connected when scaled, at any ratio. Padding holds no device.

    Args:
        mask: (height, width); nonzero = device.
        size: Side of the result, px, >= 1.

    Returns:
        (size, size) in {0, 1}.
    """
    device = (mask != 0).astype(np.uint8)
    square = cv2.copyMakeBorder(
        device, *_padding(device.shape), cv2.BORDER_CONSTANT, value=0
    )
    side = square.shape[0]
    if size >= side:
        how = cv2.INTER_NEAREST_EXACT
        return cv2.resize(square, (size, size), interpolation=how)
    coverage = cv2.resize(
        square.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA
    )
    resized = (coverage >= MIN_COVERAGE - 1e-6).astype(np.uint8)
    rows, columns = np.nonzero(skeletonize(square.astype(bool)))
    resized[_scaled(rows, size, side), _scaled(columns, size, side)] = 1
    return resized


def _padding(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    height, width = shape
    rows, columns = max(0, width - height), max(0, height - width)
    return rows // 2, rows - rows // 2, columns // 2, columns - columns // 2


def _scaled(positions: NDArray[np.number], size: int, side: int) -> NDArray[np.number]:
    """Return the pixel of the small grid that holds a pixel centre of the large one."""
    return (2 * positions + 1) * size // (2 * side)
