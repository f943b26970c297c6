"""Whatever a file says of itself stays out of logs, warnings and error texts.

The libraries that decode images quote headers, file names and pixel values when
something is wrong: pydicom and Pillow in Python logs and warnings, OpenCV and FFmpeg on
the standard error of the process. All of it is switched off when this module is
imported, and every error becomes a `DataError` that says what to do and quotes nothing.

Not thread-safe: Python keeps one list of warning filters per process. Decode in
processes.
"""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import pydicom  # noqa: F401 - sets the level of its logger on import, so before us

from clients.data.errors import DataError

TALKATIVE = ("pydicom", "PIL", "openjpeg")
"""Loggers whose messages quote headers."""

FFMPEG_QUIET = "-8"
"""AV_LOG_QUIET of libavutil/log.h."""


@contextmanager
def without_details(message: str) -> Iterator[None]:
    """Replace every error by a `DataError` and drop logs and warnings.

    Args:
        message: What the error is to say if nothing better is known.

    Yields:
        Nothing.

    Raises:
        DataError: In place of whatever was raised inside, except for a `DataError`,
            which passes as it is.
        MemoryError: As raised inside; it quotes nothing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (DataError, MemoryError):
        raise
    except PermissionError:
        raise DataError(
            "cannot be opened because this program's user may not read it; grant "
            "reading rights on the file and its folders"
        ) from None
    except Exception:  # noqa: BLE001 - whatever a damaged file triggers may quote it
        raise DataError(message) from None


def _silence_libraries() -> None:
    """Do once per process what cannot be done per call."""
    for name in TALKATIVE:  # and with each of them all loggers below it
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ["OPENCV_FFMPEG_LOGLEVEL"] = FFMPEG_QUIET


_silence_libraries()  # on import, as FFmpeg asks for its level once, when first used
