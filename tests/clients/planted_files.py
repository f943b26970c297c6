"""Files whose every text, date and number that is not needed holds a marker."""

import copy
import functools
import io
import json
import zlib

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, XRayAngiographicImageStorage

SIZE = 64  # px, of planted frames
MARKER = "ZQXMARKER77"
LABEL = f"{MARKER} tube"
NUMBER, DATE, TIME = "1987654321", "18870203", "170317.987654"
PLANTED = {
    **dict.fromkeys(("AE", "CS", "LO", "LT", "SH", "ST", "UC", "UT"), MARKER),
    "PN": f"{MARKER}^JANE",
    "UR": f"urn:{MARKER}",
    "UI": f"1.2.{NUMBER}",
    "DA": DATE,
    "TM": TIME,
    "DT": DATE + TIME,
    "IS": NUMBER,
    "DS": NUMBER,
}
"""Value representation -> what every field of it gets."""
NEEDED = frozenset(
    """
    SpecificCharacterSet SOPClassUID PhotometricInterpretation NumberOfFrames
    RescaleIntercept RescaleSlope WindowCenter WindowWidth VOILUTFunction
    ModalityLUTSequence VOILUTSequence PixelPaddingValue
    SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence
    PixelSpacing ImagerPixelSpacing NominalScannedPixelSpacing
    DistanceSourceToDetector DistanceSourceToPatient
    EstimatedRadiographicMagnificationFactor FrameTime FrameTimeVector CineRate
    RecommendedDisplayFrameRate ShutterShape
    """.split()
)
"""Fields that say how pixels are read, measured or shown: a number there is shown."""
PATIENT = b"4545"
PIXELS = np.random.default_rng(0).integers(0, 256, 2 * SIZE * SIZE, np.uint8).tobytes()
"""Stand for both in a file, and nowhere else in it."""


def make_frame(patient: int, frame: int) -> NDArray[np.uint8]:
    """Return (SIZE, SIZE): a dark catheter on noise that no other frame has."""
    rng = np.random.default_rng([patient, frame])
    pixels = rng.normal(150, 8, (SIZE, SIZE)) - 60.0 * make_mask()
    return pixels.clip(0, 255).astype(np.uint8)


def make_mask() -> NDArray[np.uint8]:
    """Return (SIZE, SIZE) in {0, 1}: the catheter."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[30:33] = 1
    return mask


def image_bytes(suffix: str, pixels: NDArray) -> bytes:
    """Encode an image with the marker in its comments.

    Args:
        suffix: .png or .jpg.
        pixels: (height, width).
    """
    encoded = cv2.imencode(suffix, pixels)[1].tobytes()
    comment = f"Author\0{MARKER}".encode()
    if suffix == ".jpg":
        size = (len(comment) + 2).to_bytes(2, "big")
        return encoded[:2] + b"\xff\xfe" + size + comment + encoded[2:]
    chunk = b"tEXt" + comment
    after_header = 33  # signature 8, IHDR chunk 25 bytes
    return (
        encoded[:after_header]
        + len(comment).to_bytes(4, "big")
        + chunk
        + zlib.crc32(chunk).to_bytes(4, "big")
        + encoded[after_header:]
    )


def npy_bytes(values: NDArray) -> bytes:
    """Return what `numpy.save` writes, pickled objects included."""
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def dicom_bytes(frames: NDArray[np.uint8], patient: int) -> bytes:
    """Return a DICOM file with the marker wherever it does not change the pixels.

    Args:
        frames: (2, SIZE, SIZE).
        patient: 0 to 999; goes into names and numbers, to tell patients apart.
    """
    whole = _template().replace(PIXELS, frames.tobytes())
    return whole.replace(PATIENT, b"1%03d" % patient)


@functools.cache  # four thousand fields take two seconds
def _template() -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = XRayAngiographicImageStorage
    meta.MediaStorageSOPInstanceUID = PLANTED["UI"]
    meta.ImplementationVersionName = MARKER
    meta.SourceApplicationEntityTitle = MARKER
    preamble = MARKER.encode().ljust(128, b"\0")
    dataset = FileDataset("", _header(), file_meta=meta, preamble=preamble)
    dataset.SOPClassUID = XRayAngiographicImageStorage
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName = f"{MARKER}^{PATIENT.decode()}"
    dataset.PatientID = f"{MARKER}-{PATIENT.decode()}"
    for keyword in ("SeriesInstanceUID", "SOPInstanceUID", "StudyInstanceUID"):
        setattr(dataset, keyword, f"{PLANTED['UI']}.{PATIENT.decode()}")
    dataset.WindowCenter, dataset.WindowWidth = "127.500001", "256"
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = 2, SIZE, SIZE
    dataset.PixelData = PIXELS
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _header() -> Dataset:
    """Plant every field of the standard, once at the top and once in each sequence."""
    header, item = Dataset(), Dataset()
    item.PatientName, item.StudyDescription, item.StudyDate = MARKER, MARKER, DATE
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        if tag < 0x00080000 or not keyword or keyword in NEEDED:
            continue
        if vr == "SQ":
            header.add_new(tag, vr, [copy.deepcopy(item)])
        elif vr in PLANTED:
            header.add_new(tag, vr, PLANTED[vr])
    block = header.private_block(0x0009, f"{MARKER} MAKER", create=True)
    block.add_new(0x01, "LO", MARKER)
    return header


def labelme_text(name: str, label: str = LABEL) -> str:
    """Return a Labelme file of NAME.png; a polygon or line lies on the catheter."""
    points = [[0, 30], [SIZE, 30], [SIZE, 33], [0, 33]]
    shape = {"label": label, "points": points, "shape_type": "polygon"}
    return json.dumps(
        {
            "version": "5.5.0",
            "flags": {MARKER: True},
            "shapes": [{**shape, "description": MARKER, "flags": {MARKER: True}}],
            "imagePath": f"{name}.png",
            "imageData": None,
            "imageHeight": SIZE,
            "imageWidth": SIZE,
        }
    )


def cvat_text(name: str, label: str = LABEL) -> str:
    """Return a CVAT file of NAME.png; a polygon or line lies on the catheter."""
    owner = f"<username>{MARKER}</username><email>{MARKER}@x.org</email>"
    return (
        f"<?xml version='1.0' encoding='utf-8'?><annotations><version>1.1</version>"
        f"<meta><job><name>{MARKER}</name><owner>{owner}</owner></job></meta>"
        f"<image id='0' name='{MARKER}/{name}.png' width='{SIZE}' height='{SIZE}'>"
        f"<polyline label='{label}' points='0,31.5;64,31.5'>"
        f"<attribute name='{MARKER}'>{MARKER}</attribute></polyline></image>"
        "</annotations>"
    )


def coco_text(names: list[str], label: str = LABEL) -> str:
    """Return a COCO file of several NAME.jpg; polygons lie on the catheters."""
    ring = [0, 30, SIZE, 30, SIZE, 33, 0, 33]
    return json.dumps(
        {
            "info": {"contributor": MARKER, "description": MARKER},
            "licenses": [{"id": 1, "name": MARKER, "url": MARKER}],
            "images": [
                {
                    "id": k,
                    "file_name": f"{MARKER}/{name}.jpg",
                    "width": SIZE,
                    "height": SIZE,
                    "flickr_url": MARKER,
                }
                for k, name in enumerate(names)
            ],
            "categories": [{"id": 1, "name": label, "supercategory": MARKER}],
            "annotations": [
                {"id": k, "image_id": k, "category_id": 1, "segmentation": [ring]}
                for k, _ in enumerate(names)
            ],
        }
    )
