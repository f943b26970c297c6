"""Training steps on a handful of tiny frames with a dark wire."""

import dataclasses

import pytest
import torch
from torch.distributions import Bernoulli, kl_divergence

from clients.data.batches import training_batches
from clients.data.frames import FrameSet, join_frames
from clients.evaluation import evaluate
from clients.optimisation import TrainingError, TrainPlan
from clients.training import Retention, train_on_labels, train_with_teachers
from models.network import SegmentationNetwork
from models.registry import build_model
from strategies.accumulation import State
from strategies.evaluation import Evaluation
from strategies.fedefm_settings import FedEFMSettings
from strategies.settings import RunSettings
from strategies.transport import emd_similarity, pool_to_nodes

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


def new_state(seed: int) -> State:
    """What a teacher's model would send: its seed decides it."""
    return new_model(seed).trainable_state()


def measure(
    model: SegmentationNetwork,
    frames: FrameSet,
    plan: TrainPlan,
    *,
    batch_size: int = 4,
) -> Evaluation:
    return evaluate(
        model,
        frames,
        settings=plan.data,
        batch_size=batch_size,
        device=CPU,
        measures="overlap",
    )


def same(first: SegmentationNetwork, second: SegmentationNetwork) -> bool:
    left, right = first.trainable_state(), second.trainable_state()
    return all(torch.equal(left[name], right[name]) for name in left)


def test_training_finds_the_wires(frames: FrameSet, plan: TrainPlan) -> None:
    model = new_model()
    before = measure(model, frames, plan)
    plan = dataclasses.replace(plan, steps=40, learning_rate=3e-3)
    report = train_on_labels(model, frames, plan, CPU)
    after = measure(model, frames, plan)
    assert len(report.losses) == len(report.label_losses) == 40
    assert after.loss < 0.7 * before.loss
    assert after.counts.scores()["dice"] > before.counts.scores()["dice"] + 0.2


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
    assert by_one.loss == pytest.approx(by_four.loss, rel=1e-5)
    expected = by_four.counts.to_dict()
    assert by_one.counts.to_dict() == pytest.approx(expected, abs=3)


