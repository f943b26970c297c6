import itertools
import json
import math

import pytest
import torch
from torch import Tensor

from models.metrics import SegmentationCounts, count_segmentation

torch.set_num_threads(1)

SIZE = 16


def masks_with(catheter: slice | None, guidewire: slice | None = None) -> Tensor:
    """One frame (1, 2, 16, 16): catheter in row 3, guidewire in row 10."""
    masks = torch.zeros(1, 2, SIZE, SIZE, dtype=torch.uint8)
    if catheter is not None:
        masks[0, 0, 3, catheter] = 1
    if guidewire is not None:
        masks[0, 1, 10, guidewire] = 1
    return masks


def known(catheter: bool = True, guidewire: bool = True) -> Tensor:
    return torch.tensor([[catheter, guidewire]])


def random_frames(count: int, *, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 2, SIZE, SIZE)
    return (
        torch.rand(shape, generator=generator) > 0.7,
        (torch.rand(shape, generator=generator) > 0.7).byte(),
        torch.rand((count, 2), generator=generator) > 0.3,
    )


def test_pixels_are_counted_as_on_paper() -> None:
    # Catheter: columns 0-9 predicted, 6-11 labelled. Guidewire: all missed.
    counts = count_segmentation(
        masks_with(slice(0, 10)), masks_with(slice(6, 12), slice(0, 5)), known()
    )
    assert counts.tp == (4, 0)
    assert counts.fp == (6, 0)
    assert counts.fn == (2, 5)
    assert counts.predicted_skeleton == (10, 0)
    assert counts.predicted_skeleton_hits == (4, 0)
    assert counts.label_skeleton == (6, 5)
    assert counts.label_skeleton_hits == (4, 0)
    assert counts.missed == (0, 1)
    assert counts.false_alarms == (0, 0)
    assert (counts.frames, counts.device_frames) == (1, 1)


def test_scores_follow_from_the_counts() -> None:
    scores = count_segmentation(
        masks_with(slice(0, 10)), masks_with(slice(6, 12), slice(0, 5)), known()
    ).scores()
    assert scores["dice.catheter"] == pytest.approx(8 / 16)
    assert scores["iou.catheter"] == pytest.approx(4 / 12)
    assert scores["precision.catheter"] == pytest.approx(4 / 10)
    assert scores["recall.catheter"] == pytest.approx(4 / 6)
    assert scores["dice.guidewire"] == 0
    assert scores["cldice.guidewire"] == 0
    # Pooled over classes: TP 4, FP 6, FN 7; skeletons 4/10 and 4/11.
    assert scores["dice"] == pytest.approx(8 / 21)
    assert scores["cldice"] == pytest.approx(2 * 0.4 * (4 / 11) / (0.4 + 4 / 11))
    # Per image: mean of 0.5 and 0.
    assert scores["dice-per-image"] == pytest.approx(0.25)


def test_the_pooled_and_the_per_image_mean_differ_as_they_should() -> None:
    # Frame 0: 10 of 10 pixels found. Frame 1: 0 of 2. Pooled TP 10, FN 2.
    predicted = torch.cat([masks_with(slice(0, 10)), masks_with(None)])
    masks = torch.cat([masks_with(slice(0, 10)), masks_with(slice(0, 2))])
    annotated = torch.cat([known(guidewire=False)] * 2)
    scores = count_segmentation(predicted, masks, annotated).scores()
    assert scores["dice"] == pytest.approx(20 / 22)
    assert scores["dice-per-image"] == pytest.approx(0.5)


def test_added_counts_of_hospitals_score_exactly_like_the_union() -> None:
    frames = random_frames(23, seed=0)
    union = count_segmentation(*frames)
    cuts = [0, 1, 9, 14, 23]
    hospitals = [
        count_segmentation(*(part[first:last] for part in frames))
        for first, last in itertools.pairwise(cuts)
    ]
    total = SegmentationCounts.zero()
    for counts in reversed(hospitals):
        received = SegmentationCounts.from_dict(
            json.loads(json.dumps(counts.to_dict()))
        )
        total = total + received
    assert total == union
    assert total.scores() == union.scores()  # bit for bit, no tolerance
    assert 0 < union.scores()["dice-per-image"] < 1


