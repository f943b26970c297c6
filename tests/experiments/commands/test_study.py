"""`endofed study` from the command line."""

import json
from pathlib import Path

import pytest
from filelock import FileLock
from typer.testing import CliRunner, Result

from experiments.cli import app
from tests.experiments.study.tiny import row, study_table, write_study

UNTRAINED = {"name": "none", "group": "untrained", "kind": "untrained"}


def run(path: Path, *options: str) -> Result:
    folder = path.parent / "studies"
    return CliRunner().invoke(
        app, ["study", str(path), "--folder", str(folder), *options]
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_study(
        tmp_path, study_table(row("FedAvg", strategy="fedavg"), UNTRAINED)
    )


def test_a_dry_run_shows_rows_steps_and_jobs_and_trains_nothing(path: Path) -> None:
    result = run(path, "--dry-run", "--set", "train.steps=5")
    assert result.exit_code == 0
    (line,) = [one for one in result.stdout.splitlines() if "FedAvg" in one]
    assert line.split()[-5:] == ["5", "5", "0", "0", "5"]
    assert "0 of 2 jobs are finished" in result.stdout
    assert not list(path.parent.rglob("job.json"))


def test_a_study_runs_goes_on_and_is_reported_again(tmp_path: Path) -> None:
    wild = row("wild", strategy="fedavg", train__learning_rate=1e30)
    fedavg = row("FedAvg", strategy="fedavg")
    path = write_study(tmp_path, study_table(wild, fedavg, UNTRAINED))
    options = ("--workers", "1", "--no-mlflow")

    # A job that fails is told, and the others go on.
    first = run(path, *options)
    assert first.exit_code == 1
    assert "apart, wild, trial 1, seed 0: failed: Only 0 of" in first.stdout
    assert "apart, FedAvg, trial 1, seed 0: final done in" in first.stdout
    assert "1 job(s) failed" in first.stdout
    (error,) = tmp_path.rglob("jobs/*/error.json")
    assert "training did not diverge" in json.loads(error.read_text())["reason"]
    results = sorted(tmp_path.rglob("jobs/*/result.json"))
    assert [json.loads(one.read_text())["job"]["row"] for one in results] == [
        "FedAvg",
        "none",
    ]

    # What is done is not done again.
    before = [one.stat().st_mtime_ns for one in results]
    second = run(path, *options, "--only", "FedAvg", "--only", "none")
    assert second.exit_code == 0, second.output
    assert "done in" not in second.stdout

    target = tmp_path / "report"
    third = run(path, "--report", "--target", str(target))
    assert third.exit_code == 0
    assert "FedAvg" in (target / "README.md").read_text()
    assert [one.stat().st_mtime_ns for one in results] == before


def test_rows_on_unequal_terms_are_refused_before_anything_runs(
    tmp_path: Path,
) -> None:
    budget = {"steps-per-silo": 4, "equal-steps": ["rivals"]}
    path = write_study(tmp_path, study_table(budget=budget))
    result = run(path)
    assert result.exit_code == 2
    assert "row 'FedAvg' takes 1 steps per silo" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only", "FedProx"], "--only names rows that the study has not: FedProx"),
        (["--report"], "There is nothing to report"),
        (["--set", "train.stps=1"], "did you mean train.steps?"),
        (["--report", "--only", "FedAvg"], "--only has no place beside it"),
        (["--report", "--dry-run"], "--dry-run has no place beside it"),
        (["--dry-run", "--target", "x"], "--target has no place beside it"),
    ],
)
def test_a_mistake_is_one_message(path: Path, options: list[str], said: str) -> None:
    result = run(path, *options)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def test_two_processes_do_not_play_one_study(path: Path) -> None:
    study = path.parent / "studies" / "tiny"
    study.mkdir(parents=True)
    with FileLock(study / ".lock"):
        result = run(path, "--no-mlflow")
    assert result.exit_code == 2
    assert "Another process plays this study" in " ".join(result.stderr.split())
