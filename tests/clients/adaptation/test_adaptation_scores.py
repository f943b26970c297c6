import json

import pytest
import torch
from torch import Tensor

from clients.adaptation.scores import SCORE_TITLES, AdaptationScores, score_masks
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from models.overlap import cldice
from strategies.randomness import generator_from

BOTH = ("catheter", "guidewire")


def frame_set(
    masks: Tensor, annotated: Tensor | None = None, valid: Tensor | None = None
) -> FrameSet:
    count, classes, size = masks.shape[:3]
    if annotated is None:
        annotated = torch.ones(count, classes, dtype=torch.bool)
    return FrameSet(
        images=torch.zeros(count, 1, size, size),
        masks=masks * annotated[:, :, None, None].byte(),
        annotated=annotated,
        sequences=torch.arange(count),
        valid=valid,
    )


def noise(seed: int, share: float, size: int = 24) -> Tensor:
    drawn = torch.rand(4, 2, size, size, generator=generator_from(seed))
    return (drawn < share).byte()


def bar(row: int, first: int, last: int) -> Tensor:
    mask = torch.zeros(16, 16, dtype=torch.uint8)
    mask[row, first : last + 1] = 1
    return mask


def test_scores_of_two_bars_are_those_counted_on_paper() -> None:
    # Catheter: 10 predicted, 6 labelled, 4 in common. Guidewire: 4, 4, 4.
    predicted = torch.stack([bar(3, 0, 9), bar(12, 4, 7)])[None]
    label = torch.stack([bar(3, 6, 11), bar(12, 4, 7)])[None]
    scores = score_masks(predicted, frame_set(label), BOTH)
    catheter, guidewire = (scores.by_class[name] for name in BOTH)
    assert (catheter.iou, catheter.f1) == (4 / 12, 8 / 16)
    assert (catheter.accuracy, catheter.sensitivity) == (248 / 256, 4 / 6)
    assert (guidewire.iou, guidewire.accuracy, guidewire.cldice) == (1.0, 1.0, 1.0)
    overall = scores.overall
    assert overall is not None
    assert overall.iou == 8 / 16  # pooled, not the mean of 1/3 and 1
    assert overall.f1 == 16 / 24
    assert overall.accuracy == 504 / 512
    assert overall.sensitivity == 8 / 10
    # A bar of one pixel is its own skeleton: 8 of 14 and 8 of 10 pixels are hit.
    assert overall.cldice == pytest.approx(2 * (8 / 14) * (8 / 10) / (8 / 14 + 8 / 10))


def test_every_frame_weighs_the_same_whatever_its_devices() -> None:
    label = torch.stack([bar(3, 0, 15), bar(3, 0, 0)])[:, None].repeat(1, 2, 1, 1)
    predicted = torch.stack([bar(3, 0, 15), bar(9, 0, 0)])[:, None].repeat(1, 2, 1, 1)
    scores = score_masks(predicted, frame_set(label), BOTH)
    assert scores.value("iou") == 0.5
    assert scores.value("sensitivity") == 0.5


@pytest.mark.parametrize("classes", [BOTH, ("guidewire",)])
def test_scores_are_micro_imagewise_as_in_segmentation_models_pytorch(
    classes: tuple[str, ...],
) -> None:
    from segmentation_models_pytorch import metrics  # takes seconds to import

    predicted, label = noise(0, 0.2), noise(1, 0.3)
    label[2] = 0
    predicted[2] = 0  # nothing to find and nothing found: 1 in both
    scores = score_masks(predicted, frame_set(label), classes).overall
    chosen = [BOTH.index(name) for name in classes]
    counts = metrics.get_stats(
        predicted[:, chosen].long(), label[:, chosen].long(), mode="multilabel"
    )
    wanted = {
        name: float(
            getattr(metrics, function)(
                *counts, reduction="micro-imagewise", zero_division=1.0
            )
        )
        for name, function in {
            "iou": "iou_score",
            "f1": "f1_score",
            "accuracy": "accuracy",
            "sensitivity": "recall",
        }.items()
    }
    assert scores is not None
    for name, value in wanted.items():
        assert getattr(scores, name) == pytest.approx(value, abs=1e-6)


def test_cldice_of_one_class_is_the_mean_over_frames() -> None:
    predicted, label = noise(2, 0.4), noise(3, 0.4)
    wanted = [
        cldice(found[1].bool().numpy(), truth[1].bool().numpy())
        for found, truth in zip(predicted, label, strict=True)
    ]
    scores = score_masks(predicted, frame_set(label), ("guidewire",))
    assert scores.value("cldice") == pytest.approx(sum(wanted) / 4)


