"""Bits within words, and colours, of DICOM files."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from clients.images.dicom import DicomFile

MakeDicom = Callable[..., FileDataset]
SaveDicom = Callable[..., Path]
Waves = Callable[..., NDArray]

TWELVE = {"BitsStored": 12, "HighBit": 11}


def test_garbage_above_the_stored_bits_is_removed(
    waves: Waves, make_dicom: MakeDicom, save_dicom: SaveDicom
) -> None:
    pixels = waves(12)
    dirty = pixels | np.uint16(0xA000)  # as overlays were once kept
    source = DicomFile(save_dicom(make_dicom(dirty, **TWELVE)))
    assert np.array_equal(source.read_frame(0), pixels[0])


def test_the_sign_is_the_highest_stored_bit(
    waves: Waves, make_dicom: MakeDicom, save_dicom: SaveDicom
) -> None:
    pixels = waves(12, signed=True)
    cut = (pixels.view(np.uint16) & 0x0FFF).astype(np.uint16)
    dataset = make_dicom(cut, **TWELVE, PixelRepresentation=1)
    found = DicomFile(save_dicom(dataset)).read_frame(0)
    assert found.min() < -2000
    assert np.array_equal(found, pixels[0])


def test_values_may_lie_at_the_upper_end_of_their_words(
    waves: Waves, make_dicom: MakeDicom, save_dicom: SaveDicom
) -> None:
    pixels = waves(12)
    dataset = make_dicom(pixels << 4 | 5, BitsStored=12, HighBit=15)
    assert np.array_equal(DicomFile(save_dicom(dataset)).read_frame(1), pixels[1])


def colour_dicom(make_dicom: MakeDicom, pixels: NDArray, kind: str) -> FileDataset:
    dataset = make_dicom(pixels[..., 0])
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
    dataset.PhotometricInterpretation = kind
    dataset.PixelData = pixels.tobytes()
    return dataset


@pytest.mark.parametrize("planar", [0, 1])
def test_colour_becomes_its_luminance(
    planar: int, make_dicom: MakeDicom, save_dicom: SaveDicom
) -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[...] = 100, 50, 200
    dataset = colour_dicom(make_dicom, pixels, "RGB")
    if planar:
        dataset.PlanarConfiguration = 1
        dataset.PixelData = pixels.transpose(2, 0, 1).tobytes()
    found = DicomFile(save_dicom(dataset)).read_frame(0)
    # ITU-R BT.601
    assert found == pytest.approx(0.299 * 100 + 0.587 * 50 + 0.114 * 200, abs=1e-3)


def test_the_grey_of_ybr_is_its_first_channel(
    make_dicom: MakeDicom, save_dicom: SaveDicom
) -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[...] = 90, 128, 128  # without colour
    pixels[0, 0] = 90, 140, 120
    dataset = colour_dicom(make_dicom, pixels, "YBR_FULL")
    found = DicomFile(save_dicom(dataset)).read_frame(0)
    assert found == pytest.approx(90, abs=1)


def test_colour_jpeg_is_what_another_decoder_makes_of_it(
    waves: Waves, make_dicom: MakeDicom, save_dicom: SaveDicom
) -> None:
    colour = np.moveaxis(waves(8), 0, -1)
    stream = cv2.imencode(".jpg", colour)[1].tobytes()
    dataset = colour_dicom(make_dicom, colour, "YBR_FULL_422")
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([stream])
    found = DicomFile(save_dicom(dataset)).read_frame(0)
    expected = cv2.imdecode(np.frombuffer(stream, np.uint8), cv2.IMREAD_COLOR)
    grey = cv2.cvtColor(expected.astype(np.float32), cv2.COLOR_BGR2GRAY)
    assert np.abs(found - grey).mean() < 1


def test_a_palette_is_looked_up(make_dicom: MakeDicom, save_dicom: SaveDicom) -> None:
    dataset = make_dicom(np.array([[0, 1], [2, 1]], np.uint8))
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for colour, values in (
        ("Red", [0, 10, 0]),
        ("Green", [0, 0, 20]),
        ("Blue", [5] * 3),
    ):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [3, 0, 16])
        packed = np.array(values, "<u2").tobytes()
        setattr(dataset, f"{colour}PaletteColorLookupTableData", packed)
    found = DicomFile(save_dicom(dataset)).read_frame(0)
    expected = [[0.57, 3.56], [12.31, 3.56]]  # 0.299 r + 0.587 g + 0.114 b
    assert found == pytest.approx(np.array(expected), abs=1e-3)
