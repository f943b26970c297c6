"""Grey frames out of video files (MP4, MOV, AVI, MKV).

OpenCV's FFmpeg decodes, and gets the bytes rather than the name of the file, so it has
nothing to print. Only files that begin like one of these containers reach it: FFmpeg
also knows play lists, which make it open other files and addresses.

Frame k is the k-th that decodes one after the other. What a container says of its
frames and what FFmpeg finds when it jumps are not always right, so opening decodes the
whole file once to count frames and note their times, and a jump counts only if it lands
on the time noted; if not, frames are decoded from the start.
"""

from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from clients.data.errors import DataError
from clients.images.colour import luminance
from clients.images.limits import check_index, check_size
from clients.images.silence import without_details
from clients.images.source import Identity, SourceFacts

BITS = 8  # whatever was stored, OpenCV gives bytes
FRAME_RATE_RANGE_HZ = (0.1, 1000.0)

_MATROSKA = b"\x1a\x45\xdf\xa3"
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")  # ISO 14496-12
_NEAR = 32  # frames; up to here decoding on is faster than jumping
_SAME_TIME_MS = 0.01


def looks_like_video(head: bytes) -> bool:
    """Tell a container that can be read by its first bytes.

    Args:
        head: At least the first 12 bytes, or all if there are fewer.

    Returns:
        True for MP4, MOV, AVI and MKV.
    """
    is_avi = head[:4] == b"RIFF" and head[8:12] == b"AVI "
    return is_avi or head[4:8] in _FIRST_BOXES or head[:4] == _MATROSKA


class VideoFile:
    """The frames of one video; an `ImageSource`.

    Args:
        path: Of the file.

    Attributes:
        facts: What is known of its pixels; the number of frames is counted.
        identity: None; such files do not tell.

    Raises:
        DataError: If it is no video, or holds fewer frames than it says.
    """

    facts: SourceFacts
    identity: Identity | None = None

    def __init__(self, path: Path) -> None:
        """Decode once to count the frames."""
        self._path = path
        self._file: BinaryIO | None = None
        self._capture: cv2.VideoCapture | None = None
        self._next = 0  # number of the frame that decodes next
        with without_details("cannot be read as a video"):
            self._open()
            self._times_ms = self._count()
            self._close()

    def read_frame(self, index: int) -> NDArray[np.number]:
        """Decode one frame; fastest in order.

        Args:
            index: From 0 to `facts.num_frames` - 1.

        Returns:
            (height, width) float32 grey values in [0, 255], larger = brighter.

        Raises:
            DataError: If the frame does not exist or no longer decodes.
        """
        check_index(index, self.facts.num_frames)
        with without_details("has a frame that cannot be decoded; export it again"):
            if self._capture is None:
                self._open()
            if not self._next <= index < self._next + _NEAR and not self._jump(index):
                self._open()
            while self._next <= index:
                self._grab()
            found, pixels = self._capture.retrieve()
            if not found or pixels.shape[:2] != (self.facts.height, self.facts.width):
                raise DataError("has a frame that cannot be decoded; export it again")
            return luminance(pixels, order="BGR")

    def __getstate__(self) -> dict[str, object]:
        """Leave out the open file, so that another process can go on."""
        return {**self.__dict__, "_file": None, "_capture": None, "_next": 0}

    def __del__(self) -> None:
        """Close the file; else Python may warn of it by name."""
        self._close()

    def _open(self) -> None:
        """Start again at the first frame."""
        self._close()
        self._file = self._path.open("rb")
        if not looks_like_video(self._file.read(12)):
            raise DataError("is no MP4, MOV, AVI or MKV video")
        self._file.seek(0)
        self._capture = cv2.VideoCapture(self._file, cv2.CAP_FFMPEG, [])
        if not self._capture.isOpened():
            raise DataError("cannot be read as a video; it may be cut off")

    def _close(self) -> None:
        if self._capture is not None:
            self._capture.release()
        if self._file is not None:
            self._file.close()
        self._capture, self._file, self._next = None, None, 0

    def _count(self) -> tuple[float, ...]:
        """Return the time of every frame, ms, and fill in the facts."""
        capture = self._capture
        said = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        rate = capture.get(cv2.CAP_PROP_FPS)
        times, shape = [], (0, 0)
        while capture.grab():
            if not times:
                found, pixels = capture.retrieve()
                shape = pixels.shape[:2] if found else shape
            times.append(capture.get(cv2.CAP_PROP_POS_MSEC))
        # Matroska does not count frames; OpenCV guesses from length and rate.
        allowed = 1 + said // 100 if self._begins_with(_MATROSKA) else 0
        if len(times) < said - allowed:
            raise DataError(
                f"says it has {said} frames but only {len(times)} can be decoded; it "
                "may be cut off: export it again"
            )
        check_size(*shape, len(times))
        plausible = FRAME_RATE_RANGE_HZ[0] <= rate <= FRAME_RATE_RANGE_HZ[1]
        self.facts = SourceFacts(
            num_frames=len(times),
            height=shape[0],
            width=shape[1],
            bits=BITS,
            frame_time_ms=1000 / rate if plausible else None,
        )
        return tuple(times)

    def _begins_with(self, magic: bytes) -> bool:
        with self._path.open("rb") as file:
            return file.read(len(magic)) == magic

    def _jump(self, index: int) -> bool:
        """Try to land on a frame; say whether its time proves that it worked."""
        time_ms = self._times_ms[index]
        if self._times_ms.count(time_ms) > 1:
            return False
        self._capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        self._next = index
        if not self._capture.grab():
            return False
        self._next = index + 1
        landed = self._capture.get(cv2.CAP_PROP_POS_MSEC)
        return abs(landed - time_ms) < _SAME_TIME_MS

    def _grab(self) -> None:
        if not self._capture.grab():
            raise DataError("has a frame that cannot be decoded; export it again")
        self._next += 1
