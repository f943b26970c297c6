"""Looks at one frame and its annotation, and says what is wrong with them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients.data.catalogue import FrameEntry
from clients.data.errors import DataError
from clients.images.opening import open_source
from clients.images.source import ImageSource


@dataclass(frozen=True)
class FrameFindings:
    """What one frame is.

    Attributes:
        damage: Why it cannot be used; "" where it can.
        shape: (height, width), px; None where it cannot be read.
        digest: SHA-256 of the grey values; b"" where it cannot be read.
        constant: Whether all pixels have one value.
        layers: Class -> (height, width) in {0, 1}; None where it has no annotation or
            one that does not fit.
        pixels: (height, width); None where it cannot be read.
    """

    damage: str = ""
    shape: tuple[int, int] | None = None
    digest: bytes = b""
    constant: bool = False
    layers: Mapping[str, NDArray[np.uint8]] | None = field(default=None, repr=False)
    pixels: NDArray[np.number] | None = field(default=None, repr=False)

    def content(self) -> bytes:
        """Return a SHA-256 of frame and masks together."""
        found = hashlib.sha256(self.digest)
        for name, layer in sorted((self.layers or {}).items()):
            found.update(name.encode() + np.packbits(layer != 0).tobytes())
        return found.digest()


class FrameReader:
    """Reads frames one after the other; the file of the last one stays open."""

    def __init__(self) -> None:
        """Open nothing yet."""
        self._path: Path | None = None
        self._source: ImageSource | None = None

    def look(self, frame: FrameEntry, spacing_mm: float | None) -> FrameFindings:
        """Decode a frame and its annotation.

        Args:
            frame: Where they are.
            spacing_mm: Of a pixel, or None.

        Returns:
            What they are. Whatever is wrong with them ends up there, not as an error.
        """
        try:
            pixels = self._read(frame)
            _check_pixels(pixels)
        except DataError as error:
            return FrameFindings(damage=f"the file {error}")
        except Exception:  # noqa: BLE001 - what a damaged file triggers may quote it
            return FrameFindings(damage="the file cannot be read; export it again")
        digest, constant = _digest(pixels), bool(pixels.min() == pixels.max())
        shape = (pixels.shape[0], pixels.shape[1])
        layers, damage = _annotation(frame, shape, spacing_mm)
        return FrameFindings(damage, shape, digest, constant, layers, pixels)

    def _read(self, frame: FrameEntry) -> NDArray[np.number]:
        if self._source is None or frame.path != self._path:
            self._source = None  # lets go of the last file before the next one
            self._source, self._path = open_source(frame.path), frame.path
        return self._source.read_frame(frame.index)


def _check_pixels(pixels: NDArray[np.number]) -> None:
    if pixels.ndim != 2 or pixels.size == 0:
        raise DataError("has a frame that is no grey image; export it as one")
    if not np.isfinite(pixels).all():
        raise DataError(
            "has a frame with values that are not finite (NaN or infinity); export it "
            "again"
        )


def _annotation(
    frame: FrameEntry, shape: tuple[int, int], spacing_mm: float | None
) -> tuple[Mapping[str, NDArray[np.uint8]] | None, str]:
    """Return the layers, or None, and why they cannot be used, or ""."""
    if frame.annotation is None:
        return None, ""
    try:
        layers = frame.annotation.layers(*shape, spacing_mm)
    except DataError as error:
        return None, str(error)
    except Exception:  # noqa: BLE001 - what a damaged file triggers may quote it
        return None, "the annotation cannot be read; export it again"
    if any(layer.shape != shape for layer in layers.values()):
        return None, "the mask has another size than its frame; export it again"
    return layers, ""


def _digest(pixels: NDArray[np.number]) -> bytes:
    """Hash grey values, whatever type they are stored in."""
    grey = np.ascontiguousarray(pixels, dtype=np.float32)
    found = hashlib.sha256(f"{grey.shape}".encode())
    found.update(grey.data)
    return found.digest()
