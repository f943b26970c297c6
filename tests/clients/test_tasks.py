"""Telling where whole frames come from, with everything that segmentation has."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from clients.data.errors import DataError
from clients.data.frames import FrameSet
from clients.hospital import Hospital
from clients.optimisation import TrainPlan
from clients.sites import load_sites, load_typed_frames
from clients.tasks import (
    Segmentation,
    SourceClassification,
    choose_task,
    labelled_frames,
    unlabelled_frames,
)
from clients.training import Retention, train_on_labels, train_with_teachers
from models.assembly import Recipe, assemble_model
from models.network import SegmentationNetwork
from strategies.fedefm_settings import FedEFMSettings
from strategies.settings import RunSettings

SIZE = 32
CPU = torch.device("cpu")
NAMES = ("bright", "dark")


@pytest.fixture(scope="module")
def frames() -> FrameSet:
    """Eight frames; those of even sequences are bright."""
    noise = torch.rand(8, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    levels = torch.tensor([0.7, 0.1]).repeat(4)[:, None, None, None]
    return FrameSet(
        images=levels + 0.2 * noise,
        masks=torch.zeros(8, 2, SIZE, SIZE, dtype=torch.uint8),
        annotated=torch.zeros(8, 2, dtype=torch.bool),  # nobody needs masks here
        sequences=torch.arange(8),
    )


@pytest.fixture
def task() -> SourceClassification:
    return SourceClassification(NAMES, torch.tensor([0, 1]).repeat(4))


@pytest.fixture
def plan(run_settings: RunSettings, task: SourceClassification) -> TrainPlan:
    return TrainPlan(
        steps=3,
        learning_rate=1e-3,
        settings=dataclasses.replace(run_settings.train, batch_size=4),
        data=dataclasses.replace(
            run_settings.data, frame_size=SIZE, augmentation="none"
        ),
        seed=1,
        deadline_s=100,
        task=task,
    )


def new_model(seed: int = 0) -> SegmentationNetwork:
    return assemble_model(Recipe("sam-tiny", SIZE, seed, num_labels=2))


def accuracy(model: SegmentationNetwork, frames: FrameSet, plan: TrainPlan) -> float:
    found = plan.task.measure(
        model,
        frames,
        settings=plan.data,
        batch_size=3,
        device=CPU,
        measures="all",
    )
    assert found.num_frames == len(frames)
    return found.labels.scores()["accuracy"]


def test_a_classifier_learns_from_labels_of_whole_frames(
    frames: FrameSet, plan: TrainPlan
) -> None:
    model = new_model()
    report = train_on_labels(model, frames, dataclasses.replace(plan, steps=30), CPU)
    assert report.losses[0] == pytest.approx(0.69, abs=0.3)  # of a guess of two
    assert report.losses[-1] < 0.2
    assert accuracy(model, frames, plan) == 1.0


def test_teachers_make_a_student_know_a_label_that_its_site_never_shows(
    frames: FrameSet, plan: TrainPlan, run_settings: RunSettings
) -> None:
    teacher, student = new_model(), new_model()
    train_on_labels(teacher, frames, dataclasses.replace(plan, steps=30), CPU)
    at_home = frames.subset(torch.arange(0, 8, 2))  # bright ones alone
    plan = dataclasses.replace(plan, steps=20)
    settings = dataclasses.replace(run_settings.fedefm, grid_size=2, temperature=4.0)
    report = train_with_teachers(
        student,
        {"elsewhere": teacher.trainable_state()},
        at_home,
        plan,
        CPU,
        settings=settings,
        beta=1.0,
    )
    logits = [
        one.eval()(at_home.images).softmax(1)[:, 1].mean() for one in (teacher, student)
    ]
    alone = new_model()
    train_on_labels(alone, at_home, plan, CPU)
    without = alone.eval()(at_home.images).softmax(1)[:, 1].mean()
    assert abs(logits[1] - logits[0]) < abs(without - logits[0])
    assert report.losses[-1] < 0.2 * report.losses[0]
    # The weight is the EMD between the same features as in segmentation.
    assert report.weights["elsewhere"] == pytest.approx(report.scores["elsewhere"])
    assert report.gaps["elsewhere"][0] < 1e-6


def test_the_teachers_loss_is_the_published_divergence_of_softmaxes(
    frames: FrameSet, plan: TrainPlan, run_settings: RunSettings
) -> None:
    student, teacher = new_model(), new_model(5)
    settings = dataclasses.replace(run_settings.fedefm, grid_size=2, edge_weight="one")
    plan = dataclasses.replace(
        plan, steps=1, settings=dataclasses.replace(plan.settings, batch_size=8)
    )
    t = settings.temperature
    with torch.no_grad():
        before = student.train()(frames.images), teacher.eval()(frames.images)
    wanted = t**2 * functional.kl_div(
        (before[0] / t).log_softmax(1),
        (before[1] / t).softmax(1),
        reduction="batchmean",
    )
    report = train_with_teachers(
        student,
        {"a": teacher.trainable_state()},
        frames,
        plan,
        CPU,
        settings=settings,
        beta=1.0,
    )
    assert report.losses[0] == pytest.approx(float(wanted), rel=1e-4)


@pytest.mark.parametrize("weight_scope", ["teacher", "loss"])
def test_frames_may_weigh_their_teachers_on_their_own(
    weight_scope: str, frames: FrameSet, plan: TrainPlan, run_settings: RunSettings
) -> None:
    settings = dataclasses.replace(
        run_settings.fedefm, grid_size=2, edge_weight="one", weight_scope=weight_scope
    )

    def losses(fedefm: FedEFMSettings) -> list[float]:
        return train_with_teachers(
            new_model(),
            {name: new_model(seed).trainable_state() for name, seed in (("a", 5),)},
            frames,
            plan,
            CPU,
            settings=fedefm,
            beta=0.3,
        ).losses

    by_frame = dataclasses.replace(settings, weight_per="sample")
    assert losses(by_frame) == pytest.approx(losses(settings), rel=1e-4)


def test_a_traveller_keeps_the_labels_it_knew(
    frames: FrameSet, plan: TrainPlan
) -> None:
    report = train_on_labels(
        new_model(), frames, plan, CPU, retention=Retention(beta=0.25, temperature=2.0)
    )
    assert report.losses[0] == pytest.approx(0.75 * report.label_losses[0], rel=1e-5)
    assert report.losses[-1] > 0.75 * report.label_losses[-1]


def test_every_sequence_of_a_mixed_hospital_has_the_type_of_its_source(
    tmp_path: Path, run_settings: RunSettings
) -> None:
    source = "[[site.source]]\ndomain = '{}'\npatients = {}\nframes-per-patient = 2\n"
    path = tmp_path / "sites.toml"
    path.write_text(
        "[[site]]\nname = 'mixed'\n"
        + source.format("phantom", 3)
        + source.format("human", 2)
        + source.format("phantom", 1)
    )
    (site,) = load_sites(str(path))
    settings = dataclasses.replace(run_settings.frames, frame_size=SIZE)
    frames, types = load_typed_frames(site, settings=settings, seed=0)
    assert site.data_types == ("phantom", "human")
    assert types[frames.sequences].tolist() == 6 * [0] + 4 * [1] + 2 * [0]
    model = dataclasses.replace(
        run_settings.model,
        task="source-classification",
        data_types="phantom, human, animal",
    )
    task = choose_task(model, site.data_types, types)
    assert isinstance(task, SourceClassification)
    assert task.names == ("animal", "human", "phantom")  # sorted, as everywhere
    assert task.label_of[frames.sequences].tolist() == 6 * [2] + 4 * [1] + 2 * [2]


def test_a_hospital_whose_data_type_is_no_label_is_told_so(
    run_settings: RunSettings,
) -> None:
    model = dataclasses.replace(
        run_settings.model, task="source-classification", data_types="ct, mri"
    )
    settings = dataclasses.replace(run_settings, model=model)
    node = {"partition-id": 1, "num-partitions": 4}
    with pytest.raises(DataError, match=r"'northgate': Its data type human is none"):
        Hospital.from_node_config(node, settings)


def test_without_another_task_frames_are_segmented(run_settings: RunSettings) -> None:
    types = torch.zeros(3, dtype=torch.int64)
    assert isinstance(choose_task(run_settings.model, ("human",), types), Segmentation)


def with_labels(frames: FrameSet, *labelled: int) -> FrameSet:
    annotated = torch.zeros(len(frames), 2, dtype=torch.bool)
    annotated[list(labelled), 1] = True  # one class of two is a label
    return dataclasses.replace(frames, annotated=annotated)


def test_frames_of_a_site_are_parted_by_whether_anybody_labelled_them(
    frames: FrameSet,
) -> None:
    mixed = with_labels(frames, 1, 4, 6)
    found = labelled_frames(mixed, Segmentation())
    assert found.sequences.tolist() == [1, 4, 6]
    rest = unlabelled_frames(mixed, Segmentation())
    assert rest.sequences.tolist() == [0, 2, 3, 5, 7]


@pytest.mark.parametrize("labelled", [(), tuple(range(8))])
def test_where_all_frames_are_alike_none_is_left_out(
    frames: FrameSet, labelled: tuple[int, ...]
) -> None:
    alike = with_labels(frames, *labelled)
    assert labelled_frames(alike, Segmentation()) is alike
    assert unlabelled_frames(alike, Segmentation()) is alike


def test_where_a_frame_comes_from_is_a_label_that_all_have(
    frames: FrameSet, task: SourceClassification
) -> None:
    assert len(labelled_frames(with_labels(frames, 0), task)) == len(frames)
