import numpy as np
import pytest

from models.breaks import count_breaks

NOTHING = np.zeros((60, 80), bool)


def wire(*, gaps: tuple[slice, ...] = (), row: int = 20) -> np.ndarray:
    mask = NOTHING.copy()
    mask[row, 5:75] = True
    for gap in gaps:
        mask[row, gap] = False
    return mask


def ring() -> np.ndarray:
    rows, columns = np.indices(NOTHING.shape)
    radius = np.hypot(rows - 30, columns - 40)
    return (radius > 18) & (radius < 22)


def test_a_gap_wider_than_twice_the_tolerance_is_one_break() -> None:
    # 10 pixels are missing; two at each side of the gap are within 2 px.
    found = count_breaks(wire(gaps=(slice(30, 40),)), wire())
    assert found == (1, 6, 0, 70)


def test_a_gap_of_twice_the_tolerance_is_closed_by_it() -> None:
    found = count_breaks(wire(gaps=(slice(30, 34),)), wire())
    assert found == (0, 0, 0, 70)
    assert count_breaks(wire(gaps=(slice(30, 34),)), wire(), tolerance_px=1).breaks == 1


def test_a_wire_cut_at_its_end_is_truncated_and_not_broken() -> None:
    found = count_breaks(wire(gaps=(slice(60, 80),)), wire())
    assert (found.breaks, found.broken_px, found.truncated_px) == (0, 0, 13)
    assert found.truncation == 13 / 70


def test_two_gaps_and_a_missing_end_are_counted_apart() -> None:
    gaps = (slice(20, 30), slice(40, 50), slice(65, 80))
    found = count_breaks(wire(gaps=gaps), wire())
    assert (found.breaks, found.truncated_px) == (2, 8)


def test_a_wire_missed_as_a_whole_is_truncation_also_beside_one_that_is_found() -> None:
    both = wire(row=10) | wire(row=50)
    assert count_breaks(wire(row=10), both) == (0, 0, 70, 140)


def test_a_ring_with_one_gap_has_one_break_and_a_missed_ring_none() -> None:
    opened = ring()
    opened[:20, 35:45] = False
    assert count_breaks(opened, ring()).breaks == 1
    assert count_breaks(opened, ring()).truncated_px == 0
    assert count_breaks(NOTHING, ring()).breaks == 0
    assert count_breaks(NOTHING, ring()).truncation == 1


def test_a_wire_shifted_by_one_pixel_is_whole() -> None:
    found = count_breaks(wire(row=21), wire())
    assert (found.breaks, found.truncated_px) == (0, 0)


def test_empty_masks_follow_the_conventions() -> None:
    assert count_breaks(NOTHING, NOTHING) == (0, 0, 0, 0)
    assert count_breaks(wire(), NOTHING) == (0, 0, 0, 0)
    assert count_breaks(wire(), NOTHING).truncation == 0
    assert count_breaks(NOTHING, wire()) == (0, 0, 70, 70)


def test_a_negative_tolerance_is_refused() -> None:
    with pytest.raises(ValueError, match="must be >= 0, got -1"):
        count_breaks(wire(), wire(), tolerance_px=-1)
