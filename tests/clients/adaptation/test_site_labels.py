"""Pseudo-labels of a site: from its images and simulation alone, kept in a file."""

import logging
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clients.adaptation import site_labels
from clients.adaptation.label_plan import LabelPlan
from clients.adaptation.site_labels import FOLDER, label_site, simulate_source
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from clients.data.simulator import simulate_frames
from clients.optimisation import TrainingError
from models.assembly import Recipe
from strategies.settings import RunSettings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def frames() -> FrameSet:
    return simulate_frames(
        "phantom", patients=5, frames_per_patient=1, image_size=32, seed=0
    )


@pytest.fixture
def plan(run_settings: RunSettings) -> LabelPlan:
    settings = replace(
        run_settings.adapt,
        classes="guidewire",
        source_frames=4,
        background="none",
        coarse_network="sam",
        coarse_epochs=1,
        training="full",
        cleaning="none",
        threshold=0.01,  # what next to no training predicts is all but empty
    )
    data = replace(run_settings.frames, frame_size=32)
    return LabelPlan("bare", Recipe("sam-tiny", 32, seed=0), settings, data, seed=3)


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("a network was trained again")


def label(frames: FrameSet, plan: LabelPlan, cache: Path) -> FrameSet:
    return label_site(frames, plan, device=CPU, cache=cache)


def files(cache: Path) -> list[Path]:
    return sorted((cache / FOLDER).glob("*.safetensors"))


def test_labelled_frames_have_a_mask_and_the_adapted_classes(
    frames: FrameSet, plan: LabelPlan, tmp_path: Path
) -> None:
    found = label(frames, plan, tmp_path)
    assert found.annotated.tolist() == [[False, True]] * len(found)
    assert bool(found.masks[:, 1].amax((1, 2)).all())
    assert not bool(found.masks[:, 0].any())
    kept = [(frames.images == one).all((1, 2, 3)).nonzero() for one in found.images]
    assert [len(one) for one in kept] == [1] * len(found)


def test_the_truth_is_not_looked_at_even_by_the_name_of_the_file(
    frames: FrameSet, plan: LabelPlan, tmp_path: Path
) -> None:
    garbage = torch.randint(0, 2, frames.masks.shape, dtype=torch.uint8)
    first = label(frames, plan, tmp_path / "a")
    second = label(replace(frames, masks=garbage), plan, tmp_path / "b")
    assert first.digest() == second.digest()
    (one,), (other,) = files(tmp_path / "a"), files(tmp_path / "b")
    assert one.name == other.name


def test_labels_are_read_again_and_a_damaged_file_is_made_again(
    frames: FrameSet,
    plan: LabelPlan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = label(frames, plan, tmp_path)
    (kept,) = files(tmp_path)
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    with monkeypatch.context() as patch:
        patch.setattr(site_labels, "train_coarse", refuse)
        assert label(frames, plan, tmp_path).digest() == first.digest()
    size = kept.stat().st_size
    kept.write_bytes(kept.read_bytes()[: size // 2])
    with caplog.at_level(logging.INFO):
        assert label(frames, plan, tmp_path).digest() == first.digest()
    assert "made again" in caplog.text and str(tmp_path) not in caplog.text
    assert kept.stat().st_size == size


def test_what_decides_the_labels_decides_the_name_of_the_file(
    frames: FrameSet, plan: LabelPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label(frames, plan, tmp_path)
    monkeypatch.setattr(site_labels, "train_coarse", refuse)
    others = [
        replace(plan, site="other"),
        replace(plan, seed=4),
        replace(plan, recipe=replace(plan.recipe, seed=1)),
        replace(plan, settings=replace(plan.settings, coarse_epochs=2)),
        replace(plan, devices_are_dark=True),
    ]
    for other in others:
        with pytest.raises(AssertionError, match="trained again"):
            label(frames, other, tmp_path)
    with pytest.raises(AssertionError, match="trained again"):
        label(frames.subset(torch.arange(4)), plan, tmp_path)


def test_all_sites_learn_from_the_same_simulated_frames(plan: LabelPlan) -> None:
    settings = replace(plan.settings, source_domains="simulation, human")
    here = simulate_source(replace(plan, settings=settings))
    there = simulate_source(replace(plan, settings=settings, site="other"))
    assert here.digest() == there.digest()
    assert len(here) == 4 and bool(here.annotated.all())
    other_run = simulate_source(replace(plan, settings=settings, seed=4))
    assert other_run.digest() != here.digest()


def test_a_deadline_ends_the_training_and_nothing_is_kept(
    frames: FrameSet, plan: LabelPlan, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="coarse stage reached 1 of 4 steps in 0 s"):
        label_site(frames, plan, device=CPU, cache=tmp_path, deadline_s=0.0)
    assert files(tmp_path) == []


def test_a_large_site_labels_some_of_its_frames(
    frames: FrameSet, plan: LabelPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_labels, "MAX_FRAMES", 2)
    assert 1 <= len(label(frames, plan, tmp_path)) <= 2


def test_a_site_of_which_nothing_is_left_says_so(
    frames: FrameSet, plan: LabelPlan, tmp_path: Path
) -> None:
    settings = replace(plan.settings, threshold=1 - 1e-6)
    with pytest.raises(DataError, match="none of 5 frames keeps one"):
        label(frames, replace(plan, settings=settings), tmp_path)
    assert files(tmp_path) == []
