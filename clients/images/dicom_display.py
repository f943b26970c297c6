"""From stored pixel values to grey as on the display.

Modality LUT or rescale, then the first VOI LUT or window, then inversion [DICOM PS3.3
C.11.1, C.11.2; PS3.4 N.2]. Enhanced objects say it per frame in functional groups
[PS3.3 C.7.6.16.2.9, C.7.6.16.2.10].

The Modality LUT of XA and RF objects is ignored: it leads back to X-ray intensity and
is not meant for display [PS3.4 N.2.5]. So is the Pixel Intensity Relationship LUT of
enhanced ones [PS3.17 FFF.2.3]. A window that cannot be (no width, no number) is ignored
too, as it is only somebody's view of pixels that are there.

Not known here: overlays, shutters, masks to subtract, pixel padding.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_windowing

from clients.data.errors import DataError

DISPLAY_ELEMENTS = (
    "SOPClassUID",
    "PhotometricInterpretation",
    "BitsStored",
    "PixelRepresentation",
    "PresentationLUTShape",
    "RescaleIntercept",
    "RescaleSlope",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
)
"""What `display_grey` looks at."""

FUNCTIONAL_GROUPS = (
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)

GROUP_MACROS = (
    "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
    "PixelMeasuresSequence",
    "FramePixelDataPropertiesSequence",
    "ProjectionPixelCalibrationSequence",
)
"""The functional groups whose elements `raise_groups` brings to the top."""

WITHOUT_MODALITY_LUT = (
    "1.2.840.10008.5.1.4.1.1.12.1",  # X-ray angiographic
    "1.2.840.10008.5.1.4.1.1.12.1.1",  # enhanced
    "1.2.840.10008.5.1.4.1.1.12.2",  # X-ray radiofluoroscopic
    "1.2.840.10008.5.1.4.1.1.12.2.1",  # enhanced
    "1.2.840.10008.5.1.4.1.1.12.3",  # X-ray angiographic bi-plane, retired
)


def raise_groups(header: Dataset, num_frames: int) -> tuple[Dataset, ...]:
    """Give every frame of an enhanced object a plain header of its own.

    Args:
        header: Of the file.
        num_frames: In the file.

    Returns:
        One header for all frames where there are no functional groups per frame, else
        one for each; elements of the frame win over shared ones, those over the top.

    Raises:
        DataError: If there are functional groups of another number of frames.
    """
    shared, single = (header.get(name) or () for name in FUNCTIONAL_GROUPS)
    top = Dataset()
    for element in header:
        if element.keyword not in FUNCTIONAL_GROUPS:
            top[element.tag] = element
    _raise_macros(top, shared)
    if not single:
        return (top,)
    if len(single) != num_frames:
        raise DataError(
            "describes another number of frames than its header says; export it again"
        )
    frames = []
    for group in single:
        frame = Dataset()
        frame.update(top)
        _raise_macros(frame, [group])
        frames.append(frame)
    return tuple(frames)


def display_grey(pixels: NDArray[np.number], header: Dataset) -> NDArray[np.number]:
    """Turn stored values of grey into values as on the display.

    Args:
        pixels: Any shape, stored values.
        header: With those of `DISPLAY_ELEMENTS` that hold for these pixels; bytes of
            lookup tables are little endian.

    Returns:
        The same shape, larger = brighter, any real type and range; the same array
        where there is nothing to do.

    Raises:
        DataError: If a lookup table is shorter than it says.
    """
    grey = _apply_voi(_apply_modality(pixels, header), header)
    inverse = header.PhotometricInterpretation == "MONOCHROME1"
    if inverse or header.get("PresentationLUTShape") == "INVERSE":
        return -grey.astype(np.float64)
    return grey


def _raise_macros(target: Dataset, groups: Sequence[Dataset]) -> None:
    for group in groups:
        for name in GROUP_MACROS:
            for item in group.get(name) or ():
                target.update(item)


def _apply_modality(pixels: NDArray[np.number], header: Dataset) -> NDArray[np.number]:
    table = header.get("ModalityLUTSequence")
    if table:
        if str(header.get("SOPClassUID")) in WITHOUT_MODALITY_LUT:
            return pixels
        return _look_up(pixels, table[0], signed=header.PixelRepresentation == 1)
    slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
    if slope is None or intercept is None or (slope == 1 and intercept == 0):
        return pixels
    return pixels.astype(np.float64) * float(slope) + float(intercept)


def _apply_voi(grey: NDArray[np.number], header: Dataset) -> NDArray[np.number]:
    table = header.get("VOILUTSequence")
    if table:
        negative = float(header.get("RescaleIntercept") or 0) < 0
        return _look_up(
            grey, table[0], signed=negative or header.PixelRepresentation == 1
        )
    center, width = _first(header, "WindowCenter"), _first(header, "WindowWidth")
    function = str(header.get("VOILUTFunction") or "LINEAR")
    narrowest = 1 if function == "LINEAR" else 1e-12  # C.11.2.1.2.1, C.11.2.1.3.2
    if center is None or width is None or width < narrowest:
        return grey
    window = Dataset()
    window.update(header)
    window.WindowCenter, window.WindowWidth = center, width
    window.VOILUTFunction = function
    return apply_windowing(grey, window)


def _first(header: Dataset, name: str) -> float | None:
    """Return the first value where it is a finite number."""
    value = header.get(name)
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = value[0] if len(value) else None
    number = float("nan" if value in (None, "") else value)
    return number if math.isfinite(number) else None


def _look_up(
    values: NDArray[np.number], table: Dataset, *, signed: bool
) -> NDArray[np.number]:
    """Replace values by those of a lookup table [PS3.3 C.11.1.1.1, C.11.2.1.1].

    pydicom's own functions are not used: 3.0.2 computes the position within the table
    in the type of the table's entries or of the pixels, where it can wrap around.
    """
    length, first, bits = (int(value) for value in table.LUTDescriptor)
    length = length or 2**16  # which does not fit into its 16 bits
    if signed and first >= 2**15:  # a signed value in an element read as unsigned
        first -= 2**16
    entries = table.LUTData
    if isinstance(entries, bytes):
        packed = bits <= 8 and len(entries) < 2 * length
        entries = np.frombuffer(entries, np.uint8 if packed else "<u2")
    entries = np.atleast_1d(entries).astype(np.uint16)[:length]
    if len(entries) < length:
        raise DataError("has a lookup table that is cut off; export it again")
    places = np.rint(values).astype(np.int64) - first
    return entries[np.clip(places, 0, length - 1)]
