"""Nothing that an image file says comes out, its own name included.

Names and metadata hold a marker; see test_dicom_privacy.py for DICOM files.
"""

import logging
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

Waves = Callable[..., NDArray]

MARKER = "ZQXMARK"  # as the ear in conftest.py knows it


class Ear(Protocol):
    """What conftest.py gives."""

    def forget(self) -> None: ...
    def check(self, *more: str) -> None: ...
    def use(self, path: Path) -> str: ...


def marked_png(pixels: NDArray) -> bytes:
    stored = cv2.imencode(".png", pixels)[1].tobytes()

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return (
            struct.pack(">I", len(content)) + checked + zlib.crc32(checked).to_bytes(4)
        )

    word = MARKER.encode()
    # A colour profile of plausible length that cannot be: libpng quotes its name then.
    profile = struct.pack(">I", 400) + np.random.default_rng(0).bytes(396)
    extra = chunk(b"iCCP", word + b"\0\0" + zlib.compress(profile))
    extra += chunk(b"tEXt", word + b"\0" + word) + chunk(b"zTXt", word + b"\0\0bad")
    place = stored.index(b"IDAT") - 4
    return stored[:place] + extra + stored[place:]


def marked_jpeg(pixels: NDArray) -> bytes:
    stored = cv2.imencode(".jpg", pixels)[1].tobytes()
    word = MARKER.encode() * 5
    comment = b"\xff\xfe" + struct.pack(">H", len(word) + 2) + word
    return stored[:2] + comment + stored[2:]


def marked_files(folder: Path, pixels: NDArray) -> Iterator[Path]:
    grey = pixels[0]
    path = folder / f"{MARKER}.png"
    path.write_bytes(marked_png(grey))
    yield path
    path = folder / f"{MARKER}.jpg"
    path.write_bytes(marked_jpeg(grey))
    yield path
    path = folder / f"{MARKER}.tif"
    tags = [(65000, "s", 0, MARKER, True)]
    tifffile.imwrite(
        path,
        grey,
        description=MARKER,
        software=MARKER,
        extratags=tags,
        compression="zlib",
    )
    yield path
    path = folder / f"{MARKER}.npy"
    np.save(path, np.array([[MARKER]]))
    yield path
    for suffix, codec in (("avi", "MJPG"), ("mp4", "mp4v"), ("mkv", "VP80")):
        path = folder / f"{MARKER}_0001.{suffix}"
        code = cv2.VideoWriter_fourcc(*codec)
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, 25, (40, 48))
        for _ in range(12):
            writer.write(np.dstack([grey] * 3))
        writer.release()
        yield path


def test_no_other_file_tells_its_name_or_metadata(
    waves: Waves,
    tmp_path: Path,
    ear: Ear,
) -> None:
    paths = list(marked_files(tmp_path, waves(8)))
    ear.forget()
    generator = np.random.default_rng(0)
    for path in paths:
        stored = path.read_bytes()
        versions = [stored, stored[: len(stored) // 2], stored[:150], b"", b"junk" * 99]
        for _ in range(8):
            damaged = bytearray(stored)
            for place in generator.integers(0, len(stored), 9):
                damaged[place] = generator.integers(0, 256)
            versions.append(bytes(damaged))
        for version in versions:
            path.write_bytes(version)
            ear.use(path)


def test_the_ear_hears_all_of_it(tmp_path: Path, ear: Ear) -> None:
    def by_log() -> None:
        logging.getLogger("anybody").debug(MARKER)

    def by_warning() -> None:
        warnings.warn(MARKER, stacklevel=1)

    def by_native_print() -> None:
        # OpenCV on its own prints the name of a file that it cannot open.
        levels = cv2.utils.logging
        levels.setLogLevel(levels.LOG_LEVEL_WARNING)
        assert cv2.imread(str(tmp_path / f"{MARKER}.png")) is None
        levels.setLogLevel(levels.LOG_LEVEL_SILENT)

    for tell in (by_log, by_warning, by_native_print):
        ear.forget()
        tell()
        with pytest.raises(AssertionError):
            ear.check()
    ear.forget()
    ear.check()
    with pytest.raises(AssertionError):
        ear.check(f"an error about {MARKER.lower()}")
