import math

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from models.breaks import count_breaks
from models.distances import average_hausdorff, boundary_distances
from models.image_metrics import METRICS, measure_image
from models.overlap import cldice
from models.tips import compare_tips
from models.topology import betti_errors

NOTHING = np.zeros((48, 64), bool)
DISTANCES = [
    f"{name}-{unit}" for name in ("hd95", "assd", "ahd") for unit in ("px", "mm")
]


def wire(row: int = 20, gap: slice = slice(0)) -> np.ndarray:
    mask = NOTHING.copy()
    mask[row, :50] = True
    mask[row, gap] = False
    return binary_dilation(mask, np.ones((3, 1)))


def test_a_prediction_equal_to_its_label_is_perfect() -> None:
    values = measure_image(wire(), wire(), spacing_mm=0.2).values
    assert values.keys() == set(METRICS)
    worst = {name for name in values if "error" in name or "rate" in name}
    worst |= {*DISTANCES, "breaks", "truncation"}
    assert values == {name: float(name not in worst) for name in METRICS}


def test_a_wire_shifted_by_one_pixel_loses_dice_but_not_its_centre_line() -> None:
    values = measure_image(wire(21), wire(20), spacing_mm=0.2).values
    assert values["dice"] == pytest.approx(2 / 3)
    assert values["centreline-f1-0px"] == 0
    assert values["centreline-f1-1px"] == 1
    assert values["hd95-px"] == 1
    assert values["hd95-mm"] == pytest.approx(0.2)
    assert values["nsd-1px"] == 1
    assert values["tip-error-px"] == 1
    assert values["tip-error-mm"] == pytest.approx(0.2)
    assert values["betti-0-error"] == values["breaks"] == 0


def test_a_broken_wire_is_one_piece_too_many_and_one_break() -> None:
    values = measure_image(wire(gap=slice(20, 30)), wire()).values
    assert values["betti-0-error"] == 1
    assert values["breaks"] == 1
    assert values["truncation"] == 0
    assert values["centreline-precision-1px"] == 1
    assert values["tip-error-px"] == 0


def test_frames_without_spacing_have_no_millimetres() -> None:
    values = measure_image(wire(), wire()).values
    assert {name for name in METRICS if math.isnan(values[name])} == {
        "hd95-mm",
        "assd-mm",
        "ahd-mm",
        "tip-error-mm",
    }


def test_a_missed_device_follows_the_conventions() -> None:
    missed = measure_image(NOTHING, wire(), spacing_mm=0.2)
    assert (missed.has_device, missed.is_predicted) == (True, False)
    assert all(math.isnan(missed.values[name]) for name in DISTANCES)
    for name in ("dice", "iou", "cldice", "nsd-2px", "centreline-f1-4px", "pck-9px"):
        assert missed.values[name] == 0
    assert missed.values["truncation"] == missed.values["tip-miss-rate"] == 1
    assert math.isnan(missed.values["tip-error-px"])


def test_two_empty_masks_follow_the_conventions() -> None:
    values = measure_image(NOTHING, NOTHING, spacing_mm=0.2).values
    for name in ("dice", "precision", "macro-f1", "cldice", "nsd-1px"):
        assert values[name] == 1
    assert all(values[name] == 0 for name in DISTANCES)
    assert math.isnan(values["tip-miss-rate"])


def test_a_penalty_puts_the_diagonal_in_the_place_of_a_missed_distance() -> None:
    values = measure_image(NOTHING, wire(), spacing_mm=0.5, penalty="diagonal").values
    assert values["hd95-px"] == values["assd-px"] == values["ahd-px"] == 80
    assert values["hd95-mm"] == 40
    assert math.isnan(values["tip-error-px"])
    with pytest.raises(ValueError, match="penalty must be"):
        measure_image(NOTHING, wire(), penalty="zero")  # type: ignore[arg-type]


@pytest.mark.parametrize("corner", [(0, 0), (30, 70), (57, 0), (57, 116)])
def test_only_tips_and_true_negatives_depend_on_the_rest_of_the_frame(
    corner: tuple[int, int],
) -> None:
    ring, broken = np.zeros((39, 44), bool), np.zeros((39, 44), bool)
    ring[0:39, 3:6] = ring[20:24, 5:44] = ring[30:38, 20:40] = True
    ring[32:36, 24:36] = False
    broken |= np.roll(ring, 2, axis=1)
    broken[20:24, 20:26] = False
    frames = []
    for small in (broken, ring):
        large = np.zeros((96, 160), bool)
        large[corner[0] : corner[0] + 39, corner[1] : corner[1] + 44] = small
        frames.append(large)
    found = measure_image(*frames).values
    assert found["hd95-px"] == boundary_distances(*frames).hd95()
    assert found["assd-px"] == boundary_distances(*frames).assd()
    assert found["ahd-px"] == pytest.approx(average_hausdorff(*frames), abs=1e-12)
    assert found["cldice"] == cldice(*frames)
    assert found["betti-1-error"] == betti_errors(*frames).holes
    assert found["breaks"] == count_breaks(*frames).breaks > 0
    assert found["tip-error-px"] == pytest.approx(
        compare_tips(*frames).error_px, nan_ok=True
    )


def test_pixels_that_are_not_valid_belong_to_neither_mask() -> None:
    valid = np.ones_like(NOTHING)
    valid[:, 30:] = False
    noisy, label = wire(), wire()
    noisy[:, 40:45] = True
    label[40:43, 35:] = True
    found = measure_image(noisy, label, valid=valid)
    assert found.values["dice"] == found.values["accuracy"] == 1
    assert found.values["hd95-px"] == found.values["breaks"] == 0
    assert found.counts.tp == 3 * 30
    assert found.counts.num_pixels == valid.sum()
    nothing_seen = measure_image(noisy, label, valid=np.zeros_like(valid))
    assert not nothing_seen.has_device
    assert not nothing_seen.is_predicted
    assert math.isnan(nothing_seen.values["accuracy"])


def test_a_valid_region_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one \(height, width\)"):
        measure_image(wire(), wire(), valid=np.ones((3, 3), bool))
