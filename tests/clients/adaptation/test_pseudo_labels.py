import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from clients.adaptation.label_files import load_pseudo_labels, save_pseudo_labels
from clients.adaptation.label_quality import PseudoLabelQuality
from clients.adaptation.pseudo_labels import (
    agreement,
    clean_masks,
    predict_logits,
    predict_masks,
    pseudo_labelled,
)
from clients.data.errors import DataError
from clients.data.frames import TENSORS, FrameSet
from models.network import SegmentationNetwork, SegmentationOutput
from models.weights import load_weights, read_metadata, save_weights
from strategies.adaptation_settings import AdaptationSettings
from strategies.settings import RunSettings, SettingValue

SIZE = 64
CPU = torch.device("cpu")


@pytest.fixture
def settings(run_config: dict[str, SettingValue]) -> AdaptationSettings:
    return RunSettings.from_run_config(run_config).adapt


@pytest.fixture
def frames() -> FrameSet:
    """Four unlabelled frames; the ten columns to the left are not valid."""
    valid = torch.ones(4, 1, SIZE, SIZE, dtype=torch.bool)
    valid[..., :10] = False
    images = torch.rand(4, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    return FrameSet(
        images=torch.where(valid, images, 0.0),
        masks=torch.zeros(4, 2, SIZE, SIZE, dtype=torch.uint8),
        annotated=torch.zeros(4, 2, dtype=torch.bool),
        sequences=torch.tensor([0, 0, 1, 2]),
        patients=torch.tensor([7, 7, 8, 9]),
        valid=valid,
    )


@pytest.fixture
def predicted() -> Tensor:
    """Guidewires of 30 px in frames 1 and 3, one with a speck; a catheter in 3."""
    masks = torch.zeros(4, 2, SIZE, SIZE, dtype=torch.uint8)
    masks[1, 1, 20, 20:50] = 1
    masks[1, 1, 50, 50] = 1
    masks[2, 1, 8, 40] = 1
    masks[3, 1, 30, 25:55] = 1
    masks[3, 0, 15:45, 40] = 1
    return masks


class Darkness(SegmentationNetwork):
    """Says how much darker than 0.5 a pixel is, of one class, and 1 of the other."""

    def __init__(self) -> None:
        super().__init__()
        self.image_size, self.num_classes = SIZE, 2
        self.noise = nn.Dropout(0.9)
        self.norm = nn.BatchNorm2d(1)

    def forward_with_features(self, images: Tensor) -> SegmentationOutput:
        shown = self.noise(0.5 - images)
        if self.training:
            self.norm(images)
        return SegmentationOutput(
            torch.cat([shown, torch.ones_like(shown)], dim=1), images
        )


def test_logits_come_in_evaluation_mode_whatever_the_batch(frames: FrameSet) -> None:
    network = Darkness().train()
    network.noise.eval()
    logits = predict_logits(network, frames, batch_size=3, device=CPU)
    wanted = torch.where(frames.valid, 0.5 - frames.images, 0.0)
    assert torch.equal(logits[:, :1], wanted)
    assert torch.equal(logits[:, 1:], frames.valid.float())
    assert logits.dtype == torch.float32
    assert not logits.requires_grad
    # Every module is as it was, and nothing was learned.
    assert network.training
    assert not network.noise.training
    assert int(network.norm.num_batches_tracked) == 0


@pytest.mark.parametrize("threshold", [0.0, 0.2, -0.3])
def test_masks_are_what_is_above_the_threshold_and_valid(
    frames: FrameSet, threshold: float
) -> None:
    masks = predict_masks(
        Darkness(), frames, threshold_logit=threshold, batch_size=2, device=CPU
    )
    dark = (0.5 - frames.images > threshold) & frames.valid
    assert torch.equal(masks[:, :1], dark.byte())
    assert torch.equal(masks[:, 1:], frames.valid.byte())
    assert masks.dtype == torch.uint8


def test_frames_without_a_label_are_skipped_and_counted(
    frames: FrameSet, predicted: Tensor, settings: AdaptationSettings
) -> None:
    labels = pseudo_labelled(frames, predicted, settings)
    assert labels.kept.tolist() == [1, 3]
    assert labels.quality.frames == 4
    assert labels.quality.skipped == 2
    wires = labels.quality.classes["guidewire"]
    assert (wires.predicted, wires.labelled) == (3, 2)
    assert (wires.predicted_pixels, wires.kept_pixels) == (62, 60)
    assert wires.clusters_after == 2
    assert wires.kept_share == pytest.approx(60 / 62)
    assert wires.clusters_per_frame == 1.0


def test_labels_are_the_cleaned_masks_and_frames_keep_all_else(
    frames: FrameSet, predicted: Tensor, settings: AdaptationSettings
) -> None:
    found = pseudo_labelled(frames, predicted, settings).frames
    wanted = predicted[[1, 3]].clone()
    wanted[0, 1, 50, 50] = 0
    assert torch.equal(found.masks, wanted)
    assert bool(found.annotated.all())
    for name in set(TENSORS) - {"masks", "annotated"}:
        assert torch.equal(getattr(found, name), getattr(frames, name)[[1, 3]]), name


def test_a_class_that_is_not_adapted_stays_unknown(
    frames: FrameSet, predicted: Tensor, settings: AdaptationSettings
) -> None:
    one = replace(settings, classes="catheter")
    labels = pseudo_labelled(frames, predicted, one)
    assert labels.kept.tolist() == [3]
    assert labels.frames.annotated.tolist() == [[True, False]]
    assert not labels.frames.masks[:, 1].any()
    assert list(labels.quality.classes) == ["catheter"]


def test_what_is_not_valid_is_no_label(
    frames: FrameSet, predicted: Tensor, settings: AdaptationSettings
) -> None:
    predicted[0, 1, 5:60, 3] = 1
    predicted[1, 1, 20, :20] = 1
    labels = pseudo_labelled(frames, predicted, settings)
    assert labels.kept.tolist() == [1, 3]
    assert int(labels.frames.masks[0, 1].sum()) == 40
    assert not (labels.frames.masks * ~labels.frames.valid).any()


def test_no_label_at_all_is_an_error_that_says_how_many(
    frames: FrameSet, predicted: Tensor, settings: AdaptationSettings
) -> None:
    strict = replace(settings, min_cluster=1000.0)
    with pytest.raises(DataError, match=r"none of 4 .* most 3 had.*min-cluster"):
        pseudo_labelled(frames, predicted, strict)
    with pytest.raises(DataError, match=r"none of 4 .*coarse-epochs.*threshold"):
        pseudo_labelled(frames, torch.zeros_like(predicted), settings)


def test_masks_of_another_shape_are_refused(
    frames: FrameSet, predicted: Tensor, settings: AdaptationSettings
) -> None:
    with pytest.raises(DataError, match="every frame and class"):
        pseudo_labelled(frames, predicted[:3], settings)
    with pytest.raises(DataError, match="Masks"):
        clean_masks(predicted[:, :1], settings)


def test_cleaning_leaves_its_argument_alone(
    predicted: Tensor, settings: AdaptationSettings
) -> None:
    before = predicted.clone()
    cleaned = clean_masks(predicted, settings)
    assert torch.equal(predicted, before)
    assert cleaned.before[:, 1].tolist() == [0, 1, 0, 1]
    assert cleaned.after.sum(1).tolist() == [0, 1, 0, 2]


def test_agreement_with_the_truth_is_the_mean_over_frames(
    frames: FrameSet, predicted: Tensor, settings: AdaptationSettings
) -> None:
    wires = replace(settings, classes="guidewire")
    truth = torch.zeros_like(predicted)
    truth[1, 1, 20, 20:40] = 1  # 20 of the 30 px that are kept: IoU 2/3
    truth[3, 1, 30, 25:55] = 1  # all of them: 1
    truth[2, 1, 40, 20:60] = 1  # skipped: 0
    annotated = torch.tensor([[False, known] for known in (False, True, True, True)])
    known = replace(frames, masks=truth, annotated=annotated)
    found = agreement(pseudo_labelled(frames, predicted, wires), known)
    assert found.kept.overall is not None
    assert found.all.overall is not None
    assert found.kept.overall.iou == pytest.approx((2 / 3 + 1) / 2)
    assert found.kept.overall.f1 == pytest.approx((0.8 + 1) / 2)
    assert found.all.overall.iou == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found.all.left_out == 1
    assert json.loads(json.dumps(found.to_dict()))["all"]["left_out"] == 1


def test_agreement_needs_all_frames(
    frames: FrameSet, predicted: Tensor, settings: AdaptationSettings
) -> None:
    labels = pseudo_labelled(frames, predicted, settings)
    with pytest.raises(DataError, match="truth of 4 frames"):
        agreement(labels, labels.frames)


def test_quality_survives_json_also_without_any_prediction(
    frames: FrameSet, predicted: Tensor, settings: AdaptationSettings
) -> None:
    predicted[:, 0] = 0
    quality = pseudo_labelled(frames, predicted, settings).quality
    content = json.loads(json.dumps(quality.to_dict(), allow_nan=False))
    assert content["classes"]["catheter"]["kept_share"] is None
    assert PseudoLabelQuality.from_dict(content) == quality
    with pytest.raises(DataError, match="quality"):
        PseudoLabelQuality.from_dict({"frames": 3})


@pytest.fixture
def kept(
    tmp_path: Path, frames: FrameSet, predicted: Tensor, settings: AdaptationSettings
) -> Iterator[Path]:
    path = tmp_path / "SECRET-77.safetensors"
    save_pseudo_labels(path, pseudo_labelled(frames, predicted, settings), frames)
    yield path


def test_kept_labels_come_back_bit_for_bit(
    kept: Path, frames: FrameSet, predicted: Tensor, settings: AdaptationSettings
) -> None:
    labels, found = (
        pseudo_labelled(frames, predicted, settings),
        load_pseudo_labels(kept, frames),
    )
    assert torch.equal(found.kept, labels.kept)
    assert found.frames.digest() == labels.frames.digest()
    assert found.quality == labels.quality


@pytest.mark.parametrize("change", ["pixel", "region", "count", "order"])
def test_labels_of_other_frames_are_refused(
    kept: Path, frames: FrameSet, change: str
) -> None:
    if change == "pixel":
        frames.images[0, 0, 30, 30] += 1e-6
    elif change == "region":
        frames.valid[0, 0, 30, 30] = False
    elif change == "count":
        frames = frames.subset(torch.arange(3))
    else:
        frames = frames.subset(torch.tensor([1, 0, 2, 3]))
    with pytest.raises(DataError, match="those of others") as caught:
        load_pseudo_labels(kept, frames)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("damage", ["missing", "cut", "other", "part"])
def test_what_is_no_file_of_labels_is_refused_without_its_path(
    kept: Path, frames: FrameSet, damage: str
) -> None:
    if damage == "missing":
        kept.unlink()
    elif damage == "cut":
        kept.write_bytes(kept.read_bytes()[:100])
    elif damage == "other":
        save_weights(kept, {"kept": torch.zeros(1)})
    else:
        header, tensors = read_metadata(kept), load_weights(kept)
        save_weights(kept, {"kept": tensors["kept"]}, metadata=header)
    with pytest.raises(DataError, match="coarse stage again") as caught:
        load_pseudo_labels(kept, frames)
    assert "SECRET" not in str(caught.value)


def test_a_folder_that_is_not_there_is_an_error_without_its_path(
    tmp_path: Path, frames: FrameSet, predicted: Tensor, settings: AdaptationSettings
) -> None:
    labels = pseudo_labelled(frames, predicted, settings)
    with pytest.raises(DataError, match="could not be kept") as caught:
        save_pseudo_labels(tmp_path / "SECRET-77" / "labels", labels, frames)
    assert "SECRET" not in str(caught.value)
