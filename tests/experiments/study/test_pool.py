"""Workers side by side, and what a worker does with a job."""

import json
import time
from pathlib import Path

import pytest

from clients.optimisation import TrainingError
from experiments.study import jobs
from experiments.study.pool import DIED, Ended, Pool
from experiments.study.worker import do_job, safe_reason
from tests.experiments.study.stub_worker import serve
from tests.experiments.study.tiny import job_of


def wait_for(pool: Pool, number: int) -> dict[str, str]:
    ended: list[Ended] = []
    while len(ended) < number:
        ended += pool.wait(30.0)
    return {one.job: one.reason for one in ended}


def test_jobs_run_side_by_side_each_with_one_thread(tmp_path: Path) -> None:
    with Pool(tmp_path, 2, target=serve) as pool:
        pool.begin("one", "training-1")
        assert pool.has_room
        pool.begin("fails", "training-2")
        assert not pool.has_room
        assert pool.trainings == {"training-1", "training-2"}
        assert wait_for(pool, 2) == {"one": "", "fails": "it fails"}
        assert not pool.running
    assert (tmp_path / "one").read_text() == "1"


def test_a_worker_that_dies_costs_its_job_and_is_replaced(tmp_path: Path) -> None:
    with Pool(tmp_path, 1, target=serve) as pool:
        pool.begin("dies", "t")
        assert wait_for(pool, 1) == {"dies": DIED}
        pool.begin("next", "t")
        assert wait_for(pool, 1) == {"next": ""}


def test_a_worker_that_dies_between_two_jobs_is_replaced(tmp_path: Path) -> None:
    with Pool(tmp_path, 1, target=serve) as pool:
        pool.begin("leaves", "t")
        assert wait_for(pool, 1) == {"leaves": ""}
        (process,) = pool.processes
        process.join(30)
        pool.begin("next", "t")
        assert wait_for(pool, 1) == {"next": ""}
        assert pool.processes != [process]


def test_who_leaves_early_ends_the_workers(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Pool(tmp_path, 1, target=serve) as pool:
        pool.begin("hangs", "t")
        while not (tmp_path / "hanging").exists():
            time.sleep(0.05)
        (process,) = pool.processes
        raise KeyboardInterrupt
    assert not process.is_alive()


def test_a_job_leaves_its_measures_curve_and_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tmp_path / "study"
    job = job_of(tmp_path, {"name": "none", "group": "g", "kind": "untrained"})
    folder = jobs.write_job(study, job)
    found = {"validation": {"dice": 0.5}, "test": {}, "cross": {}, "few_shot": {}}
    monkeypatch.setattr(
        "experiments.study.testing.measure", lambda trained, job: dict(found)
    )
    assert do_job(study, folder) == ""
    result = json.loads((folder / "result.json").read_text())
    assert {name: result[name] for name in found} == found
    assert result["format"] == 1
    assert result["job"]["row"] == "none"
    assert result["cost"]["rounds"] == 0
    assert result["duration_s"] > 0
    assert "torch" in result["versions"]
    assert len(result["versions"]["code"]) == 10


def test_a_job_that_fails_leaves_a_safe_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tmp_path / "study"
    folder = jobs.write_job(study, job_of(tmp_path))

    def fail(*_: object) -> None:
        raise OSError("/data/patient-17/secret.dcm")

    monkeypatch.setattr("experiments.study.training.train", fail)
    reason = do_job(study, folder)
    assert "OSError" in reason
    assert "secret" not in reason
    assert json.loads((folder / "error.json").read_text())["reason"] == reason
    assert not (folder / "result.json").exists()


def test_our_own_errors_are_told_in_their_words() -> None:
    assert safe_reason(TrainingError("the loss became nan")) == "the loss became nan"
