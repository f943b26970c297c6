"""Predictions drawn on their frames, pixel by pixel, as stills or as a video.

Colours are those of the other pictures (`experiments/overlays.py`), blended so that the
device shines through; a ring marks the tip. Where classes overlap, the later one lies
on top.
"""

from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from clients.data.errors import DataError
from clients.data.preprocessing import normalise_frame
from experiments.prediction.frames import PredictedFrame
from models.classes import CLASS_NAMES

CLASS_COLOURS_RGB = {"catheter": (86, 180, 233), "guidewire": (230, 159, 0)}
OPACITY = 0.55
RING_SHARE = 1 / 64  # of the longer side
FRAME_RATE_HZ = 15.0  # of a video whose source names none


def draw_overlay(frame: PredictedFrame, *, tips: bool) -> NDArray[np.uint8]:
    """Draw a frame with its masks.

    Args:
        frame: The prediction.
        tips: Whether to mark the tips.

    Returns:
        (height, width, 3), blue first as OpenCV wants it.
    """
    grey = np.round(255 * normalise_frame(frame.pixels))
    picture = np.repeat(grey[..., None], 3, axis=2)
    for name, mask in zip(CLASS_NAMES, frame.masks, strict=True):
        colour = np.array(CLASS_COLOURS_RGB[name][::-1], float)
        picture[mask] = (1 - OPACITY) * picture[mask] + OPACITY * colour
    drawn = np.ascontiguousarray(picture, dtype=np.uint8)
    if tips:
        radius = max(3, round(RING_SHARE * max(drawn.shape)))
        for name, tip in zip(CLASS_NAMES, frame.tips, strict=True):
            if tip is not None:
                colour = CLASS_COLOURS_RGB[name][::-1]
                cv2.circle(drawn, tip[::-1], radius, colour, 2, cv2.LINE_AA)
    return drawn


class OverlayVideo:
    """An MP4 that grows frame by frame; a context manager that closes it.

    Args:
        path: Of the file.
        frame_time_ms: Between frames; None = `FRAME_RATE_HZ`.
    """

    def __init__(self, path: Path, frame_time_ms: float | None) -> None:
        """Write nothing yet: the size comes with the first frame."""
        self._path = path
        self._rate = 1000 / frame_time_ms if frame_time_ms else FRAME_RATE_HZ
        self._writer: cv2.VideoWriter | None = None

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Append a picture.

        Args:
            picture: (height, width, 3), blue first. A last odd row or column, which
                MP4 does not have, gets a black neighbour.

        Raises:
            DataError: If OpenCV cannot write MP4 here.
        """
        height, width = picture.shape[:2]
        even = cv2.copyMakeBorder(
            picture, 0, height % 2, 0, width % 2, cv2.BORDER_CONSTANT
        )
        if self._writer is None:
            self._writer = cv2.VideoWriter(
                str(self._path),
                cv2.VideoWriter.fourcc(*"mp4v"),
                self._rate,
                (even.shape[1], even.shape[0]),
            )
        if not self._writer.isOpened():
            raise DataError("no overlay video can be written: this OpenCV has no MP4")
        self._writer.write(even)

    def __enter__(self) -> "OverlayVideo":
        """Return the video."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