def test_pixels_that_are_not_valid_do_not_exist() -> None:
    valid = torch.zeros(4, 1, 24, 24, dtype=torch.bool)
    valid[:, :, 4:20, 6:22] = True
    predicted, label = noise(4, 0.3), noise(5, 0.3)
    cut = score_masks(
        predicted[:, :, 4:20, 6:22], frame_set(label[:, :, 4:20, 6:22]), BOTH
    )
    assert score_masks(predicted, frame_set(label, valid=valid), BOTH) == cut
    assert score_masks(predicted, frame_set(label), BOTH) != cut


def test_classes_that_nobody_looked_for_do_not_count() -> None:
    annotated = torch.tensor([[True, False], [True, True], [False, True], [False] * 2])
    predicted, label = noise(6, 0.3), noise(7, 0.3)
    scores = score_masks(predicted, frame_set(label, annotated), BOTH)
    assert scores.left_out == 1
    assert scores.overall is not None
    assert scores.overall.frames == 3
    assert {name: one.frames for name, one in scores.by_class.items()} == {
        "catheter": 2,
        "guidewire": 2,
    }
    only = [
        score_masks(predicted[[frame]], frame_set(label[[frame]]), classes).value("iou")
        for frame, classes in ((0, BOTH[:1]), (1, BOTH), (2, BOTH[1:]))
    ]
    assert scores.overall.iou == pytest.approx(sum(only) / 3)


def test_a_class_that_is_not_adapted_does_not_count() -> None:
    label = noise(8, 0.3)
    predicted = label.clone()
    predicted[:, 0] = 1 - label[:, 0]
    scores = score_masks(predicted, frame_set(label), ("guidewire",))
    assert scores.value("iou") == 1.0
    assert list(scores.by_class) == ["guidewire"]


def test_frames_without_annotation_are_all_left_out() -> None:
    nobody = torch.zeros(4, 2, dtype=torch.bool)
    scores = score_masks(noise(0, 0.5), frame_set(noise(1, 0.5), nobody), BOTH)
    assert scores == AdaptationScores(left_out=4, overall=None, by_class={})
    assert scores.value("iou") is None


def test_a_frame_without_a_valid_pixel_is_left_out() -> None:
    valid = torch.ones(4, 1, 24, 24, dtype=torch.bool)
    valid[1] = False
    scores = score_masks(noise(0, 0.5), frame_set(noise(1, 0.5), valid=valid), BOTH)
    assert scores.left_out == 1
    assert scores.overall is not None
    assert scores.overall.frames == 3


@pytest.mark.parametrize(
    ("found", "there", "wanted"), [(0, 0, 1.0), (1, 0, 0.0), (0, 1, 0.0)]
)
def test_two_empty_masks_agree_and_one_empty_mask_does_not(
    found: int, there: int, wanted: float
) -> None:
    masks = bar(3, 2, 9).expand(1, 2, 16, 16)
    scores = score_masks(masks * found, frame_set(masks * there), BOTH)
    for name in SCORE_TITLES:
        if name != "accuracy":
            assert scores.value(name) == wanted


def test_scores_survive_json() -> None:
    annotated = torch.tensor([[True, False]] * 4)
    scores = score_masks(noise(0, 0.2), frame_set(noise(1, 0.2), annotated), BOTH)
    assert list(scores.by_class) == ["catheter"]
    again = AdaptationScores.from_dict(json.loads(json.dumps(scores.to_dict())))
    assert again == scores
    nothing = AdaptationScores(left_out=2, overall=None, by_class={})
    assert AdaptationScores.from_dict(nothing.to_dict()) == nothing


@pytest.mark.parametrize(
    "content", [{}, {"left_out": 0, "overall": {"iou": 1}, "by_class": {}}]
)
def test_other_content_is_not_taken_for_scores(content: dict[str, object]) -> None:
    with pytest.raises(DataError, match="Scores of an adaptation were wanted"):
        AdaptationScores.from_dict(content)


def test_masks_of_another_shape_and_unknown_classes_are_refused() -> None:
    frames = frame_set(noise(0, 0.2))
    with pytest.raises(DataError, match=r"\(4, 2, 24, 24\) were wanted.*\(3, 2, 24"):
        score_masks(noise(0, 0.2)[:3], frames, BOTH)
    with pytest.raises(DataError, match="catheter, guidewire, got stent"):
        score_masks(noise(0, 0.2), frames, ("stent",))
    with pytest.raises(DataError, match="got none"):
        score_masks(noise(0, 0.2), frames, ())
