"""Grey frames out of single- and multi-frame DICOM files.

XA, RF, DX, CR and what is stored like them, enhanced XA and secondary captures
included, in any transfer syntax that
`dicom_pixels` knows. Opening reads the header and
where the frames lie; a frame is read and decoded when it is asked for.
"""

import struct
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from clients.data.errors import DataError
from clients.images.colour import luminance
from clients.images.dicom_display import (
    DISPLAY_ELEMENTS,
    FUNCTIONAL_GROUPS,
    display_grey,
    raise_groups,
)
from clients.images.dicom_header import (
    FACT_ELEMENTS,
    IDENTITY_ELEMENTS,
    read_facts,
    read_identity,
)
from clients.images.dicom_layout import (
    PixelElement,
    locate_frames,
    read_pixel_element,
)
from clients.images.dicom_pixels import (
    PIXEL_ELEMENTS,
    PixelDecoder,
    check_syntax,
)
from clients.images.limits import check_index
from clients.images.silence import without_details
from clients.images.source import Identity, SourceFacts

PALETTE_ELEMENTS = tuple(
    f"{segmented}{colour}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue")
    for segmented, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
)
"""Colours of an image with a palette."""

KEPT_ELEMENTS = (*PIXEL_ELEMENTS, *DISPLAY_ELEMENTS, *PALETTE_ELEMENTS)
"""What is remembered of a header."""

READ_ELEMENTS = (
    *KEPT_ELEMENTS,
    *FACT_ELEMENTS,
    *IDENTITY_ELEMENTS,
    *FUNCTIONAL_GROUPS,
    "ExtendedOffsetTable",
)
"""Everything that is ever read of a file, beside the pixels."""

PREAMBLE = 128
MAGIC = b"DICM"
_FIRST_TYPES = (b"UL", b"UI", b"OB", b"CS", b"SH", b"LO", b"DA", b"TM")
_MAX_FIRST_LENGTH = 1024


def looks_like_dicom(head: bytes) -> bool:
    """Tell a DICOM file by its first bytes.

    Args:
        head: The first 132 bytes, or all if there are fewer.

    Returns:
        True with the magic word after the preamble [PS3.10 7.1], or without both if the
        file begins with an element of group 2 or 8.
    """
    if head[PREAMBLE : PREAMBLE + len(MAGIC)] == MAGIC:
        return True
    if len(head) < 8:
        return False
    for order in "<>":
        group, element, length = struct.unpack_from(f"{order}HHL", head)
        if group in (2, 8) and element <= 0x0060:
            return head[4:6] in _FIRST_TYPES or length <= _MAX_FIRST_LENGTH
    return False


