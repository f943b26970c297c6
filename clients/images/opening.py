"""One door to all image files: look at the content, then at the suffix.

Nothing but regular files is ever opened, so a pipe or a device cannot hang the program.
"""

import stat
from pathlib import Path

from pydicom.filereader import read_file_meta_info

from clients.data.errors import DataError
from clients.images.dicom import MAGIC, PREAMBLE, DicomFile, looks_like_dicom
from clients.images.silence import without_details
from clients.images.source import ImageSource
from clients.images.stills import ArrayFile, StillImage
from clients.images.video import VideoFile, looks_like_video

DICOM_SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
STILL_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
ARRAY_SUFFIXES = (".npy",)
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv")

_STILL_STARTS = (
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"II*\0",
    b"MM\0*",
    b"II+\0",  # BigTIFF, in both byte orders
    b"MM\0+",
)
_ARRAY_START = b"\x93NUMPY"
_WITHOUT_PIXELS = (  # beginnings of SOP classes [PS3.4 B.5, I.4]
    "1.2.840.10008.1.3.10",  # DICOMDIR, the directory of a disk
    "1.2.840.10008.5.1.4.1.1.11.",  # presentation states
    "1.2.840.10008.5.1.4.1.1.88.",  # reports, dose reports among them
    "1.2.840.10008.5.1.4.1.1.9.",  # waveforms
    "1.2.840.10008.5.1.4.1.1.66.1",  # registrations
    "1.2.840.10008.5.1.4.1.1.66.2",
    "1.2.840.10008.5.1.4.1.1.66.3",
    "1.2.840.10008.5.1.4.1.1.67",  # real world values
    "1.2.840.10008.5.1.4.1.1.104.",  # documents
    "1.2.840.10008.5.1.4.1.1.481.3",  # structures of radiotherapy
    "1.2.840.10008.5.1.4.1.1.481.5",  # plans
)


def open_source(path: Path) -> ImageSource:
    """Open an image file of any kind that is known here.

    Args:
        path: Of the file.

    Returns:
        Its frames, not yet decoded.

    Raises:
        DataError: If it is missing, unreadable, empty, damaged or of no known kind. The
            text holds no name, no path and no pixel value.
    """
    with without_details(
        "cannot be opened; is it there, or a link that leads nowhere?"
    ):
        head = _read_head(path)
    suffix = path.suffix.lower()
    if not head:
        raise DataError("is empty (0 bytes); copy it again")
    if head[PREAMBLE:] == MAGIC:
        return DicomFile(path)
    if head.startswith(_STILL_STARTS):
        return StillImage(path)
    if head.startswith(_ARRAY_START):
        return ArrayFile(path)
    if looks_like_video(head):
        return VideoFile(path)
    if suffix in DICOM_SUFFIXES or looks_like_dicom(head):
        return DicomFile(path)
    for suffixes, kind in (
        (STILL_SUFFIXES, "PNG, JPEG or TIFF image"),
        (ARRAY_SUFFIXES, "NumPy array"),
        (VIDEO_SUFFIXES, "video"),
    ):
        if suffix in suffixes:
            raise DataError(
                f"is no {kind} although its suffix says so; export it again"
            )
    raise DataError(
        "is of no known kind (DICOM, PNG, JPEG, TIFF, NPY, MP4, MOV, AVI, MKV)"
    )


def is_image(path: Path) -> bool:
    """Tell cheaply whether a file is meant to hold frames.

    Args:
        path: Of any file.

    Returns:
        True by a known suffix, or by content for DICOM files whatever their suffix,
        except for DICOM objects without pixels, such as reports, presentation states
        and DICOMDIR. Hidden files are none. A file without a proper suffix that cannot
        be opened counts as one, so that `open_source` gets to say so.
    """
    if path.name.startswith("."):
        return False
    suffix = path.suffix.lower()
    if suffix in (*STILL_SUFFIXES, *ARRAY_SUFFIXES, *VIDEO_SUFFIXES):
        return True
    return is_dicom(path) and not _is_without_pixels(path)


def is_dicom(path: Path) -> bool:
    """Tell a DICOM file by its suffix or its first bytes.

    Args:
        path: Of any file.

    Returns:
        True also for a damaged or unreadable file that is named like one, which
        includes names without suffix and with one of digits only.
    """
    suffix = path.suffix.lower()
    if suffix in DICOM_SUFFIXES:
        return True
    try:
        return looks_like_dicom(_read_head(path))
    except PermissionError:
        return not suffix or suffix[1:].isdigit()
    except (DataError, OSError):
        return False


def _read_head(path: Path) -> bytes:
    """Return what `looks_like_dicom` needs; raises OSError as it comes."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise DataError("is no file but a folder, a pipe or a device; take it out")
    with path.open("rb") as file:
        return file.read(PREAMBLE + len(MAGIC))


def _is_without_pixels(path: Path) -> bool:
    try:
        with without_details("cannot be read"):
            _read_head(path)  # refuses pipes, on which the next line would wait
            kind = read_file_meta_info(path).get("MediaStorageSOPClassUID")
    except DataError:
        return False
    return str(kind).startswith(_WITHOUT_PIXELS)
