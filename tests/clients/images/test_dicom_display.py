"""Grey as on the display: rescale, lookup tables, windows, inversion."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    EnhancedXAImageStorage,
    ExplicitVRBigEndian,
    XRayAngiographicImageStorage,
)

from clients.data.errors import DataError
from clients.images.dicom import DicomFile

MakeDicom = Callable[..., FileDataset]
SaveDicom = Callable[..., Path]

RAMP = np.arange(48, dtype=np.uint16).reshape(3, 4, 4) * 80  # 0 to 3760, 12 bit
TWELVE = {"BitsStored": 12, "HighBit": 11}
DX = {"SOPClassUID": DigitalXRayImageStorageForPresentation}


def table(first: int, entries: NDArray) -> list[Dataset]:
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 2**16, first, 8 * entries.itemsize]
    item["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    item.add_new("LUTData", "OW", entries.tobytes())
    return [item]


@pytest.fixture
def show(make_dicom: MakeDicom, save_dicom: SaveDicom) -> Callable[..., NDArray]:
    """Return a reader of one frame of a file with such elements."""

    def read(pixels: NDArray = RAMP, index: int = 0, **elements: object) -> NDArray:
        dataset = make_dicom(pixels, **elements)
        return DicomFile(save_dicom(dataset)).read_frame(index)

    return read


Show = Callable[..., NDArray]


def test_values_without_instructions_stay_as_stored(show: Show) -> None:
    found = show(RAMP, 1)
    assert found.dtype == np.uint16
    assert np.array_equal(found, RAMP[1])


def test_slope_and_intercept_are_applied(show: Show) -> None:
    found = show(RescaleSlope=2, RescaleIntercept=-100)
    assert np.array_equal(found, 2.0 * RAMP[0] - 100)


def test_a_modality_table_is_looked_up_between_its_ends(show: Show) -> None:
    entries = np.arange(0, 2000, 2, dtype=np.uint16)  # 1000 entries from value 500 on
    found = show(RAMP, 0, ModalityLUTSequence=table(500, entries), **DX)
    expected = np.clip(RAMP[0].astype(int) - 500, 0, 999) * 2
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("kind", [XRayAngiographicImageStorage, EnhancedXAImageStorage])
def test_the_modality_table_of_angiography_is_not_for_display(
    kind: str, show: Show
) -> None:
    entries = np.zeros(4096, np.uint16)
    found = show(ModalityLUTSequence=table(0, entries), SOPClassUID=kind)
    assert np.array_equal(found, RAMP[0])


def test_the_first_window_is_applied(show: Show) -> None:
    # C.11.2.1.2.1: 600 wide 401 reaches from 399.5 to 799.5 in steps of 1 / 400.
    found = show(RAMP, 0, WindowCenter=[600, 7], WindowWidth=[401, 9], **TWELVE)
    expected = np.clip((RAMP[0] - 399.5) / 400, 0, 1) * 4095
    assert found == pytest.approx(expected, abs=0.01)


def test_an_exact_window_reaches_half_its_width_to_both_sides(show: Show) -> None:
    window = {"WindowCenter": 600, "WindowWidth": 400, "VOILUTFunction": "LINEAR_EXACT"}
    found = show(RAMP, 0, **window, **TWELVE)
    assert found == pytest.approx(np.clip((RAMP[0] - 400.0) / 400, 0, 1) * 4095)


def test_a_sigmoid_window_is_half_way_at_its_center(show: Show) -> None:
    window = {"WindowCenter": 640, "WindowWidth": 400, "VOILUTFunction": "SIGMOID"}
    found = show(RAMP, 0, **window, **TWELVE)
    expected = 4095 / (1 + np.exp(-4 * (RAMP[0] - 640.0) / 400))
    assert found == pytest.approx(expected, abs=0.01)


def test_a_window_counts_in_rescaled_values(show: Show) -> None:
    rescale = {"RescaleSlope": 0.5, "RescaleIntercept": -100}
    found = show(RAMP, 0, WindowCenter=200, WindowWidth=201, **rescale, **TWELVE)
    share = np.clip((0.5 * RAMP[0] - 100 - 99.5) / 200, 0, 1)
    assert found == pytest.approx(share * 0.5 * 4095 - 100, abs=0.01)


@pytest.mark.parametrize("width", [0, -5, 0.5, ""])
def test_a_window_that_cannot_be_is_ignored(width: object, show: Show) -> None:
    found = show(WindowCenter=600, WindowWidth=width)
    assert np.array_equal(found, RAMP[0])


def test_a_voi_table_goes_before_a_window(show: Show) -> None:
    entries = (np.arange(3000) // 2 + 7).astype(np.uint16)
    voi = {"VOILUTSequence": table(100, entries), "WindowCenter": 5, "WindowWidth": 9}
    found = show(RAMP, 2, **voi)
    expected = np.clip(RAMP[2].astype(int) - 100, 0, 2999) // 2 + 7
    assert np.array_equal(found, expected)


def test_a_voi_table_of_bytes_takes_values_beyond_a_byte(show: Show) -> None:
    entries = (np.arange(4096) // 16).astype(np.uint8)
    found = show(RAMP, 2, VOILUTSequence=table(0, entries), **TWELVE)
    assert found.max() > 200
    assert np.array_equal(found, RAMP[2] // 16)


def test_a_voi_table_may_begin_below_zero(show: Show) -> None:
    pixels = RAMP.astype(np.int16) - 2000
    entries = np.arange(4096, dtype=np.uint16)
    found = show(pixels, 0, VOILUTSequence=table(-2000, entries))
    assert np.array_equal(found, RAMP[0])


def test_a_voi_table_may_begin_below_zero_without_saying_so(show: Show) -> None:
    entries = np.arange(4096, dtype=np.uint16)
    voi = {"VOILUTSequence": table(2**16 - 2000, entries)}  # -2000 read as unsigned
    found = show(RAMP, 0, RescaleSlope=1, RescaleIntercept=-2000, **voi)
    assert np.array_equal(found, RAMP[0])


def test_the_table_of_a_big_endian_file_is_read_in_its_order(
    make_dicom: MakeDicom, tmp_path: Path
) -> None:
    entries = (np.arange(4096) + 300).astype(">u2")
    dataset = make_dicom(RAMP.astype(">u2"), VOILUTSequence=table(0, entries))
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dataset["PixelData"].VR = "OW"
    path = tmp_path / "a.dcm"
    pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=False)
    assert np.array_equal(DicomFile(path).read_frame(1), RAMP[1] + 300)


def test_a_table_that_is_cut_off_is_an_error(show: Show) -> None:
    broken = table(0, np.arange(4096, dtype=np.uint16))
    broken[0].LUTData = broken[0].LUTData[:3000]
    with pytest.raises(DataError, match="lookup table that is cut off"):
        show(RAMP, 0, VOILUTSequence=broken)


@pytest.mark.parametrize(
    ("kind", "shape", "inverted"),
    [
        ("MONOCHROME2", None, False),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", None, True),
        ("MONOCHROME1", "INVERSE", True),  # says the same twice [PS3.3 C.8.11.3.1.2]
    ],
)
def test_bright_is_large_whatever_the_file_counts_as_bright(
    kind: str, shape: str | None, inverted: bool, show: Show
) -> None:
    elements = {} if shape is None else {"PresentationLUTShape": shape}
    found = show(RAMP, 0, PhotometricInterpretation=kind, **elements, **DX)
    expected = -RAMP[0].astype(float) if inverted else RAMP[0]
    assert np.array_equal(found, expected)


def test_the_window_comes_before_the_inversion(show: Show) -> None:
    window = {"WindowCenter": 600, "WindowWidth": 401}
    plain = show(RAMP, 0, **window, **TWELVE)
    found = show(RAMP, 0, PhotometricInterpretation="MONOCHROME1", **window, **TWELVE)
    assert found == pytest.approx(-plain)


def test_values_of_more_than_two_bytes_are_windowed_too(show: Show) -> None:
    pixels = RAMP.astype(np.uint32) * 100_000
    found = show(pixels, 0, WindowCenter=6e7, WindowWidth=4e7)
    expected = np.clip((pixels[0] - 4e7) / 4e7, 0, 1) * (2**32 - 1)
    assert found == pytest.approx(expected, rel=1e-6)


def enhanced(center: list[float]) -> dict[str, object]:
    shared, groups = Dataset(), []
    shared.PixelValueTransformationSequence = [Dataset()]
    shared.PixelValueTransformationSequence[0].RescaleSlope = 2
    shared.PixelValueTransformationSequence[0].RescaleIntercept = 10
    for value in center:
        window = Dataset()
        window.WindowCenter, window.WindowWidth = value, 401
        groups.append(Dataset())
        groups[-1].FrameVOILUTSequence = [window]
    return {
        "SharedFunctionalGroupsSequence": [shared],
        "PerFrameFunctionalGroupsSequence": groups,
        "SOPClassUID": EnhancedXAImageStorage,
    }


def test_every_frame_of_an_enhanced_object_has_its_own_window(show: Show) -> None:
    centers = [600.0, 3000.0, 6000.0]
    for index, center in enumerate(centers):
        found = show(RAMP, index, **enhanced(centers), **TWELVE)
        share = (2 * RAMP[index] + 10 - (center - 200.5)) / 400
        assert 0 < np.mean((share > 0) & (share < 1)) < 1
        expected = np.clip(share, 0, 1) * 2 * 4095 + 10
        assert found == pytest.approx(expected, abs=0.01)


def test_windows_for_another_number_of_frames_are_an_error(show: Show) -> None:
    with pytest.raises(DataError, match="another number of frames"):
        show(RAMP, 0, **enhanced([600.0, 700.0]))
