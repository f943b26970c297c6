"""DICOM files of every compression come out with the pixels that went in."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, encapsulate_extended, itemize_fragment
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from clients.images.dicom import KEPT_ELEMENTS, DicomFile

MakeDicom = Callable[..., FileDataset]
SaveDicom = Callable[..., Path]
Waves = Callable[..., NDArray]

LOSSLESS = (
    "JPEGLosslessProcess14",
    "JPEGLosslessProcess14_1",
    "JPEGLSLossless",
    "JPEG2000Lossless",
    "RLELossless",
)
DEPTHS = ((8, False), (10, False), (12, False), (16, False), (8, True), (12, True))

# One picture, stored by the tools of others in different ways; it comes with pydicom.
SAME_PICTURE = (
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_padded.dcm",
)


def test_data(name: str) -> Path:
    return Path(get_testdata_file(name, download=False))


test_data.__test__ = False  # a helper, not a test


def stored(bits: int) -> dict[str, int]:
    return {"BitsStored": bits, "HighBit": bits - 1}


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize(("bits", "signed"), DEPTHS)
def test_lossless_compression_gives_the_very_pixels(
    syntax: str,
    bits: int,
    signed: bool,
    waves: Waves,
    make_dicom: MakeDicom,
    save_dicom: SaveDicom,
) -> None:
    pixels = waves(bits, signed=signed)
    source = DicomFile(save_dicom(make_dicom(pixels, **stored(bits)), syntax))
    assert source.facts.num_frames == 3
    assert source.facts.bits == bits
    for index in (2, 0):
        assert np.array_equal(source.read_frame(index), pixels[index])


@pytest.mark.parametrize(
    ("syntax", "bits", "tolerance"),
    [
        ("JPEGBaselineProcess1", 8, 4),
        ("JPEGExtendedProcess2_4", 8, 4),
        ("JPEGLSNearLossless", 12, 4),
        ("JPEG2000", 12, 4),
    ],
)
def test_lossy_compression_gives_nearly_these_pixels(
    syntax: str,
    bits: int,
    tolerance: int,
    waves: Waves,
    make_dicom: MakeDicom,
    save_dicom: SaveDicom,
) -> None:
    pixels = waves(bits)
    source = DicomFile(save_dicom(make_dicom(pixels, **stored(bits)), syntax))
    assert np.abs(source.read_frame(1) - pixels[1].astype(float)).max() <= tolerance


@pytest.mark.parametrize("name", SAME_PICTURE)
def test_files_of_other_tools_give_the_same_picture(name: str) -> None:
    expected = DicomFile(test_data("MR_small.dcm")).read_frame(0)
    found = DicomFile(test_data(name)).read_frame(0)
    assert np.ptp(expected) > 1000
    assert np.array_equal(found, expected)


def test_twelve_bit_jpeg_of_another_tool_is_decoded() -> None:
    # Both are lossy versions of one noisy picture.
    found = DicomFile(test_data("JPEG-lossy.dcm")).read_frame(0)
    reference = DicomFile(test_data("JPEG2000.dcm")).read_frame(0)
    assert found.shape == reference.shape == (1024, 256)
    assert np.corrcoef(found.ravel(), reference.ravel())[0, 1] > 0.95


def test_lossless_jpeg_gives_the_very_pixels_of_the_exported_frames(
    phantom_xa: Path,
) -> None:
    for name, count in (("IM1", 14), ("IM2", 12)):
        source = DicomFile(phantom_xa / "dicom" / f"{name}.dcm")
        assert (source.facts.num_frames, source.facts.modality) == (count, "XA")
        assert (source.facts.height, source.facts.width) == (512, 512)
        assert source.facts.frame_time_ms == pytest.approx(1000 / 15, abs=1e-3)
        compared = 0
        for path in sorted((phantom_xa / "images").glob(f"{name}_*.png")):
            exported = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            found = source.read_frame(int(path.stem.rpartition("_")[2]))
            # The file's window of 256 around 128 leaves the 8-bit grey as it is.
            assert np.abs(found - exported.astype(float)).max() < 1
            compared += 1
        assert compared >= 9


@pytest.mark.parametrize("has_table", [True, False])
def test_a_frame_may_lie_in_several_pieces(
    has_table: bool, waves: Waves, make_dicom: MakeDicom, save_dicom: SaveDicom
) -> None:
    pixels = waves(8)
    streams = [cv2.imencode(".jpg", frame)[1].tobytes() for frame in pixels]
    dataset = make_dicom(pixels)
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate(streams, fragments_per_frame=3, has_bot=has_table)
    source = DicomFile(save_dicom(dataset))
    for index in range(3):
        expected = cv2.imdecode(np.frombuffer(streams[index], np.uint8), -1)
        difference = source.read_frame(index).astype(float) - expected
        assert np.abs(difference).max() <= 2


def test_an_offset_table_tells_where_the_content_misleads(
    waves: Waves, make_dicom: MakeDicom, save_dicom: SaveDicom
) -> None:
    # Every frame is cut in a comment, where a picture seems to begin.
    pixels, items, offsets, place = waves(8), [], [], 0
    for frame in pixels:
        stream = cv2.imencode(".jpg", frame)[1].tobytes()
        stream = stream[:2] + b"\xff\xfe\x00\x06\xff\xd8\xff\xd8" + stream[2:]
        stream += b"\0" * (len(stream) % 2)
        offsets.append(place)
        for piece in (stream[:6], stream[6:]):
            items.append(itemize_fragment(piece))
            place += len(items[-1])
    table = itemize_fragment(np.array(offsets, "<u4").tobytes())
    dataset = make_dicom(pixels)
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = table + b"".join(items)
    source = DicomFile(save_dicom(dataset))
    for index in range(3):
        assert np.abs(source.read_frame(index).astype(float) - pixels[index]).max() < 5


def test_frames_are_found_by_an_extended_offset_table(
    waves: Waves, make_dicom: MakeDicom, save_dicom: SaveDicom
) -> None:
    pixels = waves(8)
    dataset = make_dicom(pixels)
    dataset.compress(RLELossless)
    frames = list(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=3))
    dataset.PixelData, offsets, lengths = encapsulate_extended(frames)
    dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = offsets, lengths
    found = DicomFile(save_dicom(dataset)).read_frame(2)
    assert np.array_equal(found, pixels[2])


def test_a_single_frame_may_lie_in_several_pieces(
    waves: Waves, make_dicom: MakeDicom, save_dicom: SaveDicom
) -> None:
    pixels = waves(8)[0]
    stream = cv2.imencode(".jpg", pixels)[1].tobytes()
    dataset = make_dicom(pixels)
    del dataset.NumberOfFrames
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([stream], fragments_per_frame=4, has_bot=False)
    source = DicomFile(save_dicom(dataset))
    assert source.facts.num_frames == 1
    assert np.abs(source.read_frame(0).astype(float) - pixels).max() <= 4


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]
)
def test_uncompressed_pixels_come_in_any_encoding(
    syntax: str, waves: Waves, make_dicom: MakeDicom, save_dicom: SaveDicom
) -> None:
    pixels = waves(12)
    dataset = make_dicom(pixels, **stored(12))
    dataset.file_meta.TransferSyntaxUID = syntax
    found = DicomFile(save_dicom(dataset)).read_frame(1)
    assert np.array_equal(found, pixels[1])


def test_big_endian_comes_in_the_order_of_the_machine(
    waves: Waves, make_dicom: MakeDicom, tmp_path: Path
) -> None:
    pixels = waves(12)
    dataset = make_dicom(pixels.astype(">u2"), **stored(12))
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dataset["PixelData"].VR = "OW"
    pydicom.dcmwrite(
        tmp_path / "a.dcm", dataset, implicit_vr=False, little_endian=False
    )
    found = DicomFile(tmp_path / "a.dcm").read_frame(2)
    assert found.dtype.isnative
    assert np.array_equal(found, pixels[2])


def test_a_file_without_preamble_and_file_header_is_read(
    waves: Waves, make_dicom: MakeDicom, tmp_path: Path
) -> None:
    dataset = make_dicom(waves(12), **stored(12), StudyDate="20240101")
    path = tmp_path / "IM0001"
    bare = pydicom.Dataset()
    bare.update(dataset)
    bare.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert path.read_bytes()[:2] == b"\x08\x00"
    assert np.array_equal(DicomFile(path).read_frame(1), waves(12)[1])


def test_a_file_without_a_number_of_frames_holds_one(
    waves: Waves, make_dicom: MakeDicom, save_dicom: SaveDicom
) -> None:
    dataset = make_dicom(waves(8)[0])
    del dataset.NumberOfFrames
    source = DicomFile(save_dicom(dataset))
    assert source.facts.num_frames == 1
    assert np.array_equal(source.read_frame(0), waves(8)[0])


def test_nothing_of_a_patient_is_remembered(
    waves: Waves, make_dicom: MakeDicom, save_dicom: SaveDicom
) -> None:
    source = DicomFile(save_dicom(make_dicom(waves(8))))
    kept = source._headers[0]
    assert {element.keyword for element in kept} <= set(KEPT_ELEMENTS)
    assert "DOE" not in str(kept) and "SECRET" not in str(kept)
    assert "SECRET" in source.identity.patient  # only here, to be hashed
    assert "SECRET" not in repr(source) + repr(source.identity)
