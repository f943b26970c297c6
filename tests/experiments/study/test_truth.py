"""A study's test frames say what the simulator knows, and nothing else changes."""

from pathlib import Path

import pytest
import torch

from clients.hospital import Hospital
from experiments.study.testing import measure
from experiments.study.truth import with_truth
from strategies.settings import RunSettings, SettingValue
from tests.experiments.study.small_federation import (
    Config,
    ended,
    job_of,
    small_config,
)

GUIDEWIRE = 1


@pytest.fixture
def whole(run_config: dict[str, SettingValue], tmp_path: Path) -> Config:
    return small_config(run_config, tmp_path)


def hospital_of(config: Config) -> Hospital:
    return Hospital.from_node_config(
        {"partition-id": 0, "num-partitions": 2}, RunSettings.from_run_config(config)
    )


def annotating(whole: Config, classes: str, folder: Path) -> Config:
    """The same sites, of which the first says what it annotates."""
    path = folder / "partly.toml"
    text = Path(str(whole["sites"])).read_text()
    first = 'domain = "human"\n'
    assert first in text
    path.write_text(text.replace(first, f"{first}{classes}\n"))
    return {**whole, "sites": str(path)}


@pytest.mark.parametrize("classes", ['classes = ["catheter"]', 'labels = "none"'])
def test_only_test_frames_show_what_nobody_annotated(
    whole: Config, classes: str, tmp_path: Path
) -> None:
    config = annotating(whole, classes, tmp_path)
    plain, complete = hospital_of(config), hospital_of(whole)
    found = with_truth(plain, RunSettings.from_run_config(config))
    assert not plain.split.test.annotated[:, GUIDEWIRE].any()
    for part in ("images", "masks", "annotated", "patients"):
        wanted = getattr(complete.split.test, part)
        assert torch.equal(getattr(found.split.test, part), wanted)
    assert found.split.test.annotated.all()
    for part in ("train", "validation"):
        assert getattr(found.split, part) is getattr(plain.split, part)
    assert found.is_unlabelled == plain.is_unlabelled


def test_a_hospital_that_annotates_all_is_left_as_it_is(whole: Config) -> None:
    hospital = hospital_of(whole)
    assert with_truth(hospital, RunSettings.from_run_config(whole)) is hospital


def test_a_study_measures_by_the_truth(whole: Config, tmp_path: Path) -> None:
    config = annotating(whole, 'classes = ["catheter"]', tmp_path)
    partly, complete = (measure(ended(one), job_of(one)) for one in (config, whole))
    assert partly["test"] == complete["test"]
    assert partly["validation"] != complete["validation"]
