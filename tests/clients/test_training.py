"""Training steps on a handful of tiny frames with a dark wire."""

import dataclasses

import pytest
import torch

from clients.data.frames import FrameSet
from clients.training import (
    TrainingError,
    TrainPlan,
    evaluate,
    train_on_labels,
    train_with_teachers,
)
from models.metrics import SegmentationCounts
from models.network import SegmentationNetwork
from models.registry import build_model
from strategies.settings import RunSettings

SIZE = 32
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def frames() -> FrameSet:
    """Six frames, each with one vertical catheter and one horizontal guidewire."""
    images = torch.full((6, 1, SIZE, SIZE), 0.8)
    masks = torch.zeros(6, 2, SIZE, SIZE, dtype=torch.uint8)
    for index in range(6):
        column, row = 6 + 3 * index, 25 - 3 * index
        masks[index, 0, :, column : column + 3] = 1
        masks[index, 1, row, :] = 1
    images[masks.amax(1, keepdim=True) > 0] = 0.2
    return FrameSet(
        images=images,
        masks=masks,
        annotated=torch.ones(6, 2, dtype=torch.bool),
        sequences=torch.arange(6),
    )


@pytest.fixture
def plan(run_settings: RunSettings) -> TrainPlan:
    settings = dataclasses.replace(run_settings.train, batch_size=4)
    return TrainPlan(
        steps=3,
        learning_rate=1e-3,
        settings=settings,
        data=dataclasses.replace(run_settings.data, frame_size=SIZE),
        seed=1,
        deadline_s=100,
    )


def new_model(seed: int = 0) -> SegmentationNetwork:
    return build_model("sam-tiny", image_size=SIZE, seed=seed)


def measure(
    model: SegmentationNetwork,
    frames: FrameSet,
    plan: TrainPlan,
    *,
    batch_size: int = 4,
) -> tuple[float, SegmentationCounts]:
    return evaluate(
        model, frames, settings=plan.data, batch_size=batch_size, device=CPU
    )


def same(first: SegmentationNetwork, second: SegmentationNetwork) -> bool:
    left, right = first.trainable_state(), second.trainable_state()
    return all(torch.equal(left[name], right[name]) for name in left)


def test_training_finds_the_wires(frames: FrameSet, plan: TrainPlan) -> None:
    model = new_model()
    loss_before, counts_before = measure(model, frames, plan)
    plan = dataclasses.replace(plan, steps=40, learning_rate=3e-3)
    report = train_on_labels(model, frames, plan, CPU)
    loss_after, counts_after = measure(model, frames, plan)
    assert len(report.losses) == len(report.label_losses) == 40
    assert loss_after < 0.7 * loss_before
    assert counts_after.scores()["dice"] > counts_before.scores()["dice"] + 0.2


def test_the_same_seed_trains_to_the_same_bits(
    frames: FrameSet, plan: TrainPlan
) -> None:
    first, second, third = new_model(), new_model(), new_model()
    train_on_labels(first, frames, plan, CPU)
    train_on_labels(second, frames, plan, CPU)
    train_on_labels(third, frames, dataclasses.replace(plan, seed=2), CPU)
    assert same(first, second)
    assert not same(first, third)
    assert not same(first, new_model())


def test_an_unknown_class_is_not_taken_for_background(
    frames: FrameSet, plan: TrainPlan
) -> None:
    masks = frames.masks.clone()
    masks[:, 1] = 0
    unknown = torch.tensor([True, False]).expand(6, 2).clone()
    absent, silent = new_model(), new_model()
    plan = dataclasses.replace(plan, steps=15)
    train_on_labels(absent, dataclasses.replace(frames, masks=masks), plan, CPU)
    silenced = dataclasses.replace(frames, masks=masks, annotated=unknown)
    train_on_labels(silent, silenced, plan, CPU)
    with torch.no_grad():
        told = absent.eval()(frames.images)[:, 1].mean()
        untold = silent.eval()(frames.images)[:, 1].mean()
    assert told < untold - 0.1


