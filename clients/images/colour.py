"""One grey value for a colour."""

import cv2
import numpy as np
from numpy.typing import NDArray

from clients.data.errors import DataError

COLOUR_CHANNELS = (3, 4)
"""Red, green, blue, and possibly an opacity, which is left out."""


def luminance(pixels: NDArray[np.number], *, order: str = "RGB") -> NDArray[np.number]:
    """Turn colour into grey: 0.299 red + 0.587 green + 0.114 blue [ITU-R BT.601].

    Args:
        pixels: (height, width, 3 or 4), any real type and range. A fourth channel is
            opacity and ignored.
        order: Of the first three channels, "RGB" or "BGR".

    Returns:
        (height, width) float32 in the range of the colours. Where all three are equal,
        that value, up to rounding.

    Raises:
        DataError: If there is another number of channels.
    """
    if pixels.ndim != 3 or pixels.shape[2] not in COLOUR_CHANNELS:
        raise DataError("has neither one, three nor four channels; export it as grey")
    how = {"RGB": cv2.COLOR_RGB2GRAY, "BGR": cv2.COLOR_BGR2GRAY}[order]
    return cv2.cvtColor(np.ascontiguousarray(pixels[..., :3], np.float32), how)
