"""Where frames of a stream come from: a pipe, a camera, a video at its own pace."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from clients.data.errors import DataError
from clients.images.colour import luminance
from clients.images.limits import check_size
from clients.images.opening import open_source
from experiments.prediction.stream import Pixels
from experiments.prediction.timing import Clock

FRAME_TIME_MS = 1000 / 15
"""Of a video that does not say."""
PIPE = "-"


def parse_size(text: str) -> tuple[int, int]:
    """Read the option `--stream-size`.

    Args:
        text: "WIDTHxHEIGHT", px.

    Returns:
        Height and width.

    Raises:
        DataError: If it is no size.
    """
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise DataError(
            "--stream - needs --stream-size WIDTHxHEIGHT in px, such as 512x512."
        )
    check_size(int(height), int(width), 1)
    return int(height), int(width)


def pipe_frames(stream: BinaryIO, height: int, width: int) -> Iterator[Pixels]:
    """Read raw frames, 8-bit grey, row by row, without anything between.

    Args:
        stream: Standard input, say.
        height: px.
        width: px.

    Yields:
        (height, width) uint8.

    Raises:
        DataError: If the stream ends within a frame: then the size is wrong.
    """
    size = height * width
    while True:
        content = bytearray()
        while len(content) < size:
            part = stream.read(size - len(content))
            if not part:
                break
            content += part
        if not content:
            return
        if len(content) < size:
            raise DataError(
                "The stream ended within a frame; check --stream-size: frames are "
                f"8-bit grey, {size} bytes each."
            )
        yield np.frombuffer(bytes(content), np.uint8).reshape(height, width)


def camera_frames(index: int) -> Iterator[Pixels]:
    """Read a camera of this machine.

    Args:
        index: As OpenCV counts them, from 0.

    Yields:
        (height, width) float32 grey.

    Raises:
        DataError: If there is no such camera.
    """
    capture = cv2.VideoCapture(index)
    try:
        if not capture.isOpened():
            raise DataError(f"There is no camera {index} here that can be opened.")
        while True:
            found, pixels = capture.read()
            if not found:
                return
            yield pixels if pixels.ndim == 2 else luminance(pixels, order="BGR")
    finally:
        capture.release()


def played_frames(
    path: Path,
    *,
    clock: Clock = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Pixels]:
    """Play a file at the rate at which it was taken, as a camera would.

    Args:
        path: Of a video or any file with several frames.
        clock: What is asked for the time.
        sleep: Waits for seconds.

    Yields:
        (height, width) grey; never early, and late by as much as decoding takes.

    Raises:
        DataError: If the file or a frame cannot be read.
    """
    source = open_source(path)
    step = (source.facts.frame_time_ms or FRAME_TIME_MS) / 1000
    start = clock()
    for index in range(source.facts.num_frames):
        pixels = source.read_frame(index)
        wait = start + index * step - clock()
        if wait > 0:
            sleep(wait)
        yield pixels


def stream_frames(named: str, size: str) -> Iterator[Pixels]:
    """Open what the option `--stream` names.

    Args:
        named: Number of a camera, path of a file, or "-" for standard input.
        size: Of the option `--stream-size`.

    Returns:
        The frames.

    Raises:
        DataError: If the size is needed and wrong.
    """
    if named == PIPE:
        height, width = parse_size(size)
        # Without Python's buffer, whose lock a waiting thread would hold at exit.
        standard_input = open(0, "rb", buffering=0, closefd=False)
        return pipe_frames(standard_input, height, width)
    if named.isdecimal():
        return camera_frames(int(named))
    return played_frames(Path(named))
