import numpy as np
import pytest
from skimage.measure import euler_number

from models.topology import betti_errors, betti_numbers

NOTHING = np.zeros((16, 16), bool)


def ring() -> np.ndarray:
    mask = NOTHING.copy()
    mask[3:10, 3:10] = True
    mask[4:9, 4:9] = False
    return mask


def wire(*gap: int) -> np.ndarray:
    mask = NOTHING.copy()
    mask[8, 1:15] = True
    mask[8, list(gap)] = False
    return mask


def test_a_diagonal_line_is_one_piece_without_a_hole() -> None:
    assert betti_numbers(np.eye(16, dtype=bool)) == (1, 0)


def test_a_ring_has_one_hole_also_when_it_is_closed_by_corners_only() -> None:
    assert betti_numbers(ring()) == (1, 1)
    diamond = NOTHING.copy()
    diamond[[4, 5, 6, 5], [5, 6, 5, 4]] = True
    assert betti_numbers(diamond) == (1, 1)


def test_a_ring_cut_open_by_the_edge_of_the_image_has_no_hole() -> None:
    assert betti_numbers(ring()[5:]) == (1, 0)


def test_a_broken_wire_is_a_piece_too_many_and_an_opened_ring_lacks_a_hole() -> None:
    assert betti_errors(wire(7, 8), wire()) == (1, 0)
    opened = ring()
    opened[3, 5] = False
    assert betti_errors(opened, ring()) == (0, 1)


def test_empty_masks_have_nothing_and_cost_what_the_other_mask_has() -> None:
    assert betti_errors(NOTHING, NOTHING) == (0, 0)
    assert betti_errors(NOTHING, ring()) == (1, 1)
    assert betti_errors(ring(), NOTHING) == (1, 1)
    assert betti_numbers(np.ones((16, 16), bool)) == (1, 0)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.7])
def test_pieces_less_holes_are_the_euler_number_of_scikit_image(share: float) -> None:
    mask = np.random.default_rng(0).random((50, 60)) < share
    found = betti_numbers(mask)
    assert found.components - found.holes == euler_number(mask, connectivity=2)
    assert found.components + found.holes > 10
