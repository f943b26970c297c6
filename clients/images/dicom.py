"""Grey frames out of single- and multi-frame DICOM files.

Only the elements that describe pixels are read; names, numbers and dates of patients
stay in the file. pydicom decodes and applies the modality and VOI lookup tables [DICOM
PS3.3 C.11.1, C.11.2]. Lossless JPEG, the usual compression of angiography, needs an
extra package there, so 8-bit grey is decoded by OpenCV when that package is absent.

Not known here: overlays, shutters, per-frame lookup tables of enhanced objects.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import get_frame
from pydicom.pixels import (
    apply_modality_lut,
    apply_voi_lut,
    get_decoder,
    pixel_array,
)
from pydicom.uid import JPEGLossless, JPEGLosslessSV1

from clients.data.errors import DataError

PIXEL_ELEMENTS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "PixelData",
)
"""Everything that is read of a file."""


class DicomFile:
    """The frames of one file.

    Args:
        path: Of the file.

    Raises:
        DataError: If it cannot be read as DICOM with pixels, or its compression
            cannot be decoded here.
    """

    def __init__(self, path: Path) -> None:
        """Read the pixel elements; frames are decoded one by one later."""
        with _without_details("cannot be read as a DICOM image"):
            self._dataset = pydicom.dcmread(path, specific_tags=list(PIXEL_ELEMENTS))
            self._syntax = self._dataset.file_meta.TransferSyntaxUID
            self.num_frames = int(self._dataset.get("NumberOfFrames") or 1)
            by_pydicom = (
                not self._syntax.is_encapsulated
                or get_decoder(self._syntax).is_available
            )
            by_opencv = self._is_simple_lossless()
        if not by_pydicom and not by_opencv:
            raise DataError(
                "is compressed in a way that cannot be decoded here; convert it to "
                "uncompressed DICOM (for example with dcmdjpeg or gdcmconv)"
            )
        self._decode = self._by_pydicom if by_pydicom else self._by_opencv

    def read_frame(self, index: int) -> NDArray[np.number]:
        """Decode one frame.

        Args:
            index: From 0 to `num_frames` - 1.

        Returns:
            (height, width) grey values, larger = brighter on the display
            (MONOCHROME1 is inverted), any real type and range.

        Raises:
            DataError: If the frame is damaged or is no grey or RGB image.
        """
        with _without_details("cannot be read as an image"):
            return self._to_grey(self._decode(index))

    def _is_simple_lossless(self) -> bool:
        found = self._dataset
        return (
            self._syntax in (JPEGLossless, JPEGLosslessSV1)
            and found.get("SamplesPerPixel") == 1
            and found.get("BitsAllocated") == 8
        )

    def _by_pydicom(self, index: int) -> NDArray[np.number]:
        return pixel_array(self._dataset, index=index)

    def _by_opencv(self, index: int) -> NDArray[np.number]:
        found = self._dataset
        offsets = None
        if "ExtendedOffsetTable" in found:
            offsets = found.ExtendedOffsetTable, found.ExtendedOffsetTableLengths
        stream = get_frame(
            found.PixelData,
            index,
            number_of_frames=self.num_frames,
            extended_offsets=offsets,
        )
        pixels = cv2.imdecode(np.frombuffer(stream, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None or pixels.shape != (found.Rows, found.Columns):
            raise DataError("cannot be read as an image")
        return pixels.view(np.int8) if found.PixelRepresentation else pixels

    def _to_grey(self, pixels: NDArray[np.number]) -> NDArray[np.number]:
        kind = self._dataset.PhotometricInterpretation
        if pixels.ndim == 3 and pixels.shape[2] == 3:  # pydicom has made it RGB
            return cv2.cvtColor(pixels.astype(np.float32), cv2.COLOR_RGB2GRAY)
        if pixels.ndim != 2 or not kind.startswith("MONOCHROME"):
            raise DataError("is neither a grey nor an RGB image")
        grey = apply_voi_lut(apply_modality_lut(pixels, self._dataset), self._dataset)
        return -grey.astype(np.float64) if kind == "MONOCHROME1" else grey


@contextmanager
def _without_details(message: str) -> Iterator[None]:
    """Replace every error by a `DataError` and drop warnings: both quote headers."""
    logger = logging.getLogger("pydicom")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (DataError, MemoryError):
        raise
    except Exception:  # noqa: BLE001 - whatever a damaged file triggers may quote it
        raise DataError(message) from None
    finally:
        logger.disabled = was_disabled
