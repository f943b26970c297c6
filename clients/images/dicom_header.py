"""What a DICOM header says of pixels, and whose they are.

Only the elements named here are ever read; names, numbers and dates of patients stay in
the file, except for the few that `identity` turns into an `Identity`.

Spacing follows DICOM PS3.3 10.7.1: Imager Pixel Spacing is measured at the detector and
shrinks by the magnification on its way back to the patient; Pixel Spacing holds for the
patient only if it was calibrated, which its type says or a difference from Imager Pixel
Spacing [10.7.1.1, 10.7.1.2].
"""

import math
from collections.abc import Sequence

from pydicom.dataset import Dataset

from clients.images.limits import check_size
from clients.images.source import Identity, SourceFacts

FACT_ELEMENTS = (
    "Modality",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "PixelSpacing",
    "PixelSpacingCalibrationType",
    "EstimatedRadiographicMagnificationFactor",
    "DistanceSourceToDetector",
    "DistanceSourceToPatient",
    "FrameTime",
    "FrameTimeVector",
    "CineRate",
    "RecommendedDisplayFrameRate",
    "BurnedInAnnotation",
)
"""Read for `facts`, beside rows, columns, frames and bits."""

IDENTITY_ELEMENTS = (
    "IssuerOfPatientID",
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
)
"""Read for `identity` and forgotten at once."""

MODALITIES = frozenset("XA RF DX CR DR RG XC MG IO PX OT SC US CT MR NM ES".split())
"""What `SourceFacts.modality` may say; any other text could be anything."""

SPACING_RANGE_MM = (0.005, 10.0)
MAGNIFICATION_RANGE = (1.0, 10.0)
DISTANCE_RANGE_MM = (50.0, 10_000.0)
FRAME_TIME_RANGE_MS = (1.0, 60_000.0)
FRAME_RATE_RANGE_HZ = (1000 / 60_000.0, 1000.0)
SAME_SPACING = 1e-3
"""Relative difference below which two spacings are one, rounded."""

SQUARE = 1e-2
"""Relative difference of rows and columns that counts as square."""


def read_facts(header: Dataset) -> SourceFacts:
    """Gather what a header says of its pixels.

    Values that cannot be (zero, negative, not a number, beyond what X-ray devices do)
    count as absent.

    Args:
        header: With image pixel elements and, if present, `FACT_ELEMENTS`; of an
            enhanced object, those of its first frame are raised to the top.

    Returns:
        The facts; safe to show anyone.

    Raises:
        DataError: If the frames have no or an absurd size or number.
    """
    height, width = int(header.Rows), int(header.Columns)
    num_frames = int(header.get("NumberOfFrames") or 1)
    check_size(height, width, num_frames)
    modality = str(header.get("Modality") or "").strip()
    spacing_mm, origin = _spacing(header)
    return SourceFacts(
        num_frames=num_frames,
        height=height,
        width=width,
        bits=int(header.BitsStored),
        modality=modality if modality in MODALITIES else "",
        spacing_mm=spacing_mm,
        spacing_origin=origin,
        frame_time_ms=_frame_time(header),
        burned_in={"YES": True, "NO": False}.get(
            str(header.get("BurnedInAnnotation") or "").strip()
        ),
    )


def read_identity(header: Dataset, num_frames: int) -> Identity | None:
    """Say whose frames these are, as far as the header tells.

    The patient is the patient's number and who issued it, else name and birth date,
    else the study, else the sequence itself. The sequence is the series, and with
    several frames in the file the file too.

    Args:
        header: With those of `IDENTITY_ELEMENTS` that the file has.
        num_frames: In the file.

    Returns:
        The identity, never to be shown; None if the header holds nothing of it. An
        empty sequence means that only the patient is known.
    """
    said = {name: _text(header, name) for name in IDENTITY_ELEMENTS}
    series, instance = said["SeriesInstanceUID"], said["SOPInstanceUID"]
    if num_frames > 1:
        sequence = _join(series, instance)
    else:
        sequence = series or instance
    if said["PatientID"]:
        patient = "number|" + _join(said["IssuerOfPatientID"], said["PatientID"])
    elif said["PatientName"]:
        patient = "name|" + _join(said["PatientName"], said["PatientBirthDate"])
    elif said["StudyInstanceUID"]:
        patient = "study|" + said["StudyInstanceUID"]
    else:
        patient = "sequence|" + sequence if sequence else ""
    return Identity(patient=patient, sequence=sequence) if patient else None