def test_what_is_not_annotated_is_not_counted() -> None:
    predicted, masks = masks_with(slice(0, 9)), masks_with(slice(0, 9), slice(0, 5))
    counts = count_segmentation(predicted, masks, known(guidewire=False))
    assert counts.annotated == (1, 0)
    assert counts.fn == (0, 0)
    scores = counts.scores()
    assert scores["dice"] == scores["dice-per-image"] == 1
    assert math.isnan(scores["dice.guidewire"])
    assert math.isnan(scores["cldice.guidewire"])


def test_without_any_annotation_every_score_is_nan() -> None:
    counts = count_segmentation(
        masks_with(slice(0, 9)), masks_with(slice(0, 9)), known(False, False)
    )
    assert counts == SegmentationCounts.zero()
    assert all(math.isnan(value) for value in counts.scores().values())


def test_an_empty_frame_predicted_empty_is_perfect() -> None:
    counts = count_segmentation(masks_with(None), masks_with(None), known())
    scores = counts.scores()
    assert scores["dice"] == scores["cldice"] == scores["precision"] == 1
    assert scores["dice-per-image"] == 1
    # No frame shows a device, so the mean over those does not exist.
    assert math.isnan(scores["dice-per-device-image"])


def test_a_false_alarm_and_a_miss_score_zero_and_are_counted() -> None:
    alarm = count_segmentation(masks_with(slice(0, 9)), masks_with(None), known())
    miss = count_segmentation(masks_with(None), masks_with(slice(0, 9)), known())
    assert (alarm.false_alarms, alarm.missed) == ((1, 0), (0, 0))
    assert (miss.false_alarms, miss.missed) == ((0, 0), (1, 0))
    for counts in (alarm, miss):
        scores = counts.scores()
        for name in ("dice", "cldice", "iou", "precision", "recall"):
            assert scores[name] == 0, name
        # The guidewire is rightly empty: mean of 0 and 1.
        assert scores["dice-per-image"] == 0.5


def test_probabilities_above_one_half_are_foreground() -> None:
    probabilities = torch.zeros(1, 2, SIZE, SIZE)
    probabilities[0, 0, 3, :4] = 0.51
    probabilities[0, 0, 3, 4:8] = 0.5
    counts = count_segmentation(probabilities, masks_with(slice(0, 4)), known())
    assert (counts.tp[0], counts.fp[0]) == (4, 0)


def test_logits_in_place_of_probabilities_are_refused() -> None:
    with pytest.raises(ValueError, match="Apply a sigmoid"):
        count_segmentation(
            torch.full((1, 2, 8, 8), -3.0), torch.zeros(1, 2, 8, 8), known()
        )
    with pytest.raises(ValueError, match="Apply a sigmoid"):
        count_segmentation(
            torch.full((1, 2, 8, 8), float("nan")), torch.zeros(1, 2, 8, 8), known()
        )


def test_shapes_that_disagree_are_named_in_the_error() -> None:
    with pytest.raises(ValueError, match=r"got \(1, 1, 16, 16\), \(1, 2, 16, 16\)"):
        count_segmentation(masks_with(None)[:, :1], masks_with(None), known())


def test_message_keys_are_kebab_case_with_the_class_behind_a_dot() -> None:
    entries = SegmentationCounts.zero().to_dict()
    assert {"tp.catheter", "fn.guidewire", "predicted-skeleton-hits.catheter"} <= set(
        entries
    )
    assert {"frames", "device-frames", "dice-billionths"} <= set(entries)
    assert all(type(value) is int for value in entries.values())


def test_a_message_with_missing_or_unknown_keys_is_refused() -> None:
    entries = SegmentationCounts.zero().to_dict()
    del entries["tp.catheter"]
    with pytest.raises(ValueError, match=r"unknown: extra, tp\.catheter"):
        SegmentationCounts.from_dict(entries | {"extra": 1})


@pytest.mark.parametrize("value", [-1, 0.5, float("nan"), True])
def test_a_count_that_is_no_whole_number_is_refused(value: float) -> None:
    entries = SegmentationCounts.zero().to_dict()
    with pytest.raises(ValueError, match="Wrong: tp, frames"):
        SegmentationCounts.from_dict(entries | {"tp.catheter": value, "frames": value})


@pytest.mark.parametrize(
    "key",
    [
        "predicted-skeleton-hits.catheter",
        "label-skeleton-hits.guidewire",
        "dice-billionths",
        "device-frames",
    ],
)
def test_a_part_larger_than_its_whole_is_refused(key: str) -> None:
    entries = SegmentationCounts.zero().to_dict()
    with pytest.raises(ValueError, match="must not exceed"):
        SegmentationCounts.from_dict(entries | {key: 1})
