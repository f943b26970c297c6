"""One predicted frame, on the pixels of the archive."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from clients.data.placement import Placement
from models.tips import distal_tip

Tip = tuple[int, int]
"""Row and column of a pixel, from 0."""


@dataclass(frozen=True)
class PredictedFrame:
    """What was found in a frame, and the frame itself."""

    number: int  # within its file, from 1
    pixels: NDArray[np.number]  # (height, width), larger = brighter
    probabilities: NDArray[np.float32]  # (classes, height, width), 0 where not looked
    masks: NDArray[np.bool_]  # (classes, height, width)

    @classmethod
    def restored(
        cls,
        number: int,
        pixels: NDArray[np.number],
        placed: NDArray[np.float32],
        placement: Placement,
        threshold: float,
    ) -> "PredictedFrame":
        """Put the network's answer back on the original frame.

        Probabilities are scaled and then cut at the threshold: cutting first would
        give a wire the steps of the network's pixels.

        Args:
            number: Of the frame, from 1.
            pixels: The original frame.
            placed: (classes, size, size), for the prepared frame.
            placement: How the frame was prepared.
            threshold: A pixel is the device's where the probability is above it.

        Returns:
            The frame; probability 0 outside the prepared area.
        """
        restored = np.stack([placement.restore(one) for one in placed])
        return cls(number, pixels, restored, restored > threshold)

    @cached_property
    def tips(self) -> tuple[Tip | None, ...]:
        """Return the distal tip of every class, None without one in the frame."""
        return tuple(distal_tip(mask) for mask in self.masks)
