from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models import overlap
from models.overlap import Mask, cldice, dice, skeleton


def bar(row: int, first: int = 0, last: int = 15) -> Mask:
    mask = np.zeros((16, 16), dtype=bool)
    mask[row, first : last + 1] = True
    return mask


NOTHING = np.zeros((16, 16), dtype=bool)


def test_dice_is_twice_the_overlap_over_both_areas() -> None:
    # 10 and 6 pixels, 4 in common.
    assert dice(bar(3, 0, 9), bar(3, 6, 11)) == 2 * 4 / 16


def test_cldice_is_the_harmonic_mean_of_both_skeleton_shares() -> None:
    # One-pixel wires are their own skeletons: precision 4/10, sensitivity 4/6.
    expected = 2 * (4 / 10) * (4 / 6) / (4 / 10 + 4 / 6)
    assert cldice(bar(3, 0, 9), bar(3, 6, 11)) == pytest.approx(expected)


def test_a_wide_wire_over_a_thin_one_has_the_better_cldice() -> None:
    wide = bar(7) | bar(8) | bar(9)
    assert dice(wide, bar(8)) == 2 * 16 / 64
    assert cldice(wide, bar(8)) > 0.9


@pytest.mark.parametrize("score", [dice, cldice])
def test_two_empty_masks_agree_and_one_empty_mask_does_not(
    score: Callable[[Mask, Mask], float],
) -> None:
    assert score(NOTHING, NOTHING) == 1
    assert score(NOTHING, bar(3)) == 0
    assert score(bar(3), NOTHING) == 0


def test_wires_that_never_touch_score_zero() -> None:
    assert dice(bar(3), bar(9)) == 0
    assert cldice(bar(3), bar(9)) == 0


def test_a_blob_that_thinning_removes_keeps_its_centre_pixel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overlap, "skeletonize", np.zeros_like)
    blob = np.zeros((16, 16), dtype=bool)
    blob[4:7, 8:11] = True
    assert np.argwhere(skeleton(blob)).tolist() == [[5, 9]]
    assert cldice(blob, blob) == 1


@settings(max_examples=50, deadline=None)
@given(arrays(bool, (7, 7), elements=st.booleans()))
def test_a_skeleton_lies_in_its_mask_and_is_empty_only_with_it(mask: Mask) -> None:
    lines = skeleton(mask)
    assert not (lines & ~mask).any()
    assert lines.any() == mask.any()
    assert cldice(mask, mask) == 1