class DicomFile:
    """The frames of one file; an `ImageSource`.

    Args:
        path: Of the file.

    Attributes:
        facts: What the file says of its pixels.
        identity: Whose they are.

    Raises:
        DataError: If it is no DICOM image, is cut off, contradicts itself, or its
            compression cannot be decoded here.
    """

    facts: SourceFacts
    identity: Identity | None

    def __init__(self, path: Path) -> None:
        """Read the header and find the frames; nothing is decoded."""
        self._path = path
        self._inflated: bytes | None = None
        self._tables: dict[np.dtype, NDArray[np.number]] = {}
        with without_details("cannot be read as a DICOM image"):
            with path.open("rb") as file:
                self._read_header(file)

    def read_frame(self, index: int) -> NDArray[np.number]:
        """Decode one frame.

        Args:
            index: From 0 to `facts.num_frames` - 1.

        Returns:
            (height, width) grey values as on the display, larger = brighter, any real
            type and range.

        Raises:
            DataError: If the frame does not exist or is damaged.
        """
        check_index(index, self.facts.num_frames)
        with without_details("has a frame that cannot be decoded; export it again"):
            with self._open() as file:
                pieces = []
                for offset, length in self._frames[index]:
                    file.seek(offset)
                    pieces.append(file.read(length))
            pixels = self._decoder.decode(b"".join(pieces))
            return self._show(pixels, index)

    def _read_header(self, file: BinaryIO) -> None:
        if not looks_like_dicom(file.read(PREAMBLE + len(MAGIC))):
            raise DataError("is no DICOM file, or its beginning is damaged")
        file.seek(0)
        tags = list(READ_ELEMENTS)
        header = pydicom.dcmread(
            file, force=True, stop_before_pixels=True, specific_tags=tags
        )
        for name in ("SOPClassUID", "SOPInstanceUID"):
            if not header.get(name):  # then the file's own header may say it
                setattr(header, name, header.file_meta.get(f"MediaStorage{name}"))
        syntax = _transfer_syntax(header)
        check_syntax(syntax)
        if syntax == DeflatedExplicitVRLittleEndian:
            file.seek(0)
            element, self._inflated = _inflate(file)
            file = BytesIO(self._inflated)
        else:
            element = read_pixel_element(file, is_little_endian=syntax.is_little_endian)
        if syntax == ExplicitVRBigEndian:
            header.walk(_swap_table)
        num_frames = int(header.get("NumberOfFrames") or 1)
        headers = raise_groups(header, num_frames)
        self.facts = read_facts(headers[0])
        self.identity = read_identity(header, num_frames)
        self._headers = tuple(_keep(one) for one in headers)
        self._decoder = PixelDecoder(self._headers[0], syntax, element.vr)
        self._frames = locate_frames(file, element, syntax, header)

    def _open(self) -> BinaryIO:
        if self._inflated is not None:
            return BytesIO(self._inflated)
        return self._path.open("rb")

    def _show(self, pixels: NDArray[np.integer], index: int) -> NDArray[np.number]:
        header = self._headers[index if len(self._headers) > 1 else 0]
        if header.PhotometricInterpretation == "PALETTE COLOR":
            return luminance(apply_color_lut(pixels, header))
        if pixels.ndim == 3:
            return luminance(pixels)
        if pixels.itemsize > 2:
            return display_grey(pixels, header)
        table = self._display_table(pixels.dtype, header)
        return table[pixels.view(f"u{pixels.itemsize}")]

    def _display_table(self, dtype: np.dtype, header: Dataset) -> NDArray[np.number]:
        """Work out what becomes of every value there can be, which is soon fewer."""
        table = self._tables.get(dtype)
        if table is None:
            values = np.arange(2 ** (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}")
            table = display_grey(values.view(dtype), header)
            if table.dtype == np.float64:
                table = table.astype(np.float32)
            if len(self._headers) == 1:
                self._tables[dtype] = table
        return table


def _transfer_syntax(header: Dataset) -> UID:
    """Return what the file says, or what pydicom found out if it says nothing."""
    said = header.file_meta.get("TransferSyntaxUID")
    if said:
        return UID(said)
    is_implicit, is_little_endian = header.original_encoding
    if is_implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian


def _inflate(file: BinaryIO) -> tuple[PixelElement, bytes]:
    """Return the pixel data of a file that is compressed as a whole [PS3.5 A.5]."""
    found = pydicom.dcmread(file, specific_tags=["PixelData"]).get_item("PixelData")
    if found is None or not found.value:
        raise DataError("has no pixel data; is it a report, or is it cut off?")
    return PixelElement(str(found.VR), len(found.value)), found.value


def _keep(header: Dataset) -> Dataset:
    kept = Dataset()
    for name in KEPT_ELEMENTS:
        if name in header:
            kept[name] = header[name]
    return kept


def _swap_table(_: Dataset, element: DataElement) -> None:
    """Bring a lookup table from big to little endian; pydicom leaves its bytes."""
    if element.keyword == "LUTData" and isinstance(element.value, bytes):
        element.value = np.frombuffer(element.value, ">u2").astype("<u2").tobytes()
