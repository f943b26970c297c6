import csv
import io
import math

import pytest
import torch

from models.image_metrics import METRICS, measure_image
from models.metric_sums import MetricSums
from models.metrics import SegmentationCounts, count_segmentation
from models.roc import ScoreHistogram
from server.metric_table import ALL_FRAMES, Row, metric_rows, to_csv
from server.score_names import name_all_scores, name_scores, summarise
from strategies.evaluation import ClassEvaluation, Evaluation

SIZE = 20
LABELS = torch.zeros(3, 2, SIZE, SIZE, dtype=torch.bool)
LABELS[:2, 0, 5:8, :12] = True  # a catheter in two frames; never a guidewire


def make_evaluation(shift: int, *, guidewire: bool = True) -> Evaluation:
    """Measure three frames with a catheter found too low and one false guidewire."""
    guesses = LABELS.roll(shift, dims=2)
    guesses[1, 0] = False
    guesses[2, 1, 3, :4] = True
    known = torch.tensor([True, guidewire]).expand(3, 2)
    return Evaluation(
        3,
        0.5,
        count_segmentation(guesses, LABELS, known),
        {
            label: ClassEvaluation(
                MetricSums.of(
                    measure_image(guess.numpy(), mask.numpy())
                    for guess, mask in zip(guesses[:, c], LABELS[:, c], strict=True)
                ),
                ScoreHistogram.of(guesses[:, c].double().numpy(), LABELS[:, c].numpy()),
            )
            if known[0, c]
            else ClassEvaluation()
            for c, label in enumerate(("catheter", "guidewire"))
        },
    )


def find(rows: list[Row], hospital: str, metric: str) -> Row:
    found = [r for r in rows if (r["hospital"], r["metric"]) == (hospital, metric)]
    assert len(found) == 1
    return found[0]


@pytest.fixture
def rows() -> list[Row]:
    one, two = make_evaluation(0), make_evaluation(2, guidewire=False)
    return metric_rows({"b": two, "a": one})


def test_every_metric_has_a_row_for_every_hospital_and_for_all_frames(
    rows: list[Row],
) -> None:
    assert list(dict.fromkeys(row["hospital"] for row in rows)) == [
        "a",
        "b",
        ALL_FRAMES,
    ]
    for hospital in ("a", "b", ALL_FRAMES):
        names = {row["metric"] for row in rows if row["hospital"] == hospital}
        assert names >= {*METRICS, "auc", "frames", "missed-frames", "pixels-tp"}


def test_a_row_tells_all_averages_and_how_many_frames_they_are_of(
    rows: list[Row],
) -> None:
    # Of three frames, one is perfect, one missed, one rightly empty.
    dice = find(rows, "a", "dice")
    assert (dice["catheter.image"], dice["catheter.image.used"]) == (2 / 3, 3)
    assert (dice["catheter.device-image"], dice["catheter.device-image.used"]) == (
        0.5,
        2,
    )
    assert dice["catheter.pooled"] == 2 * 36 / (36 + 72)
    hd95 = find(rows, "b", "hd95-px")
    assert hd95["catheter.device-image"] == 2.0
    assert hd95["catheter.device-image.used"] == 1
    assert hd95["catheter.device-image.excluded"] == 1
    assert hd95["catheter.pooled"] is None
    assert find(rows, ALL_FRAMES, "hd95-px")["catheter.device-image"] == 1.0
    assert find(rows, ALL_FRAMES, "missed-frames")["catheter.device-image"] == 2
    assert find(rows, ALL_FRAMES, "false-alarm-frames")["guidewire.image"] == 1
    assert find(rows, ALL_FRAMES, "pixels-tp")["catheter.pooled"] == 36 + 12
    assert find(rows, ALL_FRAMES, "frames")["guidewire.image"] == 3


def test_what_has_no_value_is_none_and_an_empty_cell(rows: list[Row]) -> None:
    assert find(rows, "b", "dice")["guidewire.pooled"] is None  # nobody looked for it
    assert find(rows, "a", "auc")["guidewire.pooled"] is None  # no labelled pixel
    assert find(rows, "a", "hd95-mm")["catheter.image.excluded"] == 3
    read = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert len(read) == len(rows)
    for written, row in zip(read, rows, strict=True):
        assert written == {
            key: "" if value is None else str(value) for key, value in row.items()
        }
    assert not any(
        isinstance(value, float) and not math.isfinite(value)
        for row in rows
        for value in row.values()
    )


def test_hospitals_that_measured_the_overlap_only_have_no_rows() -> None:
    assert metric_rows({"a": Evaluation(1, 0.5, SegmentationCounts.zero())}) == []


def test_followed_scores_are_those_of_the_table(rows: list[Row]) -> None:
    one, two = make_evaluation(0), make_evaluation(2, guidewire=False)
    overall = summarise("test", {"a": one, "b": two})
    table = find(rows, ALL_FRAMES, "hd95-px")
    name = "test/catheter/device-image.hd95-px"
    assert overall[name] == table["catheter.device-image"]
    assert overall["test/guidewire/pooled.auc"] is None
    assert overall["test/fair/worst_site_dice"] == two.counts.scores()["dice"]
    assert (
        name_all_scores("test", two).items()
        >= {
            key: value
            for key, value in name_scores("test", two).items()
            if key.count("/") == 2
        }.items()
    )


def test_validation_with_the_overlap_alone_names_no_class_scores() -> None:
    overlap = Evaluation(3, 0.5, make_evaluation(0).counts)
    assert name_scores("val", overlap).keys() == {
        "val/dice",
        "val/cldice",
        "val/dice.catheter",
        "val/dice.guidewire",
        "val/dice-per-image",
    }