def test_evaluation_is_the_same_for_every_batch_size(
    frames: FrameSet, plan: TrainPlan
) -> None:
    model = new_model()
    by_one = measure(model, frames, plan, batch_size=1)
    by_four = measure(model, frames, plan)
    assert by_one[0] == pytest.approx(by_four[0], rel=1e-5)
    assert by_one[1].to_dict() == pytest.approx(by_four[1].to_dict(), abs=3)


def test_a_perfect_teacher_is_scored_and_noted_every_step(
    frames: FrameSet, plan: TrainPlan, run_settings: RunSettings
) -> None:
    student = new_model()
    report = train_with_teachers(
        student,
        {"twin": new_model(), "stranger": new_model(seed=5)},
        frames,
        plan,
        CPU,
        settings=dataclasses.replace(run_settings.fedefm, grid_size=2),
        beta=0.3,
    )
    assert report.scores.keys() == {"twin", "stranger"}
    assert len(report.scores["twin"]) == plan.steps
    # Before the first step the twin is the student itself; dropout there is none.
    assert report.scores["twin"][0] == pytest.approx(1, abs=1e-4)
    assert report.scores["stranger"][0] < 0.9
    assert report.weights["twin"][0] == pytest.approx(report.scores["twin"][0])
    assert not same(student, new_model())


def test_teachers_stay_as_they_came(
    frames: FrameSet, plan: TrainPlan, run_settings: RunSettings
) -> None:
    teacher = new_model(seed=5)
    settings = dataclasses.replace(run_settings.fedefm, grid_size=2)
    train_with_teachers(
        new_model(), {"a": teacher}, frames, plan, CPU, settings=settings, beta=0.5
    )
    assert same(teacher, new_model(seed=5))


def test_with_beta_zero_teachers_change_nothing(
    frames: FrameSet, plan: TrainPlan, run_settings: RunSettings
) -> None:
    settings = dataclasses.replace(run_settings.fedefm, grid_size=2)
    taught, alone = new_model(), new_model()
    train_with_teachers(
        taught, {"a": new_model(5)}, frames, plan, CPU, settings=settings, beta=0.0
    )
    train_on_labels(alone, frames, plan, CPU)
    for name, tensor in taught.trainable_state().items():
        torch.testing.assert_close(tensor, alone.trainable_state()[name])


def test_with_beta_one_a_student_turns_to_its_teacher(
    frames: FrameSet, plan: TrainPlan, run_settings: RunSettings
) -> None:
    settings = dataclasses.replace(run_settings.fedefm, grid_size=2, edge_weight="one")
    student, teacher = new_model(), new_model(5)
    plan = dataclasses.replace(plan, steps=15)

    def distance() -> float:
        with torch.no_grad():
            gap = student.eval()(frames.images) - teacher.eval()(frames.images)
        return float(gap.square().mean())

    before = distance()
    train_with_teachers(
        student, {"a": teacher}, frames, plan, CPU, settings=settings, beta=1.0
    )
    assert distance() < before / 2


def test_a_passed_deadline_ends_training_with_advice(
    frames: FrameSet, plan: TrainPlan
) -> None:
    plan = dataclasses.replace(plan, deadline_s=-1.0)
    with pytest.raises(TrainingError, match=r"0 of 3 steps.*Raise phase-timeout-s"):
        train_on_labels(new_model(), frames, plan, CPU)


def test_a_loss_that_diverges_ends_training_with_advice(
    frames: FrameSet, plan: TrainPlan
) -> None:
    model = new_model()
    with torch.no_grad():
        next(model.image_encoder.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"nan in step 1\. Lower"):
        train_on_labels(model, frames, plan, CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_trains_to_the_same_bits_twice(frames: FrameSet, plan: TrainPlan) -> None:
    first, second = new_model(), new_model()
    train_on_labels(first, frames, plan, torch.device("cuda"))
    train_on_labels(second, frames, plan, torch.device("cuda"))
    assert same(first, second)
