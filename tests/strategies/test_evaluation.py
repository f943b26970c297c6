import copy
import math

import numpy as np
import pytest
import torch

from models.classes import CLASS_NAMES
from models.image_metrics import measure_image
from models.metric_sums import MetricSums
from models.metrics import SegmentationCounts, count_segmentation
from models.roc import ScoreHistogram
from strategies.evaluation import (
    ClassEvaluation,
    Evaluation,
    Numbers,
    join_evaluations,
)
from strategies.unannotated import UnannotatedCounts


def make_evaluation(*, with_all: bool = True) -> Evaluation:
    """Measure two frames of a bar that is found one pixel too low."""
    masks = np.zeros((2, 2, 16, 16), bool)
    masks[:, :, 4:7, :9] = True
    guesses = np.roll(masks, 1, axis=2)
    counts = count_segmentation(
        torch.from_numpy(guesses),
        torch.from_numpy(masks),
        torch.ones(2, 2, dtype=torch.bool),
    )
    classes = {
        label: ClassEvaluation(
            MetricSums.of(
                measure_image(guesses[frame, index], masks[frame, index])
                for frame in range(2)
            ),
            ScoreHistogram.of(guesses[:, index] * 0.8, masks[:, index]),
        )
        for index, label in enumerate(CLASS_NAMES)
    }
    return Evaluation(2, 0.25, counts, classes if with_all else {})


@pytest.mark.parametrize("with_all", [True, False])
def test_what_is_packed_is_what_is_read(with_all: bool) -> None:
    evaluation = make_evaluation(with_all=with_all)
    assert Evaluation.from_metrics(evaluation.to_metrics()) == evaluation


def test_a_message_names_every_number_by_class_and_group() -> None:
    entries = make_evaluation().to_metrics()
    assert entries["num-examples"] == 2
    assert entries["all.catheter.device.dice.total"] == pytest.approx(2 * 2 / 3)
    assert entries["all.guidewire.device.hd95-px.count"] == 2
    assert sum(entries["all.catheter.roc-positives"]) == 2 * 27  # type: ignore[arg-type]


def test_losses_are_averaged_over_frames() -> None:
    one = Evaluation(1, 1.0, SegmentationCounts.zero())
    three = Evaluation(3, 2.0, SegmentationCounts.zero())
    assert (one + three).loss == (1.0 + 3 * 2.0) / 4
    assert (one + three).num_frames == 4


def test_where_one_site_measured_the_overlap_only_all_are_added_so() -> None:
    overlap, everything = make_evaluation(with_all=False), make_evaluation()
    total = join_evaluations([everything, overlap])
    assert not total.classes
    assert total.counts == overlap.counts + overlap.counts
    with pytest.raises(ValueError, match="the other has not"):
        _ = everything + overlap
    with pytest.raises(ValueError, match="no evaluation"):
        join_evaluations([])


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("num-examples", 0, "needs frames"),
        ("num-examples", 1, "More frames"),
        ("num-examples", 2.5, "needs frames"),
        ("loss", None, "loss"),
        ("tp.catheter", -1, "tp"),
        ("tp.catheter", 35, "Wrong: catheter"),
        ("missed.guidewire", 1, "Wrong: guidewire"),
        ("all.catheter.tp", 1.0, "Pixel counts"),
        ("all.catheter.tn", 1, "Wrong: catheter"),
        ("all.catheter.device.dice.total", 2.5, "device.dice"),
        ("all.catheter.device.assd-px.total", math.nan, "device.assd-px"),
        ("all.catheter.device.assd-px.count", None, "device.assd-px.count"),
        ("all.guidewire.roc-negatives", [0] * 1024, "Wrong: guidewire"),
        ("all.guidewire.roc-negatives", [1] * 3, "1024"),
        ("all.guidewire.roc-negatives", [0.5] * 1024, "1024"),
        ("all.guidewire.roc-negatives", None, "roc-positives"),
        ("all.catheter.balloon", 1, "balloon"),
        ("all.balloon.tp", 1, "1 unknown"),
        ("unannotated.frames.catheter", 1, "known or unknown in more frames"),
        ("unannotated.predicted_frames.catheter", 1, "not annotated.*catheter"),
        ("unannotated.visible_pixels.guidewire", 9, "not annotated.*guidewire"),
        ("unannotated.frames.guidewire", -1, "not annotated.*guidewire"),
        ("unannotated.frames.guidewire", 0.0, "not annotated.*guidewire"),
        ("unannotated.frames.guidewire", None, "unannotated.frames.guidewire"),
        ("unannotated.frames.balloon", 1, "unannotated.frames.balloon"),
        ("balloon", 1, "balloon"),
        ("balloon", [1], "1 unknown"),
    ],
)
def test_numbers_that_no_frames_can_have_are_refused(
    key: str, value: object, named: str
) -> None:
    entries: dict[str, object] = dict(copy.deepcopy(make_evaluation().to_metrics()))
    entries[key] = value
    if value is None:
        del entries[key]
    with pytest.raises(ValueError, match=named):
        Evaluation.from_metrics(entries)


