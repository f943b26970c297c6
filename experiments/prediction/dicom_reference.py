"""What a DICOM object must know of the image that it belongs to."""

import re

from pydicom.dataset import Dataset

from clients.data.errors import DataError

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_TEXTS = ("PatientID", "PatientName", "AccessionNumber", "StudyID")
_DATES = {
    "PatientBirthDate": r"\d{8}",
    "StudyDate": r"\d{8}",
    "StudyTime": r"\d{2,6}(\.\d{1,6})?",
}
_LOSS = (
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)


def read_reference(header: Dataset, *, keep_identity: bool) -> Dataset:
    """Keep what a segmentation says of its source, in clean Unicode.

    Args:
        header: Of the source.
        keep_identity: Whether to say whom it shows, and when; else this stays empty,
            as DICOM allows.

    Returns:
        Numbers of study, series and image, size, compression and, if wished for, the
        patient. Values that DICOM does not know become empty.

    Raises:
        DataError: If a number is missing.
    """
    _fill_numbers(header)
    kept = Dataset()
    kept.SpecificCharacterSet = "ISO_IR 192"
    for name in _UIDS:
        setattr(kept, name, str(header.get(name)))
    whom = header if keep_identity else Dataset()
    for name in _TEXTS:
        setattr(kept, name, str(whom.get(name) or ""))
    for name, form in _DATES.items():
        text = str(whom.get(name) or "")
        setattr(kept, name, text if re.fullmatch(form, text) else "")
    sex = str(whom.get("PatientSex") or "")
    kept.PatientSex = sex if sex in ("M", "F", "O") else ""
    kept.Modality = str(header.get("Modality") or "OT")
    kept.Rows, kept.Columns = int(header.Rows), int(header.Columns)
    for name in (*_LOSS, "FrameOfReferenceUID"):
        if header.get(name):
            kept[name] = header[name]
    return kept


def _fill_numbers(header: Dataset) -> None:
    """Take from the file's own header what the image lacks.

    Raises:
        DataError: If a number is missing that a segmentation must refer to.
    """
    if not header.get("SOPClassUID"):
        header.SOPClassUID = header.file_meta.get("MediaStorageSOPClassUID")
    if not header.get("SOPInstanceUID"):
        header.SOPInstanceUID = header.file_meta.get("MediaStorageSOPInstanceUID")
    for name in _UIDS:
        if not header.get(name):
            raise DataError(
                "lacks the number of its study, series or image, so that no DICOM "
                "Segmentation can refer to it; export it again or leave dicom-seg out"
            )
