"""A DICOM Segmentation of projection X-ray frames [PS3.3 A.51].

highdicom builds every module and the segments, but refuses several frames without a
patient's coordinate system, which projection images do not have ("Only a single frame
is supported"). So it builds the object for one frame, and what concerns frames is put
in its place here: every frame points at the frame of the source that it lies on
[Derivation Image, C.7.6.16.2.6, with Spatial Locations Preserved], and the dimensions
are segment and time [Temporal Position Index, C.7.6.16.2.2]. Plane position,
orientation and pixel measures are left out, as A.51-2 allows beside a Derivation Image.

Name, number and dates of the patient are left empty, which DICOM allows, unless the
user wishes for them: a PACS that sorts by patient needs them. The numbers of study,
series and image must be there, or nothing could be found through the object.
"""

import copy
import logging
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)

from clients.data.errors import DataError
from clients.images.silence import without_details
from experiments.prediction.dicom_reference import read_reference
from experiments.prediction.overlays import CLASS_COLOURS_RGB
from models.classes import CLASS_NAMES

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription

Concept = tuple[str, str, str]
"""Value, scheme and meaning: pydicom's dictionary of codes takes 0.3 s to import."""

SEGMENT_TYPES: dict[str, Concept] = {
    "catheter": ("19923001", "SCT", "Catheter"),  # of CID 7151
    # CID 7151 is extensible and has no wire; this one is of CID 3411.
    "guidewire": ("272224001", "SCT", "Guide Wire"),
}
SEGMENT_CATEGORY: Concept = ("260787004", "SCT", "Physical object")  # of CID 7150
SOURCE_PURPOSE: Concept = (
    "121322",
    "DCM",
    "Source image for image processing operation",
)
DERIVATION: Concept = ("113076", "DCM", "Segmentation")  # of CID 7203
ALGORITHM: Concept = ("123110", "DCM", "Artificial Intelligence")  # of CID 7162
STAND_IN = ComputedRadiographyImageStorage
"""What highdicom takes a source for: it expects all XA to be enhanced, which older XA
is not, and fails; the right class is put in its place afterwards."""
SERIES_NUMBER = 9001  # beyond what a modality numbers itself

_BITS = 8  # of a byte


