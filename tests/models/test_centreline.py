import numpy as np
import pytest

from models.centreline import centreline_scores, tolerance_scores


def line(row: int, start: int, end: int, width: int = 1) -> np.ndarray:
    mask = np.zeros((40, 40), bool)
    mask[row - width // 2 : row - width // 2 + width, start:end] = True
    return mask


def test_a_wire_shifted_by_two_pixels_is_found_from_a_tolerance_of_two() -> None:
    label, predicted = line(20, 5, 35), line(22, 5, 35)
    assert centreline_scores(predicted, label, tolerance_px=1) == (0, 0, 0)
    assert centreline_scores(predicted, label, tolerance_px=2) == (1, 1, 1)


def test_a_label_drawn_too_wide_does_not_matter() -> None:
    # Thinning shortens a wide line at both ends by about half its width.
    scores = centreline_scores(line(20, 5, 35), line(20, 5, 35, 9), tolerance_px=1)
    assert scores.recall == 1
    assert scores.precision == pytest.approx(24 / 30, abs=2 / 30)


def test_half_a_wire_and_as_much_beside_it_count_half() -> None:
    label = line(10, 0, 20)
    predicted = line(10, 0, 10) | line(30, 0, 10)
    scores = centreline_scores(predicted, label, tolerance_px=0)
    assert scores.precision == 0.5
    assert scores.recall == 0.5
    assert scores.f1 == 0.5


def test_on_masks_every_pixel_counts_and_not_the_centre_lines_alone() -> None:
    # 3 rows of 30 pixels against their middle one: the outer two are 1 px away.
    wide, thin = line(20, 5, 35, 3), line(20, 5, 35)
    near, one = tolerance_scores(wide, thin, [0, 1], on="mask")
    assert near == (1 / 3, 1, 0.5)
    assert one == (1, 1, 1)
    assert tolerance_scores(wide, thin, [0, 1]) == [near, one]
    with pytest.raises(ValueError, match="got 'line'"):
        tolerance_scores(wide, thin, [0], on="line")  # type: ignore[arg-type]


def test_empty_masks_agree_and_one_empty_mask_does_not() -> None:
    empty, full = np.zeros((40, 40), bool), line(20, 5, 35)
    assert centreline_scores(empty, empty, tolerance_px=3) == (1, 1, 1)
    assert centreline_scores(full, empty, tolerance_px=3) == (0, 0, 0)
    assert centreline_scores(empty, full, tolerance_px=3) == (0, 0, 0)


def test_masks_of_two_shapes_and_a_negative_tolerance_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \(40, 40\) and \(4, 4\)"):
        centreline_scores(line(5, 0, 9), np.ones((4, 4), bool), tolerance_px=1)
    with pytest.raises(ValueError, match="must be >= 0, got -1"):
        centreline_scores(line(5, 0, 9), line(5, 0, 9), tolerance_px=-1)
