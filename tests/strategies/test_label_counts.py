"""What hospitals may say of labels of whole frames."""

import pytest

from models.metrics import SegmentationCounts
from strategies.evaluation import Evaluation
from strategies.label_counts import LabelCounts

NAMES = ("animal", "human")


def test_accuracies_come_from_counts_of_guesses() -> None:
    found = LabelCounts.of(NAMES, [0, 0, 0, 1], [0, 0, 1, 0])
    assert found.scores() == pytest.approx(
        {
            "accuracy": 0.5,
            "balanced-accuracy": 1 / 3,
            "accuracy.animal": 2 / 3,
            "accuracy.human": 0.0,
        }
    )


def test_a_label_that_no_frame_has_is_left_out_of_the_mean() -> None:
    found = LabelCounts.of(NAMES, [0, 0], [0, 1]).scores()
    assert found["balanced-accuracy"] == 0.5
    assert "accuracy.human" not in found
    assert LabelCounts.of(NAMES, [], []).scores() == {}


def test_counts_of_two_hospitals_are_those_of_all_frames() -> None:
    first, second = ([0, 1], [0, 0]), ([1], [1])
    together = LabelCounts.of(NAMES, first[0] + second[0], first[1] + second[1])
    assert LabelCounts.of(NAMES, *first) + LabelCounts.of(NAMES, *second) == together
    with pytest.raises(ValueError, match="different labels"):
        _ = together + LabelCounts.of(("a", "b"), [0], [0])


def test_counts_survive_a_message() -> None:
    found = LabelCounts.of(("a", "b-2", "c.3"), [0, 1, 2, 2], [2, 1, 2, 0])
    assert LabelCounts.from_dict(found.to_dict()) == found
    assert LabelCounts.from_dict({}) == LabelCounts()


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels.a>b": 1},
        {"labels.a>a": -1},
        {"labels.a>a": 0.5},
        {"labels.a>a": 1, "labels.a>b": 0, "labels.b>a": 0},
    ],
)
def test_impossible_counts_are_refused(wrong: dict[str, int | float]) -> None:
    with pytest.raises(ValueError, match="abel counts"):
        LabelCounts.from_dict(wrong)


def test_an_evaluation_of_labels_survives_a_message_and_adds_up() -> None:
    def of(labels: list[int], guesses: list[int], loss: float) -> Evaluation:
        return Evaluation(
            len(labels),
            loss,
            SegmentationCounts.zero(),
            labels=LabelCounts.of(NAMES, labels, guesses),
        )

    first, second = of([0, 1, 1], [0, 1, 0], 0.5), of([1], [1], 0.1)
    assert Evaluation.from_metrics(first.to_metrics()) == first
    together = first + second
    assert together.labels.scores()["accuracy"] == 0.75
    assert together.loss == pytest.approx(0.4)
    together.require_all_metrics()


def test_an_evaluation_must_have_classified_every_frame() -> None:
    counts = LabelCounts.of(NAMES, [0], [0])
    with pytest.raises(ValueError, match="classified"):
        Evaluation(2, 0.0, SegmentationCounts.zero(), labels=counts)
