"""NumPy arrays come out as grey frames, and objects are never unpickled."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clients.data.errors import DataError
from clients.images.stills import ArrayFile

GREY8 = (np.arange(30 * 40).reshape(30, 40) % 251).astype(np.uint8)
GREY16 = (np.arange(30 * 40).reshape(30, 40) * 50 + 3).astype(np.uint16)
COLOUR = np.dstack([GREY8, GREY8[::-1], GREY8[:, ::-1]])  # red, green, blue
LUMINANCE = COLOUR.astype(float) @ [0.299, 0.587, 0.114]  # ITU-R BT.601


def save(path: Path, array: NDArray) -> Path:
    np.save(path, array)
    return path


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.uint16, ">u2", np.int64, np.float16, np.float64]
)
def test_arrays_of_numbers_are_frames(dtype: object, tmp_path: Path) -> None:
    array = np.arange(60).reshape(3, 4, 5).astype(dtype)
    source = ArrayFile(save(tmp_path / "a.npy", array))
    assert (source.facts.num_frames, source.facts.height, source.facts.width) == (
        3,
        4,
        5,
    )
    assert source.facts.bits == 8 * array.itemsize
    for index in (2, 0):
        found = source.read_frame(index)
        assert found.dtype.isnative and type(found) is np.ndarray
        assert np.array_equal(found, array[index])


@pytest.mark.parametrize(
    ("shape", "count"),
    [((4, 5), 1), ((4, 5, 1), 1), ((2, 4, 5), 2), ((2, 4, 5, 1), 2), ((1, 4, 5), 1)],
)
def test_an_array_has_two_or_three_axes_and_may_have_an_empty_last_one(
    shape: tuple[int, ...], count: int, tmp_path: Path
) -> None:
    array = np.arange(np.prod(shape)).reshape(shape)
    source = ArrayFile(save(tmp_path / "a.npy", array))
    assert source.facts.num_frames == count
    expected = array.reshape(count, 4, 5)[count - 1]
    assert np.array_equal(source.read_frame(count - 1), expected)


@pytest.mark.parametrize("num_channels", [3, 4])
@pytest.mark.parametrize("several", [False, True])
def test_an_array_with_a_last_axis_of_colours_becomes_grey(
    num_channels: int, several: bool, tmp_path: Path
) -> None:
    array = np.dstack([COLOUR, GREY8])[..., :num_channels]
    source = ArrayFile(save(tmp_path / "a.npy", array[None] if several else array))
    assert source.facts.num_frames == 1
    assert source.read_frame(0) == pytest.approx(LUMINANCE, rel=1e-5)


def test_fortran_order_changes_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", np.asfortranarray(GREY16))
    assert np.array_equal(ArrayFile(path).read_frame(0), GREY16)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_only_the_frame_with_a_value_that_is_not_finite_is_an_error(
    bad: float, tmp_path: Path
) -> None:
    array = np.ones((2, 4, 5), np.float32)
    array[1, 2, 3] = bad
    source = ArrayFile(save(tmp_path / "a.npy", array))
    assert np.array_equal(source.read_frame(0), array[0])
    with pytest.raises(DataError, match="not finite"):
        source.read_frame(1)


class Boom:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_python_objects_are_refused_and_never_unpickled(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    np.save(tmp_path / "a.npy", np.array([[Boom(trace)]], object), allow_pickle=True)
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Boom(trace)))
    for name in ("a.npy", "b.npy"):
        with pytest.raises(DataError, match="not as Python objects"):
            ArrayFile(tmp_path / name)
    assert not trace.exists()


@pytest.mark.parametrize(
    "array",
    [
        np.ones((4, 5), np.complex64),
        np.ones((4, 5), bool),
        np.ones((4, 5), "datetime64[s]"),
        np.ones((4, 5), [("a", "u1"), ("b", "u1")]),
        np.full((4, 5), "text"),
    ],
)
def test_what_is_no_real_number_is_refused(array: NDArray, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no integers or real numbers"):
        ArrayFile(save(tmp_path / "a.npy", array))


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4, 5), (1, 2, 3, 4, 3), ()])
def test_another_number_of_axes_is_refused(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="axes"):
        ArrayFile(save(tmp_path / "a.npy", np.ones(shape)))


@pytest.mark.parametrize("shape", [(0, 5), (0, 4, 5), (4, 0)])
def test_an_array_without_pixels_is_refused(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    with pytest.raises(DataError):
        ArrayFile(save(tmp_path / "a.npy", np.ones(shape)))


def test_an_array_cut_off_or_zipped_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", GREY16)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="cannot be read as an array"):
        ArrayFile(path)
    packed = io.BytesIO()
    np.savez(packed, GREY16)
    path.write_bytes(packed.getvalue())
    with pytest.raises(DataError, match="archive of arrays"):
        ArrayFile(path)


@pytest.mark.parametrize("index", [-1, 2])
def test_a_frame_that_does_not_exist_is_refused(index: int, tmp_path: Path) -> None:
    source = ArrayFile(save(tmp_path / "a.npy", np.stack([GREY8, GREY8])))
    with pytest.raises(DataError, match=r"^has 2 frame\(s\)"):
        source.read_frame(index)
