from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clients.adaptation.prompting import segment
from clients.adaptation.scores import score_masks
from clients.data.errors import DataError
from experiments.adaptation.rows import Rows
from experiments.adaptation.stage_files import StageFiles
from experiments.adaptation.stages import Pipeline
from experiments.adaptation.targets import Target
from models.classes import CLASS_NAMES
from tests.experiments.adaptation.small_study import small_job, small_target


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stages")


@pytest.fixture(scope="module")
def rows(folder: Path) -> Rows:
    files = StageFiles(folder)
    return Rows(Pipeline(small_job(small_target()), files), files)


@pytest.mark.parametrize("row", ["direct", "pseudo-labels", "sam-box", "tent"])
def test_a_row_is_measured_on_both_parts(rows: Rows, row: str) -> None:
    found = rows.get(row)
    test = small_target().test
    assert test is not None
    assert found.masks.shape == test.masks.shape
    assert found.masks.dtype == torch.uint8
    assert found.scores["test"] == score_masks(found.masks, test, CLASS_NAMES)
    assert found.scores["adaptation"].overall is not None
    assert found.scores["adaptation"].overall.frames == 4


def test_direct_transfer_is_the_coarse_network_above_the_threshold(rows: Rows) -> None:
    line = rows._pipeline
    test = line.job.target.test
    assert test is not None
    logits = segment(line.coarse, test, batch_size=2, device=line.job.device, seed=0)
    chances = logits.sigmoid() > line.job.settings.threshold
    assert torch.equal(rows.get("direct").masks, (chances & test.valid).byte())


def test_a_row_is_read_back_where_it_was_measured(rows: Rows, folder: Path) -> None:
    found = rows.get("sam-box")
    heard: list[tuple[str, bool]] = []
    files = StageFiles(folder, on_stage=lambda *one: heard.append(one))
    again = Rows(Pipeline(small_job(small_target()), files), files).get("sam-box")
    assert heard[-1] == ("row-sam-box", True)
    assert torch.equal(again.masks, found.masks)
    assert again.scores == found.scores


def test_other_truth_is_measured_again(rows: Rows, folder: Path) -> None:
    target = small_target()
    assert target.test is not None
    fewer = target.test.masks.clone()
    fewer[0] = 0
    other = replace(target.test, masks=fewer)
    heard: list[tuple[str, bool]] = []
    files = StageFiles(folder, on_stage=lambda *one: heard.append(one))
    job = small_job(replace(target, test=other))
    found = Rows(Pipeline(job, files), files).get("direct")
    assert heard[-1] == ("row-direct", False)
    assert torch.equal(found.masks, rows.get("direct").masks)
    assert found.scores["test"] != rows.get("direct").scores["test"]


def test_only_adapted_classes_are_found(tmp_path: Path) -> None:
    job = small_job(small_target())
    job = replace(job, settings=replace(job.settings, classes="catheter"))
    files = StageFiles(tmp_path)
    masks = Rows(Pipeline(job, files), files).get("direct").masks
    assert masks[:, CLASS_NAMES.index("catheter")].any()
    assert not masks[:, CLASS_NAMES.index("guidewire")].any()


def test_real_labels_are_wanted_where_there_are_none(tmp_path: Path) -> None:
    bare = Target(small_target().unlabelled, None, {})
    files = StageFiles(tmp_path)
    with pytest.raises(DataError, match="trains on labels of the target"):
        Rows(Pipeline(small_job(bare), files), files).get("real")


def test_without_truth_a_row_has_masks_and_no_scores(tmp_path: Path) -> None:
    bare = Target(small_target().unlabelled, None, {})
    files = StageFiles(tmp_path)
    found = Rows(Pipeline(small_job(bare), files), files).get("sam-none")
    assert found.scores.keys() == {"adaptation"}
    assert found.scores["adaptation"].overall is None
    assert len(found.masks) == 4


def test_a_row_that_does_not_exist_is_refused(rows: Rows) -> None:
    with pytest.raises(DataError, match="one of sam-none, direct"):
        rows.get("theirs")
