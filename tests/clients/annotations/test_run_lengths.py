"""Encoded masks come out as they went in; hostile ones never reach the decoder."""

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from clients.annotations.run_lengths import (
    RunLengths,
    encode_mask,
    from_code,
    from_counts,
    from_rows,
)
from clients.data.errors import DataError

EXPECTED = np.array([[0, 1, 0], [0, 1, 1]], np.uint8)


def decode(runs: RunLengths, height: int, width: int) -> NDArray[np.uint8]:
    canvas = np.zeros((height, width), np.uint8)
    runs.draw_on(canvas)
    return canvas


def count_runs(flat: NDArray[np.bool_]) -> list[int]:
    changes = np.flatnonzero(np.diff(np.concatenate([[0], flat.astype(int)])))
    return np.diff([0, *changes, flat.size]).tolist()


def test_counts_go_column_by_column() -> None:
    runs = from_counts([2, 2, 1, 1], 2, 3)

    np.testing.assert_array_equal(decode(runs, 2, 3), EXPECTED)


def test_rows_go_row_by_row_within_their_box() -> None:
    runs = from_rows([1, 1, 2, 2], 2, 3, top=1, left=2)

    canvas = decode(runs, 4, 6)
    np.testing.assert_array_equal(canvas[1:3, 2:5], EXPECTED)
    assert canvas.sum() == EXPECTED.sum()


def test_a_code_is_read_by_hand() -> None:
    # 2, 2, 1, and 1 less the second (2) = -1, five bits 11111 -> "O".
    runs = from_code("221O", 2, 3)

    np.testing.assert_array_equal(decode(runs, 2, 3), EXPECTED)


@pytest.mark.parametrize("seed", range(10))
def test_every_mask_survives_all_encodings(seed: int) -> None:
    generator = np.random.default_rng(seed)
    height, width = generator.integers(1, 200, 2)
    mask = generator.random((height, width)) < generator.random() ** 4
    code = coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()

    ways = [
        from_code(code, height, width),
        encode_mask(mask, top=0, left=0),
        from_counts(count_runs(mask.ravel("F")), int(height), int(width)),
        from_rows(count_runs(mask.ravel("C")), int(height), int(width), top=0, left=0),
    ]

    for runs in ways:
        np.testing.assert_array_equal(decode(runs, height, width), mask)


def test_an_empty_and_a_full_mask_are_masks() -> None:
    assert not decode(from_counts([6], 2, 3), 2, 3).any()
    assert decode(from_counts([0, 6], 2, 3), 2, 3).all()


def test_drawing_keeps_what_is_there() -> None:
    canvas = np.eye(3, dtype=np.uint8)

    from_counts([8, 1], 3, 3).draw_on(canvas)
    from_counts([0, 1, 8], 3, 3).draw_on(canvas)

    np.testing.assert_array_equal(canvas, np.eye(3))


@pytest.mark.parametrize("top, left", [(-1, 0), (0, -1), (2, 0), (0, 2)])
def test_a_mask_beyond_its_frame_is_refused(top: int, left: int) -> None:
    runs = encode_mask(np.ones((2, 2), np.bool_), top=top, left=left)

    with pytest.raises(DataError, match="beyond its frame"):
        decode(runs, 3, 3)


@pytest.mark.parametrize(
    "counts",
    [
        [],
        [5],
        [7],
        [2, 2, 3],
        [2, -2, 6],
        [2.0, 2, 2],
        [True, 5],
        ["6"],
        [None],
        [[6]],
        [2**64, 6],
        [2**32, 6],
    ],
)
def test_counts_that_do_not_sum_to_the_size_are_refused(counts: list) -> None:
    for build in (from_counts, lambda *a: from_rows(*a, top=0, left=0)):
        with pytest.raises(DataError, match="must be whole numbers that sum"):
            build(counts, 2, 3)


@pytest.mark.parametrize(
    "code",
    [
        "",
        "2",  # too short
        "227",  # too long
        "22NO",  # a negative length
        "221o",  # the last number has no end
        "2 21",
        "22é",
        "22\0",
        "oooooooooo0",  # a number of more than 32 bits
        "0" * 3,
    ],
)
def test_a_damaged_code_is_refused(code: str) -> None:
    with pytest.raises(DataError, match="run lengths of an annotated mask"):
        from_code(code, 2, 3)


def test_a_code_never_crashes_the_decoder_whatever_it_says() -> None:
    generator = np.random.default_rng(0)
    mask = generator.random((40, 40)) < 0.2
    good = bytearray(coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"])
    num_refused = 0
    for _ in range(300):
        code = bytearray(good)
        code[generator.integers(len(code))] = generator.integers(40, 115)
        try:
            decode(from_code(code.decode(), 40, 40), 40, 40)
        except DataError:
            num_refused += 1

    assert num_refused > 200


def test_an_encoded_mask_shows_no_pixels() -> None:
    assert "code" not in repr(from_counts([2, 2, 1, 1], 2, 3))
