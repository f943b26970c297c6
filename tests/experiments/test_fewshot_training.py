import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from clients.data.frames import FrameSet
from experiments import fewshot_training
from experiments.fewshot import FinetuneSettings, unseen_frames
from experiments.fewshot_training import (
    FinetuneError,
    FinetuneTask,
    finetune_once,
    learning_rate_at,
    predict_masks,
)
from models.network import SegmentationNetwork
from models.registry import build_model
from models.weights import weights_digest
from server.checkpoints import FoundationCard, save_foundation

SIZE = 32
SETTINGS = FinetuneSettings(
    shots=(1, 2),
    seeds=(0,),
    steps=3,
    batch_size=2,
    validate_every=2,
    train_patients=2,
    validation_patients=1,
    test_patients=2,
    frames_per_patient=2,
)


@pytest.fixture
def task(tmp_path: Path) -> FinetuneTask:
    model = build_model("sam-tiny", image_size=SIZE, seed=5)
    card = FoundationCard("sam-tiny", SIZE, seed=5, rounds=1, sites=(), settings={})
    checkpoint = save_foundation(tmp_path, model.trainable_state(), card)
    return FinetuneTask(checkpoint, SETTINGS, 1, "foundation", 0, "cpu")


class ScriptedPredictions:
    """Stands in for `predict_masks` and remembers with which weights it was asked."""

    def __init__(self, settings: FinetuneSettings, good_calls: set[int]) -> None:
        self.split = unseen_frames(settings, SIZE)
        self.good_calls = good_calls  # the others predict nothing at all
        self.asked: list[tuple[str, str]] = []

    def __call__(self, model: SegmentationNetwork, images: Tensor) -> Tensor:
        is_test = torch.equal(images, self.split.test.images)
        part = self.split.test if is_test else self.split.validation
        is_good = len(self.asked) in self.good_calls
        name = "test" if is_test else "validation"
        self.asked.append((name, weights_digest(model.trainable_state())))
        return part.masks > 0 if is_good else torch.zeros_like(part.masks) > 0


def test_a_run_is_the_same_bit_for_bit_when_repeated(task: FinetuneTask) -> None:
    first, second = finetune_once(task), finetune_once(task)
    assert first.result == second.result
    assert torch.equal(first.predicted, second.predicted)
    assert first.result.test_frames == 4
    # No overlay frame for a test patient without any device.
    assert 1 <= len(first.predicted) <= 2


@pytest.mark.parametrize(("good_call", "step"), [(0, 0), (1, 2), (2, 3)])
def test_the_best_step_on_validation_is_measured_once_on_test(
    task: FinetuneTask, monkeypatch: pytest.MonkeyPatch, good_call: int, step: int
) -> None:
    script = ScriptedPredictions(SETTINGS, {good_call})
    monkeypatch.setattr(fewshot_training, "predict_masks", script)
    result = finetune_once(task).result
    assert [name for name, _ in script.asked] == ["validation"] * 3 + ["test"]
    digests = [digest for _, digest in script.asked]
    assert len(set(digests[:3])) == 3  # training did change the weights
    assert digests[3] == digests[good_call]
    assert result.chosen_step == step
    assert result.validation_dice == 1
    assert result.validation_dice_at_start == (1 if good_call == 0 else 0)
    assert result.test_dice == 0


def test_of_equally_good_steps_the_first_is_chosen(
    task: FinetuneTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = ScriptedPredictions(SETTINGS, {1, 2})
    monkeypatch.setattr(fewshot_training, "predict_masks", script)
    assert finetune_once(task).result.chosen_step == 2


def test_the_foundation_starts_from_its_weights_and_chance_from_its_seed(
    task: FinetuneTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = ScriptedPredictions(SETTINGS, set())
    monkeypatch.setattr(fewshot_training, "predict_masks", script)
    for start, seed, weights_seed in (("foundation", 3, 5), ("random", 3, 3)):
        script.asked.clear()
        finetune_once(replace(task, start=start, seed=seed))
        model = build_model("sam-tiny", image_size=SIZE, seed=weights_seed)
        assert script.asked[0][1] == weights_digest(model.trainable_state())


def test_both_starts_see_the_same_batches(
    task: FinetuneTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def remember(
        frames: FrameSet, recipe: str, *, generator: torch.Generator
    ) -> FrameSet:
        noise = torch.rand(len(frames), generator=generator)
        seen.append(torch.cat([frames.images.flatten(), noise]))
        return frames

    monkeypatch.setattr(fewshot_training, "augment", remember)
    for start in ("foundation", "random"):
        finetune_once(replace(task, start=start, shots=2))
    assert len(seen) == 2 * SETTINGS.steps
    for first, second in zip(seen[:3], seen[3:], strict=True):
        assert torch.equal(first, second)


def test_training_that_diverges_says_in_which_run(
    task: FinetuneTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        fewshot_training.SegmentationLoss,
        "forward",
        lambda self, logits, masks, annotated: logits.sum() * math.nan,
    )
    with pytest.raises(
        FinetuneError, match=r"nan in step 1 .* 1 shots from foundation"
    ):
        finetune_once(task)


def test_weights_that_fit_no_model_are_refused(task: FinetuneTask) -> None:
    card = FoundationCard("sam-tiny", SIZE, seed=5, rounds=1, sites=(), settings={})
    folder = task.checkpoint.parent.parent
    save_foundation(folder, {"stranger": torch.zeros(1)}, card)
    with pytest.raises(
        ValueError, match=r"the foundation model were refused.*stranger"
    ):
        finetune_once(task)


def test_predictions_are_where_the_logit_is_above_zero() -> None:
    model = build_model("sam-tiny", image_size=SIZE, seed=0)
    images = torch.rand(9, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = torch.cat([model(images[:8]), model(images[8:])]) > 0
    assert torch.equal(predict_masks(model, images), expected)


def test_the_learning_rate_rises_in_a_line_and_falls_on_a_cosine() -> None:
    settings = FinetuneSettings(steps=23, warmup_steps=3, learning_rate=0.4)
    rates = [learning_rate_at(step, settings) for step in range(23)]
    assert rates[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert rates[13] == pytest.approx(0.2)  # half way down
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert min(rates) > 0