def test_a_class_that_was_left_out_is_noticed() -> None:
    entries: Numbers = make_evaluation().to_metrics()
    short = {k: v for k, v in entries.items() if not k.startswith("all.guidewire")}
    with pytest.raises(ValueError, match="missing or unknown") as caught:
        Evaluation.from_metrics(short)
    assert len(str(caught.value)) < 300


def make_unknown(
    frames: int, predicted: int, pixels: int, visible: int
) -> UnannotatedCounts:
    """Counts of catheters; guidewires are annotated everywhere."""
    return UnannotatedCounts((frames, 0), (predicted, 0), (pixels, 0), (visible, 0))


def test_predictions_of_unknown_classes_travel_and_add_exactly() -> None:
    counts = SegmentationCounts.zero()
    one = Evaluation(3, 0.5, counts, unannotated=make_unknown(3, 1, 2**53, 2**54))
    two = Evaluation(5, 0.5, counts, unannotated=make_unknown(2, 2, 3, 100))
    assert Evaluation.from_metrics(one.to_metrics()) == one
    total = join_evaluations([one, two])
    assert total.unannotated == make_unknown(5, 3, 2**53 + 3, 2**54 + 100)


def test_shares_of_predicted_frames_and_pixels_are_named_by_class() -> None:
    assert make_unknown(4, 1, 30, 120).scores("val") == {
        "val/unannotated/catheter/frames": 4,
        "val/unannotated/catheter/predicted_frames": 0.25,
        "val/unannotated/catheter/predicted_pixels": 0.25,
    }
    assert UnannotatedCounts.zero().scores("val") == {}
    hidden = make_unknown(1, 0, 0, 0).scores("test")  # all behind the collimator
    assert hidden["test/unannotated/catheter/predicted_pixels"] is None


@pytest.mark.parametrize(
    "numbers",
    [
        (1, 2, 2, 9),
        (2, 1, 0, 9),
        (2, 0, 1, 9),
        (2, 2, 1, 9),
        (2, 1, 10, 9),
        (0, 0, 0, 9),
    ],
)
def test_predictions_that_no_frames_can_have_are_refused(
    numbers: tuple[int, int, int, int],
) -> None:
    with pytest.raises(ValueError, match="Wrong: catheter"):
        make_unknown(*numbers)


def test_predictions_of_unknown_classes_change_no_score() -> None:
    evaluation = make_evaluation()
    shown = Evaluation(
        9,
        evaluation.loss,
        evaluation.counts,
        evaluation.classes,
        make_unknown(5, 5, 50, 50),
    )
    for label in CLASS_NAMES:
        assert shown.scores(label) == evaluation.scores(label)
    assert shown.counts.scores() == evaluation.counts.scores()
