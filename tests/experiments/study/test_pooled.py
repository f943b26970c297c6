"""One model on the frames of all silos."""

from pathlib import Path

import pytest
import torch

from clients.data.frames import FrameSet
from clients.optimisation import TrainPlan, TrainReport
from clients.training import train_on_labels
from experiments.study.pooled import open_hospitals, pool_frames, train_pooled
from experiments.study.training import settings_of, train
from models.network import SegmentationNetwork
from strategies.federation_state import equal_states
from strategies.moments import Moments
from tests.experiments.study.tiny import job_of

POOLED = {"name": "pooled", "group": "g", "kind": "pooled"}


def test_the_pool_has_the_training_frames_of_all_silos_in_order(tmp_path: Path) -> None:
    settings = settings_of(job_of(tmp_path, POOLED))
    hospitals = open_hospitals(settings, 2)
    pool = pool_frames(hospitals, settings)
    parts = [
        one.split.train.subset(torch.arange(len(one.split.train))) for one in hospitals
    ]
    assert [one.name for one in hospitals] == ["silo-1", "silo-2"]
    assert torch.equal(pool.images, torch.cat([one.images for one in parts]))
    assert torch.equal(pool.patients, torch.cat([one.patients for one in parts]))
    tested = torch.cat([one.split.test.patients for one in hospitals])
    assert not set(pool.patients.tolist()) & set(tested.tolist())


@pytest.mark.parametrize(("factor", "steps"), [(None, 2 * 3), (1, 3), (1.5, 4)])
def test_a_round_has_the_steps_of_all_silos_or_as_many_as_asked(
    factor: float | None,
    steps: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plans: list[TrainPlan] = []
    monkeypatch.setattr(
        "experiments.study.pooled.train_on_labels",
        lambda model, frames, plan, device: plans.append(plan) or TrainReport(),
    )
    row = {**POOLED, "settings": {"num-rounds": 2, "train.steps": 3}}
    if factor is not None:
        row["pooled-steps-factor"] = factor
    job = job_of(tmp_path, row)
    settings = settings_of(job)
    train_pooled(job, settings, 2)
    assert [plan.steps for plan in plans] == [steps, steps]
    assert plans[0].seed != plans[1].seed
    assert plans[1].learning_rate == settings.train.learning_rate_in(2, 2)


def test_the_pooled_model_learns_and_is_the_same_again(tmp_path: Path) -> None:
    job = job_of(tmp_path, {**POOLED, "settings": {"train.steps": 2}})
    first = train(job, tmp_path / "first")
    second = train(job, tmp_path / "second")
    before = train(
        job_of(tmp_path, {**POOLED, "kind": "untrained"}), tmp_path / "before"
    )
    assert first.theta is not None
    assert second.theta is not None
    assert before.theta is not None
    assert equal_states(first.theta, second.theta)
    assert not equal_states(first.theta, before.theta)
    (point,) = first.curve
    assert (point["round"], point["steps"], point["bytes"]) == (1, 2, 0)
    assert first.cost["server_steps"] == 4
    assert 0 <= point["dice"] <= 1


@pytest.mark.parametrize(
    ("moments", "known"), [("fresh", [None, None]), ("carried", [0, 4])]
)
def test_the_optimiser_starts_afresh_every_round_or_goes_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moments: str,
    known: list[int | None],
) -> None:
    seen: list[Moments | None] = []

    def note(
        model: SegmentationNetwork,
        frames: FrameSet,
        plan: TrainPlan,
        device: torch.device,
    ) -> TrainReport:
        seen.append(plan.moments)
        return train_on_labels(model, frames, plan, device)

    monkeypatch.setattr("experiments.study.pooled.train_on_labels", note)
    settings = {
        "num-rounds": 2,
        "train.steps": 2,
        "fedefm.route": "tour",
        "fedefm.moments": moments,
        "fedefm.teachers": "none",
    }
    job = job_of(tmp_path, {**POOLED, "settings": settings})
    train_pooled(job, settings_of(job), 2)
    assert [None if one is None else one.steps for one in seen] == known


def test_it_is_measured_as_often_as_a_federation(tmp_path: Path) -> None:
    settings = {"num-rounds": 3, "evaluation.every-rounds": 2}
    job = job_of(tmp_path, {**POOLED, "settings": settings})
    _, curve = train_pooled(job, settings_of(job), 2)
    assert [point["round"] for point in curve] == [2, 3]
