from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clients.annotations.annotation import LabelMap
from clients.data.catalogue import FolderSpec
from clients.data.errors import DataError
from experiments.adaptation.targets import (
    Target,
    folder_target,
    has_truth,
    simulated_target,
    source_frames,
)
from experiments.finetuning.split import DataChoice
from experiments.model_source import data_settings_of
from tests.experiments.adaptation.small_study import (
    SIZE,
    small_plan,
    small_target,
    write_folder,
)

SETTINGS = data_settings_of({}, SIZE)


def choice_of(folder: Path, **declared: object) -> DataChoice:
    spec = FolderSpec(folder, layout="pairs", labels=LabelMap(("catheter",)))
    return DataChoice(spec=replace(spec, **declared), split_by="sequence")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("site"))


def test_what_training_sees_has_no_mask_and_no_annotated_class() -> None:
    target = small_target()
    assert target.adaptation.masks.any()
    assert not target.unlabelled.masks.any()
    assert not target.unlabelled.annotated.any()
    assert torch.equal(target.unlabelled.images, target.adaptation.images)
    assert has_truth(target.adaptation, [0, 1])
    assert not has_truth(target.unlabelled, [0, 1])
    assert not has_truth(None, [0])


def test_test_frames_are_of_other_patients_and_stay_when_patients_are_added() -> None:
    small, large = small_plan(), small_plan(**{"target-patients": 5})
    few, more = simulated_target(small, SIZE), simulated_target(large, SIZE)
    assert few.test is not None
    assert more.test is not None
    assert few.test.digest() == more.test.digest()
    mine, held_out = few.adaptation.patients.tolist(), few.test.patients.tolist()
    assert not set(mine) & set(held_out)
    assert len(more.adaptation) - len(few.adaptation) == 2 * 2
    assert torch.equal(more.adaptation.images[: len(mine)], few.adaptation.images)


def test_fewer_frames_are_some_of_more() -> None:
    target = small_target()
    pictures = {
        count: {
            one.numpy().tobytes()
            for one in target.first(count, seed=4).adaptation.images
        }
        for count in (1, 2, 3)
    }
    assert [len(one) for one in pictures.values()] == [1, 2, 3]
    assert pictures[1] < pictures[2] < pictures[3]
    assert target.first(0, seed=4) is target
    assert target.first(99, seed=4) is target


def test_no_sequence_of_a_folder_is_in_both_parts(folder: Path) -> None:
    target = folder_target(small_plan(), choice_of(folder), SETTINGS)
    assert target.test is not None
    mine, held_out = target.adaptation.sequences, target.test.sequences
    assert not set(mine.tolist()) & set(held_out.tolist())
    assert len(mine) + len(held_out) == 8
    assert target.adaptation.annotated[:, 0].all()
    assert not target.adaptation.annotated[:, 1].any()
    chosen = target.description["chosen"]
    assert len(chosen["train"]) == 3
    assert len(chosen["test"]) == 1


def test_nothing_said_of_a_folder_has_a_name(folder: Path) -> None:
    target = folder_target(small_plan(), choice_of(folder), SETTINGS)
    assert "SECRET" not in repr(target.description)
    assert "SECRET" not in repr(target.files)
    assert len(target.files) == 8
    assert len({one.name for one in target.files}) == 8
    assert all(one.name.startswith("S-") for one in target.files)


def test_a_folder_without_masks_adapts_with_all_frames(tmp_path: Path) -> None:
    bare = write_folder(tmp_path / "bare", with_masks=False, sequences=1)
    target = folder_target(small_plan(), choice_of(bare), SETTINGS)
    assert len(target.adaptation) == 2
    assert target.test is None
    assert not has_truth(target.adaptation, [0, 1])


def test_masks_are_not_opened_where_nobody_wants_them(tmp_path: Path) -> None:
    site = write_folder(tmp_path / "site")
    for mask in (site / "masks").iterdir():
        mask.write_bytes(b"no picture at all")
    with pytest.raises(DataError, match="a mask file is no PNG"):
        folder_target(small_plan(), choice_of(site), SETTINGS)
    target = folder_target(small_plan(), choice_of(site, unlabelled=True), SETTINGS)
    assert len(target.adaptation) == 8


def test_a_large_folder_gives_no_more_frames_than_wanted(folder: Path) -> None:
    plan = small_plan(**{"max-frames": 3})
    target = folder_target(plan, choice_of(folder), SETTINGS)
    assert len(target.adaptation) == 3


def test_a_labelled_folder_may_be_the_source(folder: Path) -> None:
    frames = source_frames(small_plan(), (), choice_of(folder), SETTINGS)
    assert len(frames) == 2 * 2
    assert frames.annotated[:, 0].all()


def test_a_domain_that_does_not_exist_is_refused_without_being_named() -> None:
    with pytest.raises(DataError, match="neither") as error:
        simulated_target(small_plan(target="/data/DOE^JANE"), SIZE)
    assert "DOE" not in str(error.value)


def test_a_target_keeps_its_frames_apart_from_its_truth() -> None:
    target = small_target()
    garbage = replace(
        target.adaptation,
        masks=1 - target.adaptation.masks,
        annotated=everything(target),
    )
    other = Target(garbage, target.test, {})
    assert other.unlabelled.digest() == target.unlabelled.digest()


def everything(target: Target) -> torch.Tensor:
    return torch.ones_like(target.adaptation.annotated)