def _text(header: Dataset, name: str) -> str:
    """Return one line without the padding; several values are joined."""
    value = header.get(name)
    return "" if value is None else " ".join(str(value).replace("\0", " ").split())


def _join(*parts: str) -> str:
    return "|".join(parts) if any(parts) else ""


def _spacing(header: Dataset) -> tuple[float | None, str]:
    """Return the side of a pixel in mm and in words where that holds."""
    name, detector = "ImagerPixelSpacing", _pair(header, "ImagerPixelSpacing")
    if detector is None:
        name = "NominalScannedPixelSpacing"
        detector = _pair(header, name)
    patient, kind = _pair(header, "PixelSpacing"), _calibration(header)
    beam = _pair(header, "ObjectPixelSpacingInCenterOfBeam")
    if patient is not None and kind:
        return _square(patient, f"PixelSpacing, calibrated in the patient ({kind})")
    if patient is not None and detector is not None and _differ(patient, detector):
        return _square(patient, f"PixelSpacing, calibrated as it differs from {name}")
    if beam is not None:
        return _square(beam, "ObjectPixelSpacingInCenterOfBeam, in the patient")
    if detector is not None:
        factor, how = _magnification(header)
        scaled = detector[0] / factor, detector[1] / factor
        return _square(scaled, f"{name} {how}")
    if patient is not None:
        return _square(patient, "PixelSpacing, unknown whether of detector or patient")
    return None, ""


def _calibration(header: Dataset) -> str:
    kind = _text(header, "PixelSpacingCalibrationType")
    return kind if kind in ("GEOMETRY", "FIDUCIAL") else ""


def _magnification(header: Dataset) -> tuple[float, str]:
    """Return what to divide a spacing at the detector by, and why."""
    name = "EstimatedRadiographicMagnificationFactor"
    factor = _number(header, name, MAGNIFICATION_RANGE)
    if factor is not None:
        return factor, f"divided by {name}"
    to_detector = _number(header, "DistanceSourceToDetector", DISTANCE_RANGE_MM)
    to_patient = _number(header, "DistanceSourceToPatient", DISTANCE_RANGE_MM)
    if to_detector is not None and to_patient is not None:
        factor = to_detector / to_patient
        if MAGNIFICATION_RANGE[0] <= factor <= MAGNIFICATION_RANGE[1]:
            return factor, "times DistanceSourceToPatient / DistanceSourceToDetector"
    return 1.0, "at the detector, magnification unknown"


def _square(pair: tuple[float, float], origin: str) -> tuple[float | None, str]:
    if _differ((pair[0],), (pair[1],), SQUARE):
        return None, f"none, as pixels are not square ({origin})"
    return (pair[0] + pair[1]) / 2, origin


def _differ(
    first: tuple[float, ...], second: tuple[float, ...], tolerance: float = SAME_SPACING
) -> bool:
    pairs = zip(first, second, strict=True)
    return any(not math.isclose(a, b, rel_tol=tolerance) for a, b in pairs)


def _frame_time(header: Dataset) -> float | None:
    """Return ms between frames; what was measured goes before what is suggested."""
    time_ms = _number(header, "FrameTime", FRAME_TIME_RANGE_MS)
    if time_ms is not None:
        return time_ms
    # The first increment belongs to the first frame and is zero [PS3.3 C.7.6.5.1.2].
    times = _numbers(header, "FrameTimeVector")[1:]
    if times:
        return _plausible(sum(times) / len(times), FRAME_TIME_RANGE_MS)
    for name in ("CineRate", "RecommendedDisplayFrameRate"):
        rate = _number(header, name, FRAME_RATE_RANGE_HZ)
        if rate is not None:
            return 1000 / rate
    return None


def _pair(header: Dataset, name: str) -> tuple[float, float] | None:
    values = [_plausible(v, SPACING_RANGE_MM) for v in _numbers(header, name)]
    if len(values) != 2 or values[0] is None or values[1] is None:
        return None
    return values[0], values[1]


def _number(header: Dataset, name: str, limits: tuple[float, float]) -> float | None:
    values = _numbers(header, name)
    return _plausible(values[0], limits) if values else None


def _plausible(value: float, limits: tuple[float, float]) -> float | None:
    return value if limits[0] <= value <= limits[1] else None  # NaN is never within


def _numbers(header: Dataset, name: str) -> list[float]:
    """Return all values; none at all if one of them is no number."""
    try:
        value = header.get(name)
        several = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
        return [float(one) for one in (value if several else [value])]
    except (TypeError, ValueError, ArithmeticError):
        return []
