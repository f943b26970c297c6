import math

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from models.tips import compare_tips, distal_tip, end_points, order_wire

NOTHING = np.zeros((64, 64), bool)


def wire(tip: int, row: int = 30) -> np.ndarray:
    """Draw a wire that enters on the left and ends in column `tip`."""
    mask = NOTHING.copy()
    mask[row, : tip + 1] = True
    return mask


def hook() -> np.ndarray:
    """Draw a wire whose tip has turned back to near where it entered."""
    mask = NOTHING.copy()
    mask[20, :50] = True
    mask[20:41, 49] = True
    mask[40, 10:50] = True
    return mask


def test_the_tip_is_the_end_farthest_along_the_wire_from_where_it_enters() -> None:
    assert distal_tip(wire(45)) == (30, 45)
    # Column 10 is nearer to the entry than the bend is, but not along the wire.
    assert distal_tip(hook()) == (40, 10)


def test_a_wide_wire_has_one_tip_about_its_radius_before_its_end() -> None:
    wide = binary_dilation(hook(), np.ones((5, 5)))
    assert len(end_points(wide)) == 2
    assert distal_tip(wide) == pytest.approx((40, 10), abs=2)


def test_pixels_are_ordered_by_their_length_along_the_wire() -> None:
    line = order_wire(hook())
    assert line.pixels[0].tolist() == [20, 0]
    assert line.pixels[-1].tolist() == [40, 10]
    assert line.arc_length_px[0] == 0
    assert (np.diff(line.arc_length_px) > 0).all()
    # Thinning cuts both corners: one diagonal step for two straight ones.
    expected = 49 + 20 + 39 - 2 * (2 - 2**0.5)
    assert line.arc_length_px[-1] == pytest.approx(expected)


def test_a_tip_error_is_the_distance_in_px_and_in_mm() -> None:
    predicted, label = wire(42, row=34), wire(45)
    found = compare_tips(predicted, label, spacing_mm=(0.5, 1.0))
    assert found.outcome == "found"
    assert found.error_px == 5  # 3 columns and 4 rows
    assert found.error_mm == pytest.approx(math.hypot(4 * 0.5, 3))
    assert [found.within(at) for at in (3, 5, 9)] == [0, 1, 1]
    assert math.isnan(compare_tips(predicted, label).error_mm)


def test_the_predicted_tip_is_the_end_nearest_to_the_annotated_one() -> None:
    predicted = wire(20) | wire(60, row=50)
    assert compare_tips(predicted, wire(45), tip=(30, 23)).error_px == 3
    assert compare_tips(predicted, wire(45), tip=(50, 60)).error_px == 0


def test_no_prediction_and_a_blob_without_ends_are_misses() -> None:
    blob = NOTHING.copy()
    blob[30, 44] = True
    for predicted in (NOTHING, blob):
        found = compare_tips(predicted, wire(45))
        assert found.outcome == "missed"
        assert math.isnan(found.error_px)
        assert (found.missed(), found.within(9)) == (1, 0)


def test_an_empty_label_is_not_counted_and_a_device_on_it_is_a_false_alarm() -> None:
    assert compare_tips(NOTHING, NOTHING).outcome == "not-counted"
    alarm = compare_tips(wire(45), NOTHING)
    assert alarm.outcome == "false-alarm"
    assert math.isnan(alarm.missed())
    assert math.isnan(alarm.within(9))


def test_a_wire_that_crosses_the_image_and_a_ring_have_no_tip() -> None:
    through = wire(63)
    ring = NOTHING.copy()
    ring[20:41, 20:41] = True
    ring[21:40, 21:40] = False
    for label in (through, binary_dilation(through, np.ones((5, 5))), ring):
        assert distal_tip(label) is None
        assert compare_tips(wire(45), label).outcome == "not-counted"


def test_an_impossible_spacing_is_refused() -> None:
    with pytest.raises(ValueError, match="spacing_mm must be"):
        compare_tips(wire(45), wire(45), spacing_mm=0)
