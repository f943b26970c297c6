import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from experiments.finetuning import objectives
from experiments.finetuning.data import simulated_data
from experiments.finetuning.fewshot import (
    SCORES,
    FinetuneError,
    FinetuneSettings,
    FinetuneTask,
)
from experiments.finetuning.labels import simulated_labels
from experiments.finetuning.objectives import Segmenting, predictions
from experiments.finetuning.training import Study, finetune_once, learning_rate_at
from experiments.model_source import open_model
from models.network import SegmentationNetwork
from models.registry import build_model
from models.weights import weights_digest

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
TASK = FinetuneTask(1, "full", "foundation", 0)


def study_of(settings: FinetuneSettings, name: str = "sam-tiny") -> Study:
    source = open_model("random", name=name, image_size=SIZE, seed=5)
    data = simulated_data(settings, SIZE)
    if settings.task == "classify":
        data = simulated_labels(data, settings, SIZE)
    return Study(replace(source, kind="foundation"), settings, data, "cpu")


@pytest.fixture
def study() -> Study:
    return study_of(SETTINGS)


class ScriptedScores:
    """Validation scores as a test wants them; remembers the weights it was asked of."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> None:
        self.asked: list[tuple[str, str]] = []
        test = Segmenting.test

        def validate(objective: Segmenting) -> float:
            self.asked.append(("validation", self._digest(objective)))
            return scores[len(self.asked) - 1]

        def tested(objective: Segmenting, shown: Tensor | None):  # noqa: ANN202
            self.asked.append(("test", self._digest(objective)))
            return test(objective, shown)

        monkeypatch.setattr(Segmenting, "validate", validate)
        monkeypatch.setattr(Segmenting, "test", tested)

    @staticmethod
    def _digest(objective: Segmenting) -> str:
        network: SegmentationNetwork = objective.model
        return weights_digest(network.trainable_state())


def test_a_run_is_the_same_bit_for_bit_when_repeated(study: Study) -> None:
    first, second = finetune_once(TASK, study), finetune_once(TASK, study)
    assert first.result == second.result
    assert [point["step"] for point in first.result.curve] == [0, 2, 3]
    assert first.predicted is not None
    assert second.predicted is not None
    assert torch.equal(first.predicted, second.predicted)
    assert first.result.test_frames == 4
    # No overlay frame for a test patient without any device.
    assert 1 <= len(first.predicted) <= 2


@pytest.mark.parametrize(("good", "step"), [(0, 0), (1, 2), (2, 3)])
def test_the_best_step_on_validation_is_measured_once_on_test(
    study: Study, monkeypatch: pytest.MonkeyPatch, good: int, step: int
) -> None:
    scores = [0.1, 0.1, 0.1]
    scores[good] = 0.9
    script = ScriptedScores(monkeypatch, scores)
    result = finetune_once(TASK, study).result
    assert [name for name, _ in script.asked] == ["validation"] * 3 + ["test"]
    digests = [digest for _, digest in script.asked]
    assert len(set(digests[:3])) == 3  # training did change the weights
    assert digests[3] == digests[good]
    assert (result.chosen_step, result.validation) == (step, 0.9)
    assert result.validation_at_start == scores[0]


def test_of_equally_good_steps_the_first_is_chosen(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    ScriptedScores(monkeypatch, [0.1, 0.5, 0.5])
    assert finetune_once(TASK, study).result.chosen_step == 2


def test_a_single_shot_fills_a_batch(study: Study) -> None:
    task = replace(TASK, shots=1)
    network = build_model("unet", image_size=SIZE, seed=0)
    settings = replace(SETTINGS, batch_size=3)
    source = replace(study.source, data=replace(study.source.data, augmentation="none"))
    shared = replace(study, settings=settings, source=source)
    batch = next(Segmenting(task, shared, network)._batches)
    assert len(batch) == 3
    assert torch.equal(batch.images[0], batch.images[2])


def test_a_run_stops_when_validation_gets_no_better(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = replace(SETTINGS, steps=10, validate_every=1, patience=2)
    scores = [0.0, 0.0, 0.0, 0.0, 0.3, 0.4, 0.4, 0.2, 0.9, 0.9, 0.9]
    ScriptedScores(monkeypatch, scores)
    result = finetune_once(TASK, study_of(settings)).result
    # Zeros do not count: nothing was found yet. After 0.4 two looks are no better.
    assert (result.chosen_step, result.steps) == (5, 7)


def test_both_starts_and_all_methods_see_the_same_batches(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    loss = Segmenting.loss

    def remember(objective: Segmenting) -> Tensor:
        batches = objective._batches
        batch = next(batches)
        seen.append(batch.images)
        objective._batches = iter([batch])
        found = loss(objective)
        objective._batches = batches
        return found

    monkeypatch.setattr(Segmenting, "loss", remember)
    for start, method in (
        ("foundation", "full"),
        ("random", "full"),
        ("random", "lora"),
    ):
        finetune_once(replace(TASK, start=start, method=method, shots=2), study)
    assert len(seen) == 3 * SETTINGS.steps
    for first, second, third in zip(seen[:3], seen[3:6], seen[6:], strict=True):
        assert torch.equal(first, second)
        assert torch.equal(first, third)


@pytest.mark.parametrize(("augmentation", "normalise"), [("none", "z-score")])
def test_frames_are_prepared_as_the_model_wants_them(
    study: Study,
    monkeypatch: pytest.MonkeyPatch,
    augmentation: str,
    normalise: str,
) -> None:
    data = replace(study.source.data, augmentation=augmentation, normalise=normalise)
    given: list[object] = []
    for name in ("training_batches", "evaluation_batches"):
        real = getattr(objectives, name)

        def watch(*args: object, real=real, **kwargs: object):  # noqa: ANN001, ANN202
            given.append(kwargs["settings"])
            return real(*args, **kwargs)

        monkeypatch.setattr(objectives, name, watch)
    finetune_once(TASK, replace(study, source=replace(study.source, data=data)))
    assert len(given) >= 3
    assert all(one == data for one in given)


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_a_small_scale_holds_the_learnt_encoder_back(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    scores = iter([0.1, 0.2, 0.3])  # so that the last step is chosen
    monkeypatch.setattr(Segmenting, "validate", lambda self: next(scores))
    settings = replace(SETTINGS, encoder_learning_rate_scale=scale, weight_decay=0)
    finetune_once(TASK, replace(study, settings=settings, models=tmp_path))
    opened = open_model(str(tmp_path / TASK.name / "finetuned.safetensors"))
    after, before = opened.network.state_dict(), study.source.network.state_dict()
    moved = {
        part: max(
            float((after[name] - before[name]).abs().max())
            for name in before
            if name.startswith(part)
        )
        for part in ("image_encoder.", "mask_decoder.")
    }
    assert moved["mask_decoder."] > 1e-4
    # AdamW moves a weight by about its learning rate, 2e-3, in each of three steps.
    if scale == 1:
        assert moved["image_encoder."] > 1e-4
    else:
        assert moved["image_encoder."] < 1e-7


def test_training_that_diverges_says_in_which_run(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Segmenting, "loss", lambda self: torch.tensor(math.nan, requires_grad=True)
    )
    with pytest.raises(
        FinetuneError, match=r"nan in step 1 .* 1 shots from foundation"
    ):
        finetune_once(TASK, study)


def test_predictions_are_where_the_logit_is_above_zero(study: Study) -> None:
    model = build_model("sam-tiny", image_size=SIZE, seed=0)
    frames = study.data.split.train
    images = frames.subset(torch.arange(len(frames))).images
    found = torch.cat([one for one, _ in predictions(model, frames, study.source.data)])
    with torch.no_grad():
        expected = torch.cat([model(part) for part in images.split(8)]) > 0
    seen = frames.subset(torch.arange(len(frames))).valid
    assert torch.equal(found, expected & seen)


def test_larger_frames_than_the_network_are_trained_in_patches() -> None:
    study = study_of(SETTINGS, "unet")
    source = replace(study.source, data=replace(study.source.data, frame_size=64))
    large = Study(source, SETTINGS, simulated_data(SETTINGS, 64), "cpu")
    outcome = finetune_once(TASK, large)
    assert outcome.predicted is not None
    assert outcome.predicted.shape[-2:] == (64, 64)


def test_whole_images_are_classified_with_the_same_machinery() -> None:
    settings = replace(
        SETTINGS, task="classify", label="domain", domain="human,phantom", shots=(2,)
    )
    study = study_of(settings)
    task = FinetuneTask(2, "decoder", "foundation", 0)
    first, second = finetune_once(task, study), finetune_once(task, study)
    assert first.result == second.result
    assert set(SCORES["classify"]) <= first.result.scores.keys()
    assert all(0 <= value <= 1 for value in first.result.scores.values())
    assert first.predicted is None


def test_the_trained_network_is_kept_where_it_was_asked_for(
    study: Study, tmp_path: Path
) -> None:
    task = FinetuneTask(2, "lora", "foundation", 0)
    result = finetune_once(task, replace(study, models=tmp_path)).result
    opened = open_model(str(tmp_path / task.name / "finetuned.safetensors"))
    assert opened.card["metrics"]["test/dice"] == result.scores["dice"]
    assert opened.card["task"]["shots"] == 2
    assert opened.card["domains"] == ["neuro"]


def test_the_learning_rate_rises_in_a_line_and_falls_on_a_cosine() -> None:
    settings = FinetuneSettings(steps=23, warmup_steps=3, learning_rate=0.4)
    rates = [learning_rate_at(step, settings) for step in range(23)]
    assert rates[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert rates[13] == pytest.approx(0.2)  # half way down
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert min(rates) > 0