class SegmentationWriter:
    """Collects masks and writes one object for all frames of a file.

    Args:
        source: The DICOM file that was predicted.
        model_name: Said to be the algorithm.
        keep_identity: Whether to say whom the source shows, and when.
    """

    def __init__(
        self, source: Path, model_name: str, *, keep_identity: bool = False
    ) -> None:
        """Read the header of the source; its pixels are left alone.

        Raises:
            DataError: If it lacks what a segmentation must refer to.
        """
        with without_details("has a header that no DICOM Segmentation can refer to"):
            header = pydicom.dcmread(source, force=True, stop_before_pixels=True)
            self._source = read_reference(header, keep_identity=keep_identity)
            self._has_frames = "NumberOfFrames" in header
        self._model_name = model_name
        self._packed: list[bytes] = []
        self._overlap = False

    def add(self, masks: NDArray[np.bool_]) -> None:
        """Append the masks of the next frame.

        Args:
            masks: (classes, height, width).

        Raises:
            DataError: If the frame is not as large as the source says.
        """
        if masks.shape[1:] != (self._source.Rows, self._source.Columns):
            raise DataError("has a frame of another size than its header says")
        self._overlap |= bool((masks.sum(axis=0) > 1).any())
        for mask in masks:
            self._packed.append(np.packbits(mask, bitorder="little").tobytes())

    def write(self, path: Path) -> None:
        """Write the object.

        Args:
            path: Of the file.

        Raises:
            DataError: If the header of the source cannot be referred to.
        """
        logging.getLogger("highdicom").setLevel(logging.CRITICAL)  # it quotes numbers
        with without_details("has a header that no DICOM Segmentation can refer to"):
            made = _one_frame(self._source, self._model_name)
            self._put_frames(made)
            made.save_as(path, enforce_file_format=True)

    def _put_frames(self, made: "Segmentation") -> None:
        num_classes = len(CLASS_NAMES)
        made.DimensionIndexSequence = _dimensions(made)
        made.PerFrameFunctionalGroupsSequence = [
            _frame_groups(self._source, frame, segment, numbered=self._has_frames)
            for frame in range(1, len(self._packed) // num_classes + 1)
            for segment in range(1, num_classes + 1)
        ]
        made.NumberOfFrames = len(self._packed)
        made.SegmentsOverlap = "YES" if self._overlap else "NO"
        made.PixelData = self._pixel_data()
        for reference in (
            *made.SourceImageSequence,
            *made.ReferencedSeriesSequence[0].ReferencedInstanceSequence,
        ):
            reference.ReferencedSOPClassUID = self._source.SOPClassUID

    def _pixel_data(self) -> bytes:
        """Join frames bit by bit, without a gap between them [PS3.5 8.1.1]."""
        count = self._source.Rows * self._source.Columns
        if count % _BITS == 0:
            joined = b"".join(self._packed)
        else:
            parts = [
                np.unpackbits(
                    np.frombuffer(one, np.uint8), count=count, bitorder="little"
                )
                for one in self._packed
            ]
            joined = np.packbits(np.concatenate(parts), bitorder="little").tobytes()
        return joined + b"\0" * (len(joined) % 2)


def _one_frame(source: Dataset, model_name: str) -> "Segmentation":
    # highdicom takes a second to import; only those who want an object should wait.
    from highdicom.seg import Segmentation

    single = copy.deepcopy(source)  # `update` would share the elements
    single.SOPClassUID = STAND_IN
    return Segmentation(
        source_images=[single],
        pixel_array=np.zeros((1, source.Rows, source.Columns, len(CLASS_NAMES)), bool),
        segmentation_type="BINARY",
        segment_descriptions=_segments(model_name),
        series_instance_uid=generate_uid(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="EndoFed",
        manufacturer_model_name=model_name[:64],
        software_versions=version("endofed"),
        device_serial_number="0",
        content_label="DEVICES",
        content_description="Catheters and guidewires found by a network",
        series_description="EndoFed device segmentation",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=False,
    )


def _segments(model_name: str) -> "list[SegmentDescription]":
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from pydicom.sr.coding import Code

    algorithm = AlgorithmIdentificationSequence(
        name=f"EndoFed {model_name}"[:64],
        family=Code(*ALGORITHM),
        version=version("endofed"),
    )
    return [
        SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=Code(*SEGMENT_CATEGORY),
            segmented_property_type=Code(*SEGMENT_TYPES[name]),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            display_color=CIELabColor.from_rgb(*CLASS_COLOURS_RGB[name]),
        )
        for number, name in enumerate(CLASS_NAMES, 1)
    ]


def _dimensions(made: "Segmentation") -> list[Dataset]:
    organisation = made.DimensionOrganizationSequence[0].DimensionOrganizationUID
    items = []
    for group, pointer, label in (
        ("SegmentIdentificationSequence", "ReferencedSegmentNumber", "Segment Number"),
        ("FrameContentSequence", "TemporalPositionIndex", "Frame of the source"),
    ):
        item = Dataset()
        item.DimensionOrganizationUID = organisation
        item.DimensionIndexPointer = pydicom.datadict.tag_for_keyword(pointer)
        item.FunctionalGroupPointer = pydicom.datadict.tag_for_keyword(group)
        item.DimensionDescriptionLabel = label
        items.append(item)
    return items


def _frame_groups(
    source: Dataset, frame: int, segment: int, *, numbered: bool
) -> Dataset:
    """Say of one mask which segment it is and which frame it lies on.

    The number is left out where the source is a single image without numbers.
    """
    content = Dataset()
    content.DimensionIndexValues = [segment, frame]
    content.TemporalPositionIndex = frame
    identification = Dataset()
    identification.ReferencedSegmentNumber = segment
    image = Dataset()
    image.ReferencedSOPClassUID = source.SOPClassUID
    image.ReferencedSOPInstanceUID = source.SOPInstanceUID
    if numbered:
        image.ReferencedFrameNumber = frame
    image.SpatialLocationsPreserved = "YES"
    image.PurposeOfReferenceCodeSequence = [_code(SOURCE_PURPOSE)]
    derivation = Dataset()
    derivation.SourceImageSequence = [image]
    derivation.DerivationCodeSequence = [_code(DERIVATION)]
    groups = Dataset()
    groups.FrameContentSequence = [content]
    groups.SegmentIdentificationSequence = [identification]
    groups.DerivationImageSequence = [derivation]
    return groups


def _code(concept: Concept) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = concept
    return item
