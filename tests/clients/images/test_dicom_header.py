"""Facts and identity out of headers, sound and absurd."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import EnhancedXAImageStorage

from clients.images.dicom import DicomFile
from clients.images.source import Identity, SourceFacts

MakeDicom = Callable[..., FileDataset]
SaveDicom = Callable[..., Path]

PIXELS = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
IMAGER = {"ImagerPixelSpacing": [0.2, 0.2]}
ESTIMATED = "EstimatedRadiographicMagnificationFactor"


@pytest.fixture
def open_file(make_dicom: MakeDicom, save_dicom: SaveDicom) -> Callable[..., DicomFile]:
    """Return an opener of a two-frame file with such elements."""

    def build(**elements: object) -> DicomFile:
        return DicomFile(save_dicom(make_dicom(PIXELS, **elements)))

    return build


OpenFile = Callable[..., DicomFile]


def test_a_bare_header_gives_bare_facts(open_file: OpenFile) -> None:
    assert open_file().facts == SourceFacts(num_frames=2, height=3, width=4, bits=16)


@pytest.mark.parametrize("modality", ["XA", "RF", "DX", "CR"])
def test_the_modality_is_told(modality: str, open_file: OpenFile) -> None:
    assert open_file(Modality=modality).facts.modality == modality


def test_free_text_for_a_modality_is_not_passed_on(open_file: OpenFile) -> None:
    assert open_file(Modality="DOE_JANE").facts.modality == ""


@pytest.mark.parametrize(
    ("elements", "spacing_mm", "words"),
    [
        (IMAGER, 0.2, "magnification unknown"),
        ({**IMAGER, ESTIMATED: 1.25}, 0.16, f"divided by {ESTIMATED}"),
        (
            {
                **IMAGER,
                "DistanceSourceToDetector": 1000,
                "DistanceSourceToPatient": 750,
            },
            0.15,
            "DistanceSourceToPatient / DistanceSourceToDetector",
        ),
        (
            {
                **IMAGER,
                ESTIMATED: 1.25,
                "DistanceSourceToDetector": 1000,
                "DistanceSourceToPatient": 500,
            },
            0.16,
            ESTIMATED,
        ),
        ({"NominalScannedPixelSpacing": [0.1, 0.1]}, 0.1, "NominalScanned"),
        ({"PixelSpacing": [0.3, 0.3]}, 0.3, "unknown whether"),
        (
            {"PixelSpacing": [0.3, 0.3], "PixelSpacingCalibrationType": "FIDUCIAL"},
            0.3,
            "calibrated in the patient (FIDUCIAL)",
        ),
        (
            {
                **IMAGER,
                "PixelSpacing": [0.14, 0.14],
                "PixelSpacingCalibrationType": "GEOMETRY",
                ESTIMATED: 1.25,
            },
            0.14,
            "calibrated in the patient (GEOMETRY)",
        ),
        # 10.7.1.1: differs from the detector's, so it was calibrated.
        ({**IMAGER, "PixelSpacing": [0.15, 0.15]}, 0.15, "it differs from Imager"),
        # 10.7.1.1: is the detector's, so it was not.
        ({**IMAGER, "PixelSpacing": [0.2, 0.2], ESTIMATED: 1.25}, 0.16, ESTIMATED),
        ({"ImagerPixelSpacing": [0.2, 0.201]}, 0.2005, "at the detector"),
    ],
)
def test_spacing_holds_for_the_patient_where_that_is_known(
    elements: dict[str, object], spacing_mm: float, words: str, open_file: OpenFile
) -> None:
    facts = open_file(**elements).facts
    assert facts.spacing_mm == pytest.approx(spacing_mm)
    assert words in facts.spacing_origin


def test_pixels_that_are_not_square_have_no_spacing(open_file: OpenFile) -> None:
    facts = open_file(ImagerPixelSpacing=[0.2, 0.25]).facts
    assert facts.spacing_mm is None
    assert "not square" in facts.spacing_origin


@pytest.mark.parametrize(
    "values", [[0, 0], [-0.2, -0.2], [0.2], [1e9, 1e9], [1e-9, 1e-9], [0.2, 0.2, 0.2]]
)
def test_an_impossible_spacing_counts_as_none(
    values: list[float], open_file: OpenFile
) -> None:
    facts = open_file(ImagerPixelSpacing=values).facts
    assert (facts.spacing_mm, facts.spacing_origin) == (None, "")


@pytest.mark.parametrize("factor", [0, -1, 0.2, 1e6])
def test_an_impossible_magnification_counts_as_none(
    factor: float, open_file: OpenFile
) -> None:
    facts = open_file(**IMAGER, **{ESTIMATED: factor}).facts
    assert facts.spacing_mm == pytest.approx(0.2)
    assert "magnification unknown" in facts.spacing_origin


def test_distances_that_put_the_patient_behind_the_detector_are_ignored(
    open_file: OpenFile,
) -> None:
    distances = {"DistanceSourceToDetector": 700, "DistanceSourceToPatient": 900}
    facts = open_file(**IMAGER, **distances).facts
    assert facts.spacing_mm == pytest.approx(0.2)


def test_text_where_a_number_belongs_counts_as_none(
    make_dicom: MakeDicom, save_dicom: SaveDicom
) -> None:
    dataset = make_dicom(PIXELS, **IMAGER, FrameTime="98.765")
    path = save_dicom(dataset)
    stored = path.read_bytes()
    assert stored.count(b"0.2\\0.2 ") == 1
    assert stored.count(b"98.765") == 1
    path.write_bytes(
        stored.replace(b"0.2\\0.2 ", b"NaN\\abcd").replace(b"98.765", b"soon  ")
    )
    facts = DicomFile(path).facts
    assert (facts.spacing_mm, facts.frame_time_ms) == (None, None)


def test_an_enhanced_object_tells_its_spacing_in_functional_groups(
    open_file: OpenFile,
) -> None:
    shared = Dataset()
    shared.FramePixelDataPropertiesSequence = [Dataset()]
    shared.FramePixelDataPropertiesSequence[0].ImagerPixelSpacing = [0.3, 0.3]
    shared.ProjectionPixelCalibrationSequence = [Dataset()]
    beam = shared.ProjectionPixelCalibrationSequence[0]
    beam.ObjectPixelSpacingInCenterOfBeam = [0.21, 0.21]
    facts = open_file(
        SharedFunctionalGroupsSequence=[shared], SOPClassUID=EnhancedXAImageStorage
    ).facts
    assert facts.spacing_mm == pytest.approx(0.21)
    assert "CenterOfBeam" in facts.spacing_origin


@pytest.mark.parametrize(
    ("elements", "time_ms"),
    [
        ({"FrameTime": 66.7, "CineRate": 30}, 66.7),
        ({"FrameTimeVector": [0, 30, 50], "CineRate": 30}, 40),
        ({"CineRate": 25, "RecommendedDisplayFrameRate": 10}, 40),
        ({"RecommendedDisplayFrameRate": 10}, 100),
        ({"FrameTime": 0, "CineRate": 25}, 40),
        ({"FrameTime": -5}, None),
        ({"CineRate": 0}, None),
        ({"FrameTimeVector": [0]}, None),
        ({"FrameTime": 1e12}, None),
    ],
)
def test_the_time_between_frames_is_found_where_it_is_told(
    elements: dict[str, object], time_ms: float | None, open_file: OpenFile
) -> None:
    assert open_file(**elements).facts.frame_time_ms == pytest.approx(time_ms)


@pytest.mark.parametrize(
    ("told", "expected"), [("YES", True), ("NO", False), ("", None)]
)
def test_burned_in_text_is_told(
    told: str, expected: bool | None, open_file: OpenFile
) -> None:
    assert open_file(BurnedInAnnotation=told).facts.burned_in is expected


UIDS = {
    "StudyInstanceUID": "1.2.1",
    "SeriesInstanceUID": "1.2.2",
    "SOPInstanceUID": "1.2.3",
}


def identify(open_file: OpenFile, **elements: object) -> Identity | None:
    base = {"PatientName": "", "PatientID": "", **UIDS}
    return open_file(**{**base, **elements}).identity


def test_a_number_counts_with_its_issuer(open_file: OpenFile) -> None:
    first = identify(open_file, PatientID="7", IssuerOfPatientID="A")
    same = identify(open_file, PatientID="7 ", IssuerOfPatientID="A", PatientName="X^Y")
    other = identify(open_file, PatientID="7", IssuerOfPatientID="B")
    assert first.patient == same.patient != other.patient


def test_without_a_number_name_and_birth_date_tell(open_file: OpenFile) -> None:
    first = identify(open_file, PatientName="DOE^J", PatientBirthDate="19500101")
    other = identify(open_file, PatientName="DOE^J", PatientBirthDate="19500102")
    number = identify(open_file, PatientID="DOE^J|19500101")
    assert len({first.patient, other.patient, number.patient}) == 3


def test_without_a_name_the_study_tells(open_file: OpenFile) -> None:
    first = identify(open_file)
    same = identify(open_file, SeriesInstanceUID="1.2.9", SOPInstanceUID="1.2.8")
    other = identify(open_file, StudyInstanceUID="1.2.7")
    assert first.patient == same.patient != other.patient


def test_without_a_study_every_sequence_is_a_patient(open_file: OpenFile) -> None:
    first = identify(open_file, StudyInstanceUID="")
    other = identify(open_file, StudyInstanceUID="", SOPInstanceUID="1.2.8")
    assert first.sequence in first.patient
    assert first.patient != other.patient


def test_a_file_of_several_frames_is_a_sequence(open_file: OpenFile) -> None:
    first = identify(open_file)
    other = identify(open_file, SOPInstanceUID="1.2.8")
    assert first.sequence != other.sequence


def test_files_of_one_frame_share_the_sequence_of_their_series(
    make_dicom: MakeDicom, save_dicom: SaveDicom
) -> None:
    found = []
    for number in ("1.2.3", "1.2.4"):
        dataset = make_dicom(PIXELS[0], **{**UIDS, "SOPInstanceUID": number})
        found.append(DicomFile(save_dicom(dataset)).identity.sequence)
    assert found[0] == found[1] == "1.2.2"


def test_the_header_of_the_file_stands_in_for_a_missing_number(
    open_file: OpenFile,
) -> None:
    # make_dicom writes 1.2.3.4 into the file's own header.
    bare = open_file(PatientName="", PatientID="")
    assert bare.identity.sequence.endswith("1.2.3.4")


def test_a_file_that_tells_nothing_has_no_identity(
    make_dicom: MakeDicom, save_dicom: SaveDicom
) -> None:
    dataset = make_dicom(PIXELS, PatientName="", PatientID="")
    del dataset.file_meta.MediaStorageSOPInstanceUID
    assert DicomFile(save_dicom(dataset)).identity is None
