"""Stored pixel values out of DICOM frames, whatever their compression.

Decoders: pydicom (uncompressed, RLE), Pillow (8-bit JPEG), OpenJPEG (JPEG 2000), GDCM
(lossless JPEG, JPEG-LS, 12-bit JPEG); none of them under a licence that binds ours.

GDCM 3.2 takes the whole process down on some damaged headers of compressed frames, so
these are compared with the DICOM header before any decoder sees them.
"""

from dataclasses import dataclass, field

import numpy as np
import openjpeg
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import convert_color_space, get_decoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSTransferSyntaxes,
    RLELossless,
)

from clients.data.errors import DataError
from clients.images.codestream import FrameHeader, read_frame_header

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
)
"""What a header must say for its frames to be decoded."""

CHANNELS = {
    "MONOCHROME1": 1,
    "MONOCHROME2": 1,
    "PALETTE COLOR": 1,
    "RGB": 3,
    "YBR_FULL": 3,
    "YBR_FULL_422": 3,
    "YBR_ICT": 3,
    "YBR_RCT": 3,
}
"""Photometric interpretations and their samples per pixel [PS3.3 C.7.6.3.1.2]."""

PLUGINS = {
    ImplicitVRLittleEndian: "",
    ExplicitVRLittleEndian: "",
    ExplicitVRBigEndian: "",
    DeflatedExplicitVRLittleEndian: "",
    RLELossless: "pydicom",
    JPEGBaseline8Bit: "pillow",
    JPEGExtended12Bit: "pillow",
    JPEGLossless: "gdcm",
    JPEGLosslessSV1: "gdcm",
    **dict.fromkeys(JPEGLSTransferSyntaxes, "gdcm"),
    **dict.fromkeys(JPEG2000TransferSyntaxes, "openjpeg"),
}
"""Every transfer syntax that can be read, and which decoder takes it."""


def check_syntax(syntax: UID) -> None:
    """Refuse a compression that no decoder here takes.

    Args:
        syntax: Transfer syntax of a file.

    Raises:
        DataError: If it is none of `PLUGINS`.
    """
    if syntax not in PLUGINS:
        raise DataError(
            "is compressed in a way that cannot be decoded here; convert it to "
            "uncompressed DICOM (for example with dcmdjpeg or gdcmconv)"
        )


@dataclass(frozen=True)
class PixelDecoder:
    """Knows how the pixels of one file are packed.

    Args:
        header: With those of `PIXEL_ELEMENTS` that the file has.
        syntax: Transfer syntax of the file.
        vr: Type of the pixel data element, "" if the file does not say.

    Raises:
        DataError: If the header describes no X-ray image.
    """

    header: Dataset = field(repr=False)
    syntax: UID
    vr: str

    def __post_init__(self) -> None:
        """Refuse what cannot be decoded."""
        image = self.header
        if CHANNELS.get(image.PhotometricInterpretation) != image.SamplesPerPixel:
            raise DataError(
                "has a photometric interpretation that does not fit an X-ray image of "
                "one channel (MONOCHROME1, MONOCHROME2, PALETTE COLOR) or three (RGB, "
                "YBR); correct it or export it again"
            )
        allocated, stored = image.BitsAllocated, image.BitsStored
        if allocated not in (8, 16, 32) or not 1 <= stored <= self._high_bit() + 1:
            raise DataError(_BAD_BITS)
        if self._high_bit() >= allocated or image.PixelRepresentation not in (0, 1):
            raise DataError(_BAD_BITS)
        if self.syntax == ExplicitVRBigEndian and allocated == 8:
            odd = image.Rows * image.Columns * image.SamplesPerPixel % 2
            if odd and int(image.get("NumberOfFrames") or 1) > 1:
                # Their bytes are swapped in pairs across the ends of frames.
                raise DataError(
                    "is big endian with an odd number of bytes in a frame; convert it "
                    "to little endian (for example with gdcmconv)"
                )

    def decode(self, stream: bytes) -> NDArray[np.integer]:
        """Decode one frame.

        Args:
            stream: Its bytes in the file, without the item tags of its fragments.

        Returns:
            (height, width) or (height, width, 3) stored values, free of what other bits
            of their words hold; YBR is turned into RGB.

        Raises:
            DataError: If the compressed frame contradicts the DICOM header.
            Exception: Anything from a decoder if the frame is damaged.
        """
        plugin, decoded_as = PLUGINS[self.syntax], self.syntax
        if not self.syntax.is_encapsulated:
            return self._by_pydicom(stream, plugin, decoded_as)
        if plugin != "pydicom":
            frame = read_frame_header(stream)
            self._check(frame)
            if plugin == "openjpeg":
                return self._by_openjpeg(stream, frame)
            if decoded_as == JPEGExtended12Bit and frame.bits > 8:
                # pydicom does not let GDCM have 12 bits under their own name.
                plugin, decoded_as = "gdcm", JPEGLossless
        return self._by_pydicom(encapsulate([stream]), plugin, decoded_as)

    def _check(self, frame: FrameHeader) -> None:
        image = self.header
        size = frame.height, frame.width, frame.channels
        if size != (image.Rows, image.Columns, image.SamplesPerPixel) or not (
            1 <= frame.bits <= image.BitsAllocated
        ):
            raise DataError(
                "has a compressed frame of another size, depth or number of channels "
                "than its header says; export it again"
            )

    def _by_pydicom(
        self, stream: bytes, plugin: str, syntax: UID
    ) -> NDArray[np.integer]:
        options = as_pixel_options(
            self.header,
            number_of_frames=1,
            pixel_keyword="PixelData",
            pixel_vr=self.vr,
        )
        aligns = syntax in JPEGLSTransferSyntaxes  # pydicom goes by the stream's depth
        if not aligns:
            options["correct_unused_bits"] = False
        pixels, _ = get_decoder(syntax).as_array(
            stream, index=0, decoding_plugin=plugin, **options
        )
        return pixels if aligns else self._align(pixels, self._high_bit())

    def _by_openjpeg(self, stream: bytes, frame: FrameHeader) -> NDArray[np.integer]:
        pixels = openjpeg.decode(stream)
        if self.header.PhotometricInterpretation in ("YBR_FULL", "YBR_FULL_422"):
            return convert_color_space(pixels, "YBR_FULL", "RGB")
        return self._align(pixels, frame.bits - 1, frame.bits)

    def _align(
        self, pixels: NDArray[np.integer], high_bit: int, stored: int = 0
    ) -> NDArray[np.integer]:
        """Push unused bits out of both ends of a word; extend the sign [PS3.5 8.1]."""
        kind = "ui"[self.header.PixelRepresentation]
        size = pixels.dtype.itemsize
        words = pixels.astype(f"{kind}{size}")
        words <<= 8 * size - 1 - high_bit
        words >>= 8 * size - (stored or self.header.BitsStored)
        return words

    def _high_bit(self) -> int:
        high_bit = self.header.get("HighBit")
        return self.header.BitsStored - 1 if high_bit is None else high_bit


_BAD_BITS = (
    "has pixels of a depth that is no image (8 to 32 bits allocated, as many or fewer "
    "stored); export it again"
)
