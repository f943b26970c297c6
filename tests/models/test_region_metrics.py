import math

import numpy as np
import pytest
from sklearn import metrics as reference

from models.region_metrics import PixelCounts, count_pixels, mean_over_frames, pool

NOTHING = np.zeros((16, 16), bool)
SCORES = ("dice", "iou", "precision", "recall", "accuracy", "macro_f1")


def bar(row: int, first: int, last: int) -> np.ndarray:
    mask = NOTHING.copy()
    mask[row, first : last + 1] = True
    return mask


def test_scores_of_two_bars_are_those_counted_on_paper() -> None:
    # 10 and 6 pixels, 4 in common, 256 in all.
    counts = count_pixels(bar(3, 0, 9), bar(3, 6, 11))
    assert counts == PixelCounts(tp=4, fp=6, fn=2, tn=244)
    assert counts.dice() == 8 / 16
    assert counts.iou() == 4 / 12
    assert counts.precision() == 4 / 10
    assert counts.recall() == 4 / 6
    assert counts.accuracy() == 248 / 256
    assert counts.macro_f1() == (8 / 16 + 488 / 496) / 2


@pytest.mark.parametrize("seed", range(3))
def test_scores_agree_with_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    predicted = generator.random((24, 31)) < 0.2
    label = generator.random((24, 31)) < 0.3
    counts = count_pixels(predicted, label)
    truth, guess = label.ravel(), predicted.ravel()
    expected = {
        "dice": reference.f1_score(truth, guess),
        "iou": reference.jaccard_score(truth, guess),
        "precision": reference.precision_score(truth, guess),
        "recall": reference.recall_score(truth, guess),
        "accuracy": reference.accuracy_score(truth, guess),
        "macro_f1": reference.f1_score(truth, guess, average="macro"),
    }
    for name, value in expected.items():
        assert getattr(counts, name)() == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("predicted", "label", "expected"),
    [
        (NOTHING, NOTHING, 1.0),
        (NOTHING, bar(3, 0, 9), 0.0),
        (bar(3, 0, 9), NOTHING, 0.0),
    ],
    ids=["both empty", "prediction empty", "label empty"],
)
def test_two_empty_masks_agree_and_one_empty_mask_does_not(
    predicted: np.ndarray, label: np.ndarray, expected: float
) -> None:
    counts = count_pixels(predicted, label)
    for name in ("dice", "iou", "precision", "recall"):
        assert getattr(counts, name)() == expected


def test_no_frames_have_no_score() -> None:
    for name in SCORES:
        assert math.isnan(getattr(pool([]), name)())
    assert math.isnan(mean_over_frames([], PixelCounts.iou))


def test_pooled_iou_weighs_pixels_and_mean_iou_weighs_frames() -> None:
    # IoU 4/12 in one frame, 1 in the other; pooled (4 + 2)/(12 + 2).
    frames = [
        count_pixels(bar(3, 0, 9), bar(3, 6, 11)),
        count_pixels(bar(5, 0, 1), bar(5, 0, 1)),
    ]
    assert pool(frames).iou() == 6 / 14
    assert mean_over_frames(frames, PixelCounts.iou) == pytest.approx(2 / 3)


def test_what_is_no_pair_of_masks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got \(16, 16\) and \(4, 4\)"):
        count_pixels(NOTHING, np.ones((4, 4), bool))
    with pytest.raises(ValueError, match="got float64 and bool"):
        count_pixels(NOTHING.astype(float), NOTHING)
    with pytest.raises(ValueError, match="whole numbers >= 0"):
        PixelCounts(tp=-1)
