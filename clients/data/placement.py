"""How a frame lies in the square that a network sees, and back again.

An upright box is cut out, padded to a square and scaled. All coordinates are
continuous: the centre of the first pixel is at (0.5, 0.5), so that scaling has no
half-pixel shift and a prediction lands where its frame was.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize

from clients.data.errors import DataError

MIN_COVERAGE = 0.5
"""A pixel belongs to a device when the device covers at least this share of it."""

Box = tuple[int, int, int, int]
"""Top, left, bottom, right; px, bottom and right excluded."""


@dataclass(frozen=True)
class Placement:
    """Where the pixels of one frame go: crop, then a centred square, then a scale.

    Attributes:
        height: Of the original frame, px, >= 1.
        width: Of the original frame, px, >= 1.
        size: Side of the placed frame, px, >= 1.
        box: The crop; its centre becomes the centre of the placed frame, but for half
            a pixel where an odd number of rows or columns is padded.

    Raises:
        DataError: If a length is below 1 or the box is empty or leaves the frame.
    """

    height: int
    width: int
    size: int
    box: Box

    def __post_init__(self) -> None:
        """Refuse what cannot be placed."""
        top, left, bottom, right = self.box
        inside = 0 <= top < bottom <= self.height and 0 <= left < right <= self.width
        if self.size < 1 or not inside:
            raise DataError(
                "A placement needs a box inside its frame and a side of at least 1 px, "
                f"got box {self.box}, frame {(self.height, self.width)} and side "
                f"{self.size}."
            )

    @classmethod
    def of(
        cls, shape: Sequence[int], size: int, *, box: Box | None = None
    ) -> "Placement":
        """Place a frame of a given shape.

        Args:
            shape: Height and width, px.
            size: Side of the placed frame, px.
            box: What to keep; None = all of it.

        Returns:
            The placement.

        Raises:
            DataError: As the class.
        """
        height, width = shape
        return cls(height, width, size, box or (0, 0, height, width))

    @property
    def side(self) -> int:
        """Return the side of the square before scaling, px of the original."""
        top, left, bottom, right = self.box
        return max(bottom - top, right - left)

    def frame(self, pixels: NDArray[np.number]) -> NDArray[np.float32]:
        """Place a frame.

        The padding repeats the values at the box's edge. Shrinking averages areas,
        growing interpolates linearly.

        Args:
            pixels: (height, width), real values.

        Returns:
            (size, size), no value outside the range of the input.

        Raises:
            DataError: If the frame has another shape.
        """
        cut = self._cut(pixels).astype(np.float32)
        square = cv2.copyMakeBorder(cut, *self._padding, cv2.BORDER_REPLICATE)
        return np.clip(_scaled(square, self.size), cut.min(), cut.max())

    def mask(self, mask: NDArray[np.number]) -> NDArray[np.uint8]:
        """Place a mask as its frame, without losing thin wires.

        When shrinking, a pixel belongs to the device when the device covers at least
        half of it, which keeps the area of wide devices unbiased, **or** when the
        device's one-pixel skeleton runs through it. Coverage alone cannot do both: a
        2 px wire at 512 px that straddles two pixels of a 128 px mask covers a quarter
        of each, so one half tears it, and a quarter would widen every catheter by half
        a pixel (and would still tear the wire at 2048 px). The skeleton is connected
        wherever the mask is and stays connected when scaled, at any ratio.

        Args:
            mask: (height, width); nonzero = device.

        Returns:
            (size, size) in {0, 1}; padding holds no device.

        Raises:
            DataError: If the mask has another shape.
        """
        square = self._square(self._cut(mask) != 0)
        if self.size >= self.side:
            how = cv2.INTER_NEAREST_EXACT
            return cv2.resize(square, (self.size, self.size), interpolation=how)
        coverage = _scaled(square.astype(np.float32), self.size)
        placed = (coverage >= MIN_COVERAGE - 1e-6).astype(np.uint8)
        rows, columns = np.nonzero(skeletonize(square.astype(bool)))
        placed[self._small(rows), self._small(columns)] = 1
        return placed

    def valid(self, region: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Place a region without any care for thin parts.

        Args:
            region: (height, width).

        Returns:
            (size, size); True where at least half of a pixel lies in the region. The
            padding does not.

        Raises:
            DataError: If the region has another shape.
        """
        square = self._square(self._cut(region)).astype(np.float32)
        return _scaled(square, self.size) >= MIN_COVERAGE - 1e-6

    def restore(self, probabilities: NDArray[np.number]) -> NDArray[np.float32]:
        """Put a prediction back on the original frame.

        Args:
            probabilities: (size, size), for the placed frame.

        Returns:
            (height, width), 0 outside the box; equal to the prediction, to the bit,
            where nothing was scaled.

        Raises:
            DataError: If the prediction has another shape.
        """
        if probabilities.shape != (self.size, self.size):
            raise DataError(
                f"A prediction of {(self.size, self.size)} is needed, got "
                f"{probabilities.shape}."
            )
        square = _scaled(probabilities.astype(np.float32), self.side)
        top, left, bottom, right = self.box
        above, _, before, _ = self._padding
        restored = np.zeros((self.height, self.width), np.float32)
        restored[top:bottom, left:right] = square[
            above : above + bottom - top, before : before + right - left
        ]
        return restored

    def points(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Move points of the original frame to the placed one.

        Args:
            points: (..., 2) of x, y in px; the centre of the first pixel is (0.5, 0.5).

        Returns:
            (..., 2) of x, y in px of the placed frame, also outside of it.
        """
        return (np.asarray(points, np.float64) - self._origin) * self.size / self.side

    def restore_points(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Move points of the placed frame to the original one.

        Args:
            points: (..., 2) of x, y in px of the placed frame.

        Returns:
            (..., 2) of x, y in px; the centre of the first pixel is (0.5, 0.5).
        """
        return np.asarray(points, np.float64) * self.side / self.size + self._origin

    @property
    def _padding(self) -> Box:
        """Return rows above and below, columns before and after, px."""
        top, left, bottom, right = self.box
        rows, columns = self.side - (bottom - top), self.side - (right - left)
        return rows // 2, rows - rows // 2, columns // 2, columns - columns // 2

    @property
    def _origin(self) -> NDArray[np.float64]:
        """Return x, y of the square's corner in the original frame."""
        above, _, before, _ = self._padding
        return np.array([self.box[1] - before, self.box[0] - above], np.float64)

    def _cut(self, pixels: NDArray) -> NDArray:
        if pixels.shape != (self.height, self.width):
            raise DataError(
                f"A frame of {(self.height, self.width)} is needed, got {pixels.shape}."
            )
        top, left, bottom, right = self.box
        return pixels[top:bottom, left:right]

    def _square(self, flags: NDArray[np.bool_]) -> NDArray[np.uint8]:
        return cv2.copyMakeBorder(
            flags.astype(np.uint8), *self._padding, cv2.BORDER_CONSTANT, value=0
        )

    def _small(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the placed pixel that holds the centre of a pixel of the square."""
        return (2 * positions + 1) * self.size // (2 * self.side)


def _scaled(square: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    how = cv2.INTER_AREA if size < len(square) else cv2.INTER_LINEAR
    return cv2.resize(square, (size, size), interpolation=how)
