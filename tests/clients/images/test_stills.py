"""Still images come out as grey frames."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from clients.data.errors import DataError
from clients.images.source import SourceFacts
from clients.images.stills import StillImage

GREY8 = (np.arange(30 * 40).reshape(30, 40) % 251).astype(np.uint8)
GREY16 = (np.arange(30 * 40).reshape(30, 40) * 50 + 3).astype(np.uint16)
COLOUR = np.dstack([GREY8, GREY8[::-1], GREY8[:, ::-1]])  # red, green, blue
# ITU-R BT.601
LUMINANCE = COLOUR.astype(float) @ [0.299, 0.587, 0.114]


def write(path: Path, pixels: NDArray) -> Path:
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return path


def write_tiff(path: Path, pixels: NDArray, **options: object) -> Path:
    tifffile.imwrite(path, pixels, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
@pytest.mark.parametrize("pixels", [GREY8, GREY16])
def test_grey_comes_as_it_is_stored(
    suffix: str, pixels: NDArray, tmp_path: Path
) -> None:
    source = StillImage(write(tmp_path / f"a{suffix}", pixels))
    bits = 8 * pixels.itemsize
    assert source.facts == SourceFacts(num_frames=1, height=30, width=40, bits=bits)
    assert source.identity is None
    found = source.read_frame(0)
    assert found.dtype == pixels.dtype
    assert np.array_equal(found, pixels)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
def test_a_jpeg_is_what_another_decoder_makes_of_it(
    suffix: str, tmp_path: Path
) -> None:
    path = write(tmp_path / f"a{suffix}", GREY8)
    with Image.open(path) as image:
        expected = np.asarray(image).astype(float)
    found = StillImage(path).read_frame(0)
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("scale", [1, 256])
@pytest.mark.parametrize("opacity", [False, True])
def test_colour_becomes_its_luminance_and_opacity_is_ignored(
    suffix: str, scale: int, opacity: bool, tmp_path: Path
) -> None:
    pixels = COLOUR.astype(np.uint16) * scale if scale > 1 else COLOUR
    channels = [*np.moveaxis(pixels[..., ::-1], -1, 0)]  # OpenCV writes blue first
    if opacity:
        channels.append(np.full_like(channels[0], 17))
    source = StillImage(write(tmp_path / f"a{suffix}", np.dstack(channels)))
    assert source.facts.bits == (16 if scale > 1 else 8)
    found = source.read_frame(0)
    assert found == pytest.approx(LUMINANCE * scale, rel=1e-5)


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).quantize(256).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
        expected = np.asarray(image.convert("RGB")).astype(float)
    found = StillImage(tmp_path / "a.png").read_frame(0)
    assert found == pytest.approx(expected @ [0.299, 0.587, 0.114], abs=1e-3)


def test_the_pages_of_a_tiff_are_frames(tmp_path: Path) -> None:
    pages = np.stack([GREY16, GREY16[::-1], GREY16[:, ::-1], GREY16 // 2])
    path = write_tiff(tmp_path / "a.tif", pages, photometric="minisblack")
    source = StillImage(path)
    assert source.facts.num_frames == 4
    for index in (3, 0, 2, 1):
        assert np.array_equal(source.read_frame(index), pages[index])


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zlib"},
        {"tile": (16, 16)},
        {"byteorder": ">"},
        {"bigtiff": True},
    ],
)
def test_a_tiff_may_be_packed_in_many_ways(
    options: dict[str, object], tmp_path: Path
) -> None:
    path = write_tiff(tmp_path / "a.tif", GREY16, **options)
    assert np.array_equal(StillImage(path).read_frame(0), GREY16)


@pytest.mark.parametrize("pixels", [GREY8, GREY16])
def test_a_tiff_with_white_as_zero_is_turned_around(
    pixels: NDArray, tmp_path: Path
) -> None:
    path = write_tiff(tmp_path / "a.tif", pixels, photometric="miniswhite")
    expected = np.iinfo(pixels.dtype).max - pixels
    assert np.array_equal(StillImage(path).read_frame(0), expected)


def test_a_tiff_may_hold_real_numbers_but_no_nan(tmp_path: Path) -> None:
    pixels = GREY16.astype(np.float32) / 7
    path = write_tiff(tmp_path / "a.tif", pixels)
    assert np.array_equal(StillImage(path).read_frame(0), pixels)
    pixels[3, 4] = np.nan
    source = StillImage(write_tiff(tmp_path / "b.tif", pixels))
    with pytest.raises(DataError, match="not finite"):
        source.read_frame(0)


def test_pages_of_different_sizes_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GREY8, photometric="minisblack")
        file.write(GREY8[:-1], photometric="minisblack")
    with pytest.raises(DataError, match="pages of different sizes"):
        StillImage(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_an_image_cut_off_is_an_error(suffix: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (90, 90)).astype(np.uint8)
    path = write(tmp_path / f"a{suffix}", noise)
    stored = path.read_bytes()
    for length in (5, 40, len(stored) // 2, len(stored) - 50):
        path.write_bytes(stored[:length])
        with pytest.raises(DataError):
            StillImage(path).read_frame(0)


def test_a_png_with_a_wrong_checksum_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", GREY8)
    stored = bytearray(path.read_bytes())
    stored[stored.index(b"IDAT") + 20] ^= 0xFF
    path.write_bytes(bytes(stored))
    with pytest.raises(DataError, match=r"damaged|decoded"):
        StillImage(path).read_frame(0)


def test_an_image_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", GREY8)
    stored = bytearray(path.read_bytes())
    stored[16:24] = struct.pack(">II", 60_000, 60_000)  # width and height in IHDR
    stored[29:33] = struct.pack(">I", zlib.crc32(stored[12:29]))
    path.write_bytes(bytes(stored))
    with pytest.raises(DataError):
        StillImage(path)


@pytest.mark.parametrize("index", [-1, 1])
def test_a_frame_that_does_not_exist_is_refused(index: int, tmp_path: Path) -> None:
    source = StillImage(write(tmp_path / "a.png", GREY8))
    with pytest.raises(DataError, match=r"^has 1 frame\(s\)"):
        source.read_frame(index)
