import math

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from models.image_metrics import METRICS, measure_image

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
