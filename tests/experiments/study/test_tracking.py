"""Finished jobs in MLflow."""

import logging
from pathlib import Path
from typing import Any

import pytest

from experiments.study.tracking import StudyTracker, numbers_of

RESULT: dict[str, Any] = {
    "job": {
        "scenario": "apart",
        "row": "FedAvg",
        "group": "g",
        "seed": 1,
        "trial": 0,
        "purpose": "final",
        "model_of": "global",
        "settings": {"train.steps": 3, "strategy": "fedavg"},
    },
    "validation": {"dice": 0.5, "cldice": None},
    "test": {"dice": 0.4, "sites": {"silo 1": {"dice": float("nan"), "breaks": 2}}},
    "cross": {},
    "few_shot": {"neuro": {"5": {"dice": [0.1, 0.2]}}},
    "curve": [
        {"round": 0, "dice": None, "bytes": 10},
        {"round": 1, "dice": 0.5, "bytes": 20},
    ],
    "cost": {"rounds": 1},
}


def test_every_number_has_a_name_and_its_round() -> None:
    assert set(numbers_of(RESULT)) == {
        ("validation/dice", 0.5, 0),
        ("test/dice", 0.4, 0),
        ("test/sites/silo 1/breaks", 2.0, 0),
        ("few_shot/neuro/5/dice/0", 0.1, 0),
        ("few_shot/neuro/5/dice/1", 0.2, 0),
        ("cost/rounds", 1.0, 0),
        ("curve/bytes", 10.0, 0),
        ("curve/bytes", 20.0, 1),
        ("curve/dice", 0.5, 1),
    }


def test_a_job_gets_one_run_in_the_experiment_of_its_study(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    StudyTracker(tmp_path, "small").log("job-1", RESULT)
    again = StudyTracker(tmp_path, "small")  # the study goes on later
    again.log("job-1", RESULT)
    again.log("job-2", RESULT)

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["job-1", "job-2"]
    assert runs[0].data.params["row"] == "FedAvg"
    assert runs[0].data.params["train.steps"] == "3"
    assert runs[0].data.metrics["test/dice"] == 0.4
    assert runs[0].info.status == "FINISHED"


def test_a_tracker_that_fails_costs_one_warning_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> None:
        raise OSError(f"cannot write {folder}")

    monkeypatch.setattr("experiments.study.tracking.open_database", fail)
    tracker = StudyTracker(tmp_path, "small")
    with caplog.at_level(logging.WARNING):
        tracker.log("job-1", RESULT)
        tracker.log("job-2", RESULT)
    assert len(caplog.records) == 1
    assert "OSError" in caplog.text
    assert str(tmp_path) not in caplog.text


def test_a_study_may_do_without(tmp_path: Path) -> None:
    StudyTracker(tmp_path, "small", enabled=False).log("job-1", RESULT)
    assert list(tmp_path.iterdir()) == []