def test_a_perfect_teacher_is_scored_and_noted_every_step(
    frames: FrameSet, plan: TrainPlan, run_settings: RunSettings
) -> None:
    student = new_model()
    report = train_with_teachers(
        student,
        {"twin": new_state(0), "stranger": new_state(5)},
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
    teacher, expected = new_state(5), new_state(5)
    settings = dataclasses.replace(run_settings.fedefm, grid_size=2)
    train_with_teachers(
        new_model(), {"a": teacher}, frames, plan, CPU, settings=settings, beta=0.5
    )
    assert all(torch.equal(teacher[name], expected[name]) for name in expected)


def test_with_beta_zero_teachers_change_nothing(
    frames: FrameSet, plan: TrainPlan, run_settings: RunSettings
) -> None:
    settings = dataclasses.replace(run_settings.fedefm, grid_size=2)
    taught, alone = new_model(), new_model()
    train_with_teachers(
        taught, {"a": new_state(5)}, frames, plan, CPU, settings=settings, beta=0.0
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
        student, {"a": new_state(5)}, frames, plan, CPU, settings=settings, beta=1.0
    )
    assert distance() < before / 2


@pytest.fixture
def fedefm(run_settings: RunSettings) -> FedEFMSettings:
    return dataclasses.replace(run_settings.fedefm, grid_size=2)


def test_scores_come_with_their_gap_and_the_teachers_own_loss(
    frames: FrameSet, plan: TrainPlan, fedefm: FedEFMSettings
) -> None:
    student = new_model()
    report = train_with_teachers(
        student,
        {"twin": new_state(0), "stranger": new_state(5)},
        frames,
        plan,
        CPU,
        settings=fedefm,
        beta=0.3,
        controls={"home": new_state(7)},
    )
    assert report.teacher_losses.keys() == report.gaps.keys() == {"twin", "stranger"}
    assert 0 <= max(report.gaps["stranger"]) < 1e-9
    # Before the first step the twin is the student; this network has no dropout.
    assert report.teacher_losses["twin"][0] == pytest.approx(report.label_losses[0])
    assert report.teacher_losses["stranger"][0] != report.label_losses[0]
    assert len(report.control_scores["home"]) == plan.steps
    assert -1 <= report.control_scores["home"][0] < 0.99


def test_the_first_step_of_the_defaults_is_what_the_equations_say(
    frames: FrameSet, plan: TrainPlan, fedefm: FedEFMSettings
) -> None:
    batch = next(
        training_batches(
            frames,
            batch_size=4,
            network_size=SIZE,
            settings=plan.data,
            seed=plan.seed,
            device=CPU,
        )
    )
    with torch.no_grad():
        student = new_model().train().forward_with_features(batch.images)
        labels = (batch.masks, batch.annotated, batch.valid)
        expected = 0.7 * plan.settings.criterion()(student.logits, *labels)
        for seed in (5, 6):
            teacher = new_model(seed).eval().forward_with_features(batch.images)
            weight = emd_similarity(
                pool_to_nodes(student.features, 2), pool_to_nodes(teacher.features, 2)
            ).score.mean()
            soft = [Bernoulli(logits=o.logits / 2) for o in (teacher, student)]
            expected += 0.3 * weight.relu() * 4 * kl_divergence(*soft).mean() / 2
    report = train_with_teachers(
        new_model(),
        {"a": new_state(5), "b": new_state(6)},
        frames,
        plan,
        CPU,
        settings=fedefm,
        beta=0.3,
    )
    assert report.losses[0] == pytest.approx(expected.item(), rel=1e-5)


def test_a_control_changes_nothing_that_is_learned(
    frames: FrameSet, plan: TrainPlan, fedefm: FedEFMSettings
) -> None:
    students = [new_model(), new_model()]
    for student, controls in zip(students, ({}, {"home": new_state(7)}), strict=True):
        train_with_teachers(
            student,
            {"a": new_state(5)},
            frames,
            plan,
            CPU,
            settings=fedefm,
            beta=0.5,
            controls=controls,
        )
    assert same(*students)


def test_a_tap_decides_what_is_compared(
    frames: FrameSet, plan: TrainPlan, fedefm: FedEFMSettings
) -> None:
    scores = []
    for tap in ("", "image_encoder.neck", "image_encoder.blocks.0"):
        report = train_with_teachers(
            new_model(),
            {"a": new_state(5)},
            frames,
            plan,
            CPU,
            settings=dataclasses.replace(fedefm, tap=tap),
            beta=0.3,
        )
        scores.append(report.scores["a"][0])
    assert scores[0] == scores[1] != scores[2]


@pytest.mark.parametrize("weight_scope", ["teacher", "loss"])
def test_equal_weights_of_all_frames_teach_as_one_weight_does(
    weight_scope: str, frames: FrameSet, plan: TrainPlan, fedefm: FedEFMSettings
) -> None:
    fedefm = dataclasses.replace(fedefm, edge_weight="one", weight_scope=weight_scope)
    losses = [
        train_with_teachers(
            new_model(),
            {"a": new_state(5), "b": new_state(6)},
            frames,
            plan,
            CPU,
            settings=dataclasses.replace(fedefm, weight_per=weight_per),
            beta=0.3,
        ).losses
        for weight_per in ("batch", "sample")
    ]
    # Frame by frame Dice is one ratio a frame, as it is in this loss anyway.
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_common_scores_teach_and_are_noted(
    frames: FrameSet, plan: TrainPlan, fedefm: FedEFMSettings
) -> None:
    dim = new_model().forward_with_features(frames.images).features.shape[1]
    source = torch.Generator().manual_seed(0)
    report = train_with_teachers(
        new_model(),
        {"a": new_state(5), "b": new_state(6)},
        frames,
        plan,
        CPU,
        settings=dataclasses.replace(
            fedefm, score="common", prototypes=4, weight_per="sample"
        ),
        beta=0.3,
        prototypes={name: torch.randn(4, dim, generator=source) for name in "ab"},
        common=new_state(3),
    )
    assert report.scores.keys() == report.weights.keys() == {"a", "b"}
    assert all(-1 <= one <= 1 for one in report.scores["a"])
    # Of two teachers one frame prefers either one or the other.
    assert all(one > 0 for one in report.weights["a"] + report.weights["b"])


def test_only_classes_that_nobody_annotated_can_be_left_to_the_teachers(
    frames: FrameSet, plan: TrainPlan, fedefm: FedEFMSettings
) -> None:
    unannotated = dataclasses.replace(fedefm, distil_classes="unannotated")
    masks = frames.masks.clone()
    masks[:, 1] = 0
    partly = dataclasses.replace(
        frames,
        masks=masks,
        annotated=torch.tensor([[True, False]]).expand(6, 2).clone(),
    )

    def learn(shown: FrameSet, settings: FedEFMSettings) -> list[float]:
        teachers = {"a": new_state(5)}
        return train_with_teachers(
            new_model(), teachers, shown, plan, CPU, settings=settings, beta=1.0
        ).losses

    # At beta = 1 the teachers' term is all there is.
    assert learn(frames, unannotated) == [0.0] * plan.steps
    some, everything = learn(partly, unannotated)[0], learn(partly, fedefm)[0]
    assert some > 0
    assert some != pytest.approx(everything, rel=1e-3)


def test_a_traveller_that_keeps_all_it_knew_stays_where_it_was(
    frames: FrameSet, plan: TrainPlan
) -> None:
    plan = dataclasses.replace(plan, steps=5)

    def change(beta: float) -> float:
        model, before = new_model(), new_model()
        retention = Retention(beta=beta, temperature=2.0)
        train_on_labels(model, frames, plan, CPU, retention=retention)
        with torch.no_grad():
            moved = model.eval()(frames.images) - before.eval()(frames.images)
        return float(moved.square().mean())

    free, held = change(0.0), change(0.9)
    assert held < 0.5 * free
    assert change(1.0) < 0.05 * free


def test_retention_mixes_the_labels_with_the_former_self(
    frames: FrameSet, plan: TrainPlan
) -> None:
    retention = Retention(beta=0.25, temperature=2.0)
    report = train_on_labels(new_model(), frames, plan, CPU, retention=retention)
    # In the first step the model is its former self: only the labels' part is left.
    assert report.losses[0] == pytest.approx(0.75 * report.label_losses[0], rel=1e-5)
    assert report.losses[-1] > 0.75 * report.label_losses[-1]


def test_a_former_self_is_asked_with_the_prompts_of_its_student(
    frames: FrameSet, plan: TrainPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clients.prompted_pass.TURNS", ("box",))
    prompted = dataclasses.replace(plan.settings, prompts="mixed")
    plan = dataclasses.replace(plan, steps=1, settings=prompted)
    model = build_model("sam-mini", image_size=SIZE, seed=0)
    retention = Retention(beta=0.25, temperature=2.0)
    report = train_on_labels(model, frames, plan, CPU, retention=retention)
    # Both are the same model yet, so they differ only if the question does.
    assert report.losses[0] == pytest.approx(0.75 * report.label_losses[0], rel=1e-5)


def test_without_a_share_retention_changes_nothing(
    frames: FrameSet, plan: TrainPlan
) -> None:
    plain, none = new_model(), new_model()
    train_on_labels(plain, frames, plan, CPU)
    train_on_labels(
        none, frames, plan, CPU, retention=Retention(beta=0.0, temperature=2.0)
    )
    assert same(plain, none)


def with_unlabelled(frames: FrameSet) -> FrameSet:
    """Add frames of another look on which nobody has marked anything."""
    bare = dataclasses.replace(
        frames,
        images=1 - frames.images,
        masks=torch.zeros_like(frames.masks),
        annotated=torch.zeros_like(frames.annotated),
    )
    return join_frames([frames, bare])


def test_no_step_on_labels_is_spent_on_frames_without_any(
    frames: FrameSet, plan: TrainPlan
) -> None:
    plain, mixed = new_model(), new_model()
    train_on_labels(plain, frames, plan, CPU)
    report = train_on_labels(mixed, with_unlabelled(frames), plan, CPU)
    assert same(plain, mixed)
    assert min(report.label_losses) > 0


def test_a_former_self_teaches_on_frames_without_labels_too(
    frames: FrameSet, plan: TrainPlan
) -> None:
    plain, mixed = new_model(), new_model()
    retention = Retention(beta=0.5, temperature=2.0)
    train_on_labels(plain, frames, plan, CPU, retention=retention)
    train_on_labels(mixed, with_unlabelled(frames), plan, CPU, retention=retention)
    assert not same(plain, mixed)


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
