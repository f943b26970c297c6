from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clients.adaptation.coarse import train_coarse
from clients.adaptation.fine_stage import FineStage, prepare_pair
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from experiments.adaptation.job import Job
from experiments.adaptation.stage_files import StageFiles
from experiments.adaptation.stages import Pipeline
from experiments.adaptation.study import curve_of
from experiments.adaptation.targets import Target
from models.classes import CLASS_NAMES
from tests.experiments.adaptation.small_study import small_job, small_target


def pipeline(job: Job, folder: Path, heard: list | None = None) -> Pipeline:
    told = [] if heard is None else heard
    return Pipeline(job, StageFiles(folder, on_stage=lambda *one: told.append(one)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stages")


@pytest.fixture(scope="module")
def line(folder: Path) -> Pipeline:
    """All stages, computed once."""
    done = pipeline(small_job(small_target()), folder)
    _ = done.pair
    return done


def bits(line: Pipeline) -> dict[str, bytes]:
    return {
        f"{name}.{key}": tensor.numpy().tobytes()
        for name, network in zip(("teacher", "student"), line.pair, strict=True)
        for key, tensor in network.state_dict().items()
    }


def test_a_second_run_computes_nothing_and_ends_with_the_same_bits(
    line: Pipeline, folder: Path
) -> None:
    heard: list[tuple[str, bool]] = []
    again = pipeline(small_job(small_target()), folder, heard)
    assert bits(again) == bits(line)
    assert torch.equal(again.guides.adaptation, line.guides.adaptation)
    assert [name for name, _ in heard] == [
        "synthetic",
        "coarse",
        "pseudo-labels",
        "fine",
    ]
    assert all(is_done for _, is_done in heard)


def garbage(frames: FrameSet) -> FrameSet:
    everything = torch.ones_like(frames.annotated)
    return replace(frames, masks=1 - frames.masks, annotated=everything)


def test_masks_of_the_target_change_no_bit_of_what_is_learned(
    line: Pipeline, tmp_path: Path
) -> None:
    target = line.job.target
    assert target.test is not None
    wrong = Target(garbage(target.adaptation), garbage(target.test), {})
    other = pipeline(small_job(wrong), tmp_path)
    assert bits(other) == bits(line)
    assert torch.equal(other.guides.labelled.masks, line.guides.labelled.masks)
    curves = [one.fine_stage.facts["start"] for one in (line, other)]
    assert curves[0].keys() == curves[1].keys() == {"student", "teacher"}


def test_the_coarse_network_comes_back_from_its_file_as_it_was_trained(
    line: Pipeline,
) -> None:
    job = line.job
    trained = train_coarse(
        job.start,
        line.synthetic,
        job.settings,
        seed=job.seed_of("coarse"),
        device=job.device,
    )
    images = job.target.adaptation.images
    with torch.no_grad():
        assert torch.equal(line.coarse(images), trained(images))


def test_teacher_and_student_come_back_from_their_file_as_they_were_trained(
    line: Pipeline,
) -> None:
    job = line.job
    teacher, student = prepare_pair(job.start, job.settings, job.seed_of("pair"))
    stage = FineStage(
        teacher, student, job.settings, seed=job.seed_of("fine"), device=job.device
    )
    stage.run(line.guides.labelled)
    images = job.target.adaptation.images
    with torch.no_grad():
        for kept, trained in zip(line.pair, (teacher, student), strict=True):
            assert torch.equal(kept(images), trained(images))
            assert not torch.equal(kept(images), job.start(images))


def test_another_seed_or_setting_computes_what_depends_on_it_and_no_more(
    line: Pipeline, folder: Path
) -> None:
    heard: list[tuple[str, bool]] = []
    settings = replace(line.job.settings, epochs=1)
    _ = pipeline(replace(line.job, settings=settings), folder, heard).fine_stage
    assert [name for name, is_done in heard if not is_done] == ["fine"]
    heard.clear()
    _ = pipeline(replace(line.job, seed=9), folder, heard).guides_stage
    assert all(not is_done for _, is_done in heard)


def test_pseudo_labels_are_of_the_adapted_classes_alone(
    line: Pipeline, tmp_path: Path
) -> None:
    place = CLASS_NAMES.index("guidewire")
    assert line.guides.labelled.annotated.all()
    settings = replace(line.job.settings, classes="guidewire")
    guides = pipeline(replace(line.job, settings=settings), tmp_path).guides
    assert guides.labelled.annotated[:, place].all()
    assert not guides.labelled.annotated[:, 1 - place].any()
    assert not guides.adaptation[:, 1 - place].any()
    assert guides.adaptation[:, place].any()


def test_without_the_coarse_stage_labels_come_from_the_start(
    line: Pipeline, tmp_path: Path
) -> None:
    job = line.job
    settings = replace(job.settings, threshold=0.001)
    heard: list[tuple[str, bool]] = []
    own = replace(job, settings=settings, labels_from="start")
    _ = pipeline(own, tmp_path, heard).guides_stage
    assert [name for name, _ in heard] == ["pseudo-labels"]


def test_no_pseudo_label_is_an_error_and_the_stages_before_are_kept(
    line: Pipeline, folder: Path
) -> None:
    settings = replace(line.job.settings, threshold=0.999)
    heard: list[tuple[str, bool]] = []
    strict = pipeline(replace(line.job, settings=settings), folder, heard)
    with pytest.raises(DataError, match="none of 4 frames keeps one"):
        _ = strict.fine_stage
    assert [one for one in heard if one[1]] == [("synthetic", True), ("coarse", True)]


def test_the_curve_begins_before_the_first_epoch(line: Pipeline) -> None:
    curve = curve_of(line)
    assert curve is not None
    assert curve.epochs == line.job.settings.epochs
    assert curve.switch == line.job.settings.warmup_epochs


def test_without_truth_there_is_no_curve(line: Pipeline, tmp_path: Path) -> None:
    bare = replace(line.job, target=Target(line.job.target.unlabelled, None, {}))
    assert curve_of(pipeline(bare, tmp_path)) is None
