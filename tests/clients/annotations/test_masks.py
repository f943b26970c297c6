"""Mask images and arrays become layers; what is no mask becomes one sentence."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from clients.annotations.annotation import LabelMap
from clients.annotations.masks import MaskFiles
from clients.data.errors import DataError

WriteImage = Callable[[Path, NDArray], None]

CODES = np.array([[0, 1, 2], [3, 0, 1]], np.uint8)
CATHETER = [[0, 1, 0], [1, 0, 1]]
GUIDEWIRE = [[0, 0, 1], [1, 0, 0]]
BOTH = LabelMap()
ONE = LabelMap(classes=("guidewire",))
TURNED = LabelMap(classes=("guidewire", "catheter"))


def read(
    path: Path, labels: LabelMap, index: int | None = None, size: tuple = (2, 3)
) -> dict[str, list]:
    layers = MaskFiles({"": path}, labels, index).layers(*size, None)
    assert all(layer.dtype == np.uint8 for layer in layers.values())
    return {name: layer.tolist() for name, layer in layers.items()}


@pytest.fixture
def save(tmp_path: Path) -> Callable[[NDArray], Path]:
    """Return a writer of NPY files."""

    def write(array: NDArray) -> Path:
        np.save(tmp_path / "SECRET.npy", array)
        return tmp_path / "SECRET.npy"

    return write


@pytest.fixture
def store(tmp_path: Path, write_image: WriteImage) -> Callable[..., Path]:
    """Return a writer of mask images."""

    def write(pixels: NDArray, suffix: str = ".png") -> Path:
        write_image(tmp_path / f"SECRET{suffix}", pixels)
        return tmp_path / f"SECRET{suffix}"

    return write


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("value, dtype", [(1, "u1"), (255, "u1"), (65535, "u2")])
def test_whatever_is_not_0_is_the_one_declared_class(
    store: Callable, suffix: str, value: int, dtype: str
) -> None:
    path = store((np.array(GUIDEWIRE) * value).astype(dtype), suffix)

    assert read(path, ONE) == {"guidewire": GUIDEWIRE}


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_bit_k_of_an_image_marks_the_kth_declared_class(
    store: Callable, suffix: str
) -> None:
    path = store(CODES, suffix)

    assert read(path, BOTH) == {"catheter": CATHETER, "guidewire": GUIDEWIRE}
    assert read(path, TURNED) == {"guidewire": CATHETER, "catheter": GUIDEWIRE}


@pytest.mark.parametrize("dtype", ["u1", "i8", ">i4", "f4"])
def test_the_numbers_of_an_array_always_mean_the_same(
    save: Callable, dtype: str
) -> None:
    path = save(CODES.astype(dtype))

    assert read(path, BOTH) == {"catheter": CATHETER, "guidewire": GUIDEWIRE}
    assert read(path, TURNED) == {"guidewire": GUIDEWIRE, "catheter": CATHETER}
    assert read(path, ONE) == {"guidewire": GUIDEWIRE}


def test_an_array_of_bool_shows_the_one_declared_class(save: Callable) -> None:
    path = save(np.array(GUIDEWIRE, np.bool_))

    assert read(path, ONE) == {"guidewire": GUIDEWIRE}
    with pytest.raises(DataError, match="2 classes are declared"):
        read(path, BOTH)


def test_an_empty_mask_is_all_zeros(save: Callable, store: Callable) -> None:
    zeros = np.zeros((2, 3), np.uint8)
    expected = {"catheter": zeros.tolist(), "guidewire": zeros.tolist()}

    assert read(save(zeros), BOTH) == expected
    assert read(store(zeros), BOTH) == expected


def test_a_file_for_each_class_may_be_of_any_kind(
    tmp_path: Path, store: Callable, save: Callable
) -> None:
    paths = {
        "guidewire": store(np.array(GUIDEWIRE, np.uint8) * 200),
        "catheter": save(np.array(CATHETER) * 7.0),
    }

    layers = MaskFiles(paths, BOTH, None).layers(2, 3, None)

    assert layers["catheter"].tolist() == CATHETER
    assert layers["guidewire"].tolist() == GUIDEWIRE


def test_files_of_other_classes_are_left_unread(tmp_path: Path, save: Callable) -> None:
    paths = {
        "guidewire": save(np.array(GUIDEWIRE)),
        "catheter": tmp_path / "missing.png",
    }

    layers = MaskFiles(paths, ONE, None).layers(2, 3, None)

    assert list(layers) == ["guidewire"]


def test_a_missing_file_of_a_declared_class_is_not_called_empty(save: Callable) -> None:
    paths = {"guidewire": save(np.array(GUIDEWIRE))}

    with pytest.raises(DataError, match="1 of 2 declared classes have no mask file"):
        MaskFiles(paths, BOTH, None).layers(2, 3, None)


def test_equal_channels_are_grey(store: Callable) -> None:
    grey = np.array(GUIDEWIRE, np.uint8)[..., None] * 255
    opaque = np.full_like(grey, 255)

    assert read(store(grey.repeat(3, axis=2)), ONE) == {"guidewire": GUIDEWIRE}
    assert read(store(np.dstack([grey] * 3 + [opaque])), ONE) == {
        "guidewire": GUIDEWIRE
    }


@pytest.mark.parametrize("channel, suffix", [(0, ".png"), (2, ".tiff"), (3, ".png")])
def test_colours_and_transparency_are_refused(
    store: Callable, channel: int, suffix: str
) -> None:
    pixels = np.full((2, 3, 4 if channel == 3 else 3), 255, np.uint8)
    pixels[0, 0, channel] = 0

    with pytest.raises(DataError, match="different channels, needs a single one"):
        read(store(pixels, suffix), ONE)


def test_frames_of_one_array_are_found_by_their_number(save: Callable) -> None:
    path = save(np.stack([CODES, 0 * CODES, CODES[:, ::-1]]))

    assert read(path, ONE, index=0) == {"guidewire": GUIDEWIRE}
    assert read(path, ONE, index=1) == {"guidewire": [[0] * 3] * 2}
    assert read(path, ONE, index=2) == {"guidewire": [row[::-1] for row in GUIDEWIRE]}


def test_frames_of_one_tiff_are_found_by_their_number(tmp_path: Path) -> None:
    path = tmp_path / "masks.tif"
    pages = [CODES, 0 * CODES, CODES[:, ::-1].copy()]
    path.write_bytes(cv2.imencodemulti(".tiff", pages)[1].tobytes())

    assert read(path, BOTH, index=0)["guidewire"] == GUIDEWIRE
    assert read(path, BOTH, index=2)["guidewire"] == [row[::-1] for row in GUIDEWIRE]
    with pytest.raises(DataError, match="too few frames"):
        read(path, BOTH, index=3)
    with pytest.raises(DataError, match="several frames, but its image only one"):
        read(path, BOTH)


@pytest.mark.parametrize("shape", [(1, 2, 3), (2, 3, 1)])
def test_an_array_may_have_one_axis_more(save: Callable, shape: tuple) -> None:
    assert read(save(CODES.reshape(shape)), ONE) == {"guidewire": GUIDEWIRE}


@pytest.mark.parametrize(
    "shape, index, message",
    [
        ((4, 2, 3), None, "4 frames, but its image only one"),
        ((4, 2, 3), 4, "4 frame(s), but its sequence more"),
        ((2, 3), 1, "1 frame(s), but its sequence more"),
        ((0, 2, 3), None, "0 frames"),
        ((6,), None, "1 axes"),
        ((), None, "0 axes"),
        ((1, 1, 2, 3), None, "4 axes"),
    ],
)
def test_an_array_of_other_frames_is_refused(
    save: Callable, shape: tuple, index: int | None, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        read(save(np.zeros(shape)), ONE, index)

    assert message in str(caught.value)


@pytest.mark.parametrize("size", [(3, 2), (2, 4), (4, 6)])
def test_a_mask_of_another_size_is_never_scaled(
    save: Callable, store: Callable, size: tuple
) -> None:
    expected = f"the mask has 3x2 px, its frame {size[1]}x{size[0]} px"
    for path in (save(CODES), store(CODES)):
        with pytest.raises(DataError, match=expected):
            read(path, BOTH, size=size)


@pytest.mark.parametrize("value", [4, 255, -1, 2**40])
def test_unknown_classes_are_counted_and_not_quoted(save: Callable, value: int) -> None:
    array = CODES.astype(np.int64)
    array[0, 0], array[0, 1] = value, 77

    for labels in (BOTH, ONE):
        with pytest.raises(DataError, match=r"2 unexpected value\(s\)") as caught:
            read(save(array), labels)

    text = str(caught.value)
    assert "77" not in text and str(value) not in text
    assert "1 = catheter, 2 = guidewire" in text


def test_a_black_and_white_image_needs_one_declared_class(store: Callable) -> None:
    with pytest.raises(DataError, match="declare just that one in `classes`"):
        read(store(np.array(GUIDEWIRE, np.uint8) * 255), BOTH)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", [".npy", ".tiff"])
def test_nan_is_no_class(
    save: Callable, store: Callable, value: float, suffix: str
) -> None:
    array = CODES.astype(np.float32)
    array[0, 0] = value
    path = save(array) if suffix == ".npy" else store(array, suffix)

    for labels in (BOTH, ONE):
        with pytest.raises(DataError, match="NaN or infinity"):
            read(path, labels)


def test_probabilities_are_no_classes(save: Callable) -> None:
    for labels in (BOTH, ONE):
        with pytest.raises(DataError, match="must be cut at a threshold"):
            read(save(CODES / 2), labels)


class Dangerous:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple:
        """Write a word to the terminal."""
        return (print, ("SECRET was run",))


ARRAYS = {
    "objects": np.array([[Dangerous()] * 3] * 2, dtype=object),
    "text": np.full((2, 3), "SECRET"),
    "complex numbers": CODES * 1j,
    "dates": np.zeros((2, 3), "M8[s]"),
    "records": np.zeros((2, 3), [("SECRET", "u1")]),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS.keys())
def test_arrays_of_other_things_are_refused_and_never_run(
    save: Callable, array: NDArray, capfd: pytest.CaptureFixture
) -> None:
    with pytest.raises(DataError, match="numbers") as caught:
        read(save(array), ONE)

    assert "SECRET" not in str(caught.value)
    assert tuple(capfd.readouterr()) == ("", "")


def encode(suffix: str, pixels: NDArray) -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


def as_npy(array: NDArray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


NOISE = np.random.default_rng(0).integers(0, 2, (40, 50)).astype(np.uint8)
HEADER = as_npy(NOISE)[:128]
DAMAGED = {
    "nothing": b"",
    "text": b"SECRET",
    "a JPEG": encode(".jpg", NOISE),
    "a BMP": encode(".bmp", NOISE),
    "half a PNG": encode(".png", NOISE)[:200],
    "a PNG with wrong bytes": encode(".png", NOISE)[:60] + bytes(500),
    "only the name of PNG": encode(".png", NOISE)[:8],
    "half a TIFF": encode(".tiff", NOISE)[:300],
    "only the name of TIFF": b"II*\0",
    "half an NPY": as_npy(NOISE)[:1000],
    "only the name of NPY": b"\x93NUMPY",
    "an NPY of the future": b"\x93NUMPY\x09\x00" + HEADER[8:],
    "an NPY with a broken header": HEADER.replace(b"'shape'", b"'SECRET"),
    "an NPY of giant size": HEADER.replace(b"(40, 50), }     ", b"(40, 5000000), }"),
    "an NPY without an end": HEADER.replace(b"}", b" "),
    "an NPY with code": HEADER.replace(b"(40, 50)", b"print(1)"),
    "an NPY of negative size": HEADER.replace(b"(40, 50)", b"(-4, 50)") + bytes(2000),
    "an NPY of unknown type": HEADER.replace(b"|u1", b"|Q9"),
}


@pytest.mark.parametrize("stored", DAMAGED.values(), ids=DAMAGED.keys())
@pytest.mark.parametrize("index", [None, 0])
def test_a_damaged_file_is_one_sentence_that_quotes_nothing(
    tmp_path: Path, stored: bytes, index: int | None, capfd: pytest.CaptureFixture
) -> None:
    path = tmp_path / "SECRET.png"
    path.write_bytes(stored)

    with pytest.raises(DataError) as caught:
        read(path, ONE, index, size=(40, 50))

    assert "SECRET" not in str(caught.value) and str(tmp_path) not in str(caught.value)
    assert caught.value.__cause__ is None
    printed = "".join(capfd.readouterr()).replace("libpng error: IDAT: CRC error\n", "")
    assert not printed


def test_the_remarks_in_a_png_are_never_shown(
    store: Callable, capfd: pytest.CaptureFixture
) -> None:
    # A damaged colour profile, whose name libpng would print.
    profile = struct.pack(">I", 300) + np.random.default_rng(0).bytes(296)
    content = b"iCCPSECRET\0\0" + zlib.compress(profile)
    length, check = len(content) - 4, zlib.crc32(content)
    chunk = struct.pack(">I", length) + content + struct.pack(">I", check)
    path = store(np.array(GUIDEWIRE, np.uint8))
    stored = path.read_bytes()
    path.write_bytes(stored[:33] + chunk + stored[33:])

    assert read(path, ONE) == {"guidewire": GUIDEWIRE}
    assert tuple(capfd.readouterr()) == ("", "")


@pytest.mark.parametrize("name", ["missing.png", "."])
def test_what_cannot_be_opened_says_so_without_its_path(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(DataError, match="cannot be opened") as caught:
        read(tmp_path / name, ONE)

    assert str(tmp_path) not in str(caught.value)


def test_what_is_shown_of_an_annotation_holds_no_path(tmp_path: Path) -> None:
    shown = repr(MaskFiles({"": tmp_path / "DOE.png"}, BOTH, 3))

    assert "DOE" not in shown and str(tmp_path) not in shown


def test_masks_of_the_real_phantom_are_read_as_they_are(phantom_xa: Path) -> None:
    paths = sorted((phantom_xa / "masks").glob("*.png"))[::10]
    assert paths
    for path in paths:
        expected = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE)

        found = read(path, ONE, size=expected.shape)["guidewire"]

        np.testing.assert_array_equal(found, expected == 255)
