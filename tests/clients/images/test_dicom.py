"""DICOM files, sound and damaged; none of their names ever comes out."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from clients.data.errors import DataError
from clients.images.dicom import PIXEL_ELEMENTS, DicomFile

MakeDicom = Callable[..., FileDataset]

RAMP = np.arange(48, dtype=np.uint16).reshape(3, 4, 4) * 80


def read(dataset: FileDataset, folder: Path, index: int = 0) -> np.ndarray:
    path = folder / "DOE_JANE.dcm"
    dataset.save_as(path)
    return DicomFile(path).read_frame(index)


def test_frames_of_a_multi_frame_file_come_one_by_one(
    make_dicom: MakeDicom, tmp_path: Path
) -> None:
    for index in range(3):
        found = read(make_dicom(RAMP), tmp_path, index)
        assert np.array_equal(found, RAMP[index])


def test_a_file_without_a_number_of_frames_holds_one(
    make_dicom: MakeDicom, tmp_path: Path
) -> None:
    dataset = make_dicom(RAMP[0])
    del dataset.NumberOfFrames
    dataset.save_as(tmp_path / "one.dcm")
    assert DicomFile(tmp_path / "one.dcm").num_frames == 1
    assert np.array_equal(DicomFile(tmp_path / "one.dcm").read_frame(0), RAMP[0])


def test_monochrome1_is_turned_around(make_dicom: MakeDicom, tmp_path: Path) -> None:
    dataset = make_dicom(RAMP, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(read(dataset, tmp_path), -RAMP[0].astype(float))


def test_slope_and_intercept_are_applied(make_dicom: MakeDicom, tmp_path: Path) -> None:
    dataset = make_dicom(RAMP, RescaleSlope=2, RescaleIntercept=-100)
    assert np.array_equal(read(dataset, tmp_path), 2.0 * RAMP[0] - 100)


def test_the_display_window_is_applied(make_dicom: MakeDicom, tmp_path: Path) -> None:
    dataset = make_dicom(RAMP, WindowCenter=600, WindowWidth=400)
    grey = read(dataset, tmp_path)
    # Inside the window (400 to 800) grey rises; outside it is flat.
    assert len(set(grey[RAMP[0] <= 400])) == 1
    assert len(set(grey[RAMP[0] >= 800])) == 1
    assert (np.diff(grey[(RAMP[0] > 400) & (RAMP[0] < 800)]) > 0).all()


def test_signed_pixels_stay_signed(make_dicom: MakeDicom, tmp_path: Path) -> None:
    pixels = (RAMP.astype(np.int16) - 1000).astype(np.int16)
    assert read(make_dicom(pixels), tmp_path).min() == -1000


def test_colour_is_turned_into_grey(make_dicom: MakeDicom, tmp_path: Path) -> None:
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 100
    dataset = make_dicom(red[..., 0])
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
    dataset.PhotometricInterpretation = "RGB"
    dataset.PixelData = red.tobytes()
    assert read(dataset, tmp_path) == pytest.approx(29.9)  # 0.299 of ITU-R BT.601


def test_a_compression_that_pydicom_knows_is_decoded(
    make_dicom: MakeDicom, tmp_path: Path
) -> None:
    dataset = make_dicom((RAMP // 16).astype(np.uint8))
    dataset.compress(RLELossless)
    assert np.array_equal(read(dataset, tmp_path, 2), RAMP[2] // 16)


def test_lossless_jpeg_gives_the_very_pixels_of_the_exported_frames(
    phantom_xa: Path,
) -> None:
    source = DicomFile(phantom_xa / "dicom" / "IM1.dcm")
    assert source.num_frames == 14
    for index in (2, 13):
        path = phantom_xa / "images" / f"IM1_{index:02d}.png"
        exported = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        # The file's window of 256 around 128 leaves the 8-bit grey as it is.
        assert np.abs(source.read_frame(index) - exported).max() < 1


def test_only_elements_about_pixels_are_read(
    make_dicom: MakeDicom, tmp_path: Path
) -> None:
    make_dicom(RAMP).save_as(tmp_path / "a.dcm")
    kept = DicomFile(tmp_path / "a.dcm")._dataset
    assert {element.keyword for element in kept} <= set(PIXEL_ELEMENTS)
    assert "DOE" not in str(kept) and "SECRET" not in str(kept)


def truncate(dataset: FileDataset) -> None:
    dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]


def break_jpeg(dataset: FileDataset) -> None:
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    dataset.PixelData = encapsulate([b"\xff\xd8\xff\xc3 no jpeg"] * 3)


def break_baseline(dataset: FileDataset) -> None:
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([b"\xff\xd8 no jpeg"] * 3)


def lose_pixels(dataset: FileDataset) -> None:
    del dataset.PixelData


def lose_rows(dataset: FileDataset) -> None:
    del dataset.Rows


def claim_a_palette(dataset: FileDataset) -> None:
    dataset.PhotometricInterpretation = "PALETTE COLOR"


@pytest.mark.parametrize(
    "damage",
    [truncate, break_jpeg, break_baseline, lose_pixels, lose_rows, claim_a_palette],
)
def test_a_damaged_image_is_an_error_that_quotes_nothing(
    damage: Callable[[FileDataset], None],
    make_dicom: MakeDicom,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    dataset = make_dicom((RAMP // 16).astype(np.uint8))
    damage(dataset)
    with pytest.raises(DataError) as caught:
        read(dataset, tmp_path, 2)
    told = str(caught.value) + caplog.text + str([str(w.message) for w in recwarn])
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    for secret in ("DOE", "JANE", "SECRET", str(tmp_path)):
        assert secret not in told


def test_a_file_that_is_no_dicom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "DOE_JANE.dcm").write_bytes(b"not a DICOM file" * 20)
    with pytest.raises(DataError, match=r"^cannot be read as a DICOM image$"):
        DicomFile(tmp_path / "DOE_JANE.dcm")


@pytest.mark.parametrize(
    ("syntax", "dtype"), [(JPEGLSLossless, np.uint8), (JPEGLosslessSV1, np.uint16)]
)
def test_a_compression_without_decoder_says_what_to_do(
    syntax: str, dtype: type, make_dicom: MakeDicom, tmp_path: Path
) -> None:
    dataset = make_dicom(RAMP.astype(dtype))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([b"\xff\xd8\xff\xd9"] * 3)
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(DataError, match="convert it to uncompressed DICOM"):
        DicomFile(tmp_path / "a.dcm")
