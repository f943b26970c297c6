"""A DICOM Segmentation is read back by pydicom and by highdicom."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from clients.data.errors import DataError
from experiments.prediction.dicom_seg import (
    ALGORITHM,
    DERIVATION,
    SEGMENT_CATEGORY,
    SEGMENT_TYPES,
    SOURCE_PURPOSE,
    SegmentationWriter,
)
from tests.experiments.prediction.scenes import MakeXa


def random_masks(
    frames: int, height: int, width: int, *, overlap: bool = True
) -> NDArray[np.bool_]:
    masks = np.random.default_rng(0).random((frames, 2, height, width)) < 0.3
    if not overlap:
        masks[:, 1] &= ~masks[:, 0]
    return masks


def write(source: Path, masks: NDArray[np.bool_], **options: bool) -> Path:
    writer = SegmentationWriter(source, "sam-tiny", **options)
    for one in masks:
        writer.add(one)
    path = source.with_name("segmentation.dcm")
    writer.write(path)
    return path


def check_both_readers(source: Path, path: Path, masks: NDArray[np.bool_]) -> None:
    header = pydicom.dcmread(source, stop_before_pixels=True)
    found = pydicom.dcmread(path)
    assert found.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.4"
    stored = found.pixel_array.reshape(len(masks) * 2, *masks.shape[2:])
    for groups, pixels in zip(
        found.PerFrameFunctionalGroupsSequence, stored, strict=True
    ):
        image = groups.DerivationImageSequence[0].SourceImageSequence[0]
        assert image.ReferencedSOPInstanceUID == header.SOPInstanceUID
        assert image.ReferencedSOPClassUID == header.SOPClassUID
        frame = image.get("ReferencedFrameNumber", 1)
        segment = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        assert np.array_equal(pixels, masks[frame - 1, segment - 1])
        indices = list(groups.FrameContentSequence[0].DimensionIndexValues)
        assert indices == [segment, frame]
    highdicom = pytest.importorskip("highdicom")
    seg = highdicom.seg.segread(path)
    if "NumberOfFrames" in header:
        read = seg.get_pixels_by_source_frame(
            header.SOPInstanceUID, range(1, len(masks) + 1)
        )
    else:
        read = seg.get_pixels_by_source_instance([header.SOPInstanceUID])
    assert np.array_equal(read, masks.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("shape", [(4, 16, 24), (3, 13, 11), (1, 8, 8)])
def test_masks_come_back_frame_by_frame_and_segment_by_segment(
    shape: tuple[int, ...], tmp_path: Path, make_xa: MakeXa
) -> None:
    source = tmp_path / "secret.dcm"
    make_xa(np.zeros(shape, np.uint8)).save_as(source)
    masks = random_masks(*shape)
    check_both_readers(source, write(source, masks), masks)


def test_a_single_image_without_frame_numbers_works_too(
    tmp_path: Path, make_xa: MakeXa
) -> None:
    source = tmp_path / "a.dcm"
    made = make_xa(np.zeros((1, 9, 7), np.uint8))
    del made.NumberOfFrames
    made.save_as(source)
    masks = random_masks(1, 9, 7)
    path = write(source, masks)
    check_both_readers(source, path, masks)


def test_segments_have_the_codes_of_snomed_ct_and_a_colour(
    tmp_path: Path, make_xa: MakeXa
) -> None:
    source = tmp_path / "a.dcm"
    make_xa(np.zeros((2, 8, 8), np.uint8)).save_as(source)
    found = pydicom.dcmread(write(source, random_masks(2, 8, 8)))
    codes = [
        (
            one.SegmentLabel,
            one.SegmentedPropertyCategoryCodeSequence[0].CodeValue,
            one.SegmentedPropertyTypeCodeSequence[0].CodeValue,
            one.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator,
        )
        for one in found.SegmentSequence
    ]
    assert codes == [
        ("catheter", "260787004", "19923001", "SCT"),
        ("guidewire", "260787004", "272224001", "SCT"),
    ]
    assert all(
        len(one.RecommendedDisplayCIELabValue) == 3 for one in found.SegmentSequence
    )
    assert found.SegmentsOverlap == "YES"
    apart = write(source, random_masks(2, 8, 8, overlap=False))
    assert pydicom.dcmread(apart).SegmentsOverlap == "NO"


def test_the_codes_are_those_of_the_standard() -> None:
    from pydicom.sr.codedict import codes  # slow

    for concept, code in (
        (SEGMENT_TYPES["catheter"], codes.SCT.Catheter),
        (SEGMENT_TYPES["guidewire"], codes.SCT.GuideWire),
        (SEGMENT_CATEGORY, codes.cid7150.PhysicalObject),
        (DERIVATION, codes.cid7203.SegmentationImageDerivation),
        (ALGORITHM, codes.cid7162.ArtificialIntelligence),
        (SOURCE_PURPOSE, codes.cid7202.SourceImageForImageProcessingOperation),
    ):
        assert concept == (code.value, code.scheme_designator, code.meaning)


def test_an_empty_prediction_is_an_object_of_empty_frames(
    tmp_path: Path, make_xa: MakeXa
) -> None:
    source = tmp_path / "a.dcm"
    make_xa(np.zeros((2, 8, 8), np.uint8)).save_as(source)
    masks = np.zeros((2, 2, 8, 8), bool)
    check_both_readers(source, write(source, masks), masks)


def test_it_belongs_to_the_study_but_names_nobody(
    tmp_path: Path, make_xa: MakeXa
) -> None:
    source = tmp_path / "a.dcm"
    made = make_xa(np.zeros((1, 8, 8), np.uint8), AccessionNumber="SECRET-78")
    made.StudyDate = "20261121"
    made.save_as(source)
    path = write(source, random_masks(1, 8, 8))
    found = pydicom.dcmread(path)
    assert found.StudyInstanceUID == made.StudyInstanceUID
    assert found.SeriesInstanceUID != made.SeriesInstanceUID
    assert found.Modality == "SEG"
    reference = found.ReferencedSeriesSequence[0]
    assert reference.SeriesInstanceUID == made.SeriesInstanceUID
    instance = reference.ReferencedInstanceSequence[0]
    assert instance.ReferencedSOPClassUID == made.SOPClassUID
    assert found.SourceImageSequence[0].ReferencedSOPClassUID == made.SOPClassUID
    assert (found.PatientName, found.PatientID, found.StudyDate) == ("", "", "")
    assert b"DOE" not in path.read_bytes()
    assert b"SECRET" not in path.read_bytes()


def test_it_names_the_patient_if_that_is_wished_for(
    tmp_path: Path, make_xa: MakeXa
) -> None:
    source = tmp_path / "a.dcm"
    made = make_xa(
        np.zeros((1, 8, 8), np.uint8),
        SpecificCharacterSet="ISO_IR 100",
        PatientSex="X",
        PatientBirthDate="",
    )
    made.PatientName = "MÜLLER^JANE"
    made.save_as(source)
    path = write(source, random_masks(1, 8, 8), keep_identity=True)
    found = pydicom.dcmread(path)
    assert str(found.PatientName) == "MÜLLER^JANE"
    assert found.PatientID == "SECRET-77"
    assert found.PatientSex == ""  # what DICOM does not know is left out


def test_a_header_without_numbers_is_refused_without_quoting_it(
    tmp_path: Path, make_xa: MakeXa
) -> None:
    source = tmp_path / "a.dcm"
    made = make_xa(np.zeros((1, 8, 8), np.uint8))
    del made.StudyInstanceUID
    made.save_as(source)
    with pytest.raises(DataError) as caught:
        SegmentationWriter(source, "sam-tiny")
    assert "study, series or image" in str(caught.value)
    assert "DOE" not in str(caught.value)


def test_a_real_angiogram_takes_a_segmentation(
    phantom_xa: Path, tmp_path: Path
) -> None:
    source = tmp_path / "a.dcm"
    source.write_bytes((phantom_xa / "dicom" / "IM2.dcm").read_bytes())
    masks = random_masks(12, 512, 512)
    check_both_readers(source, write(source, masks), masks)
