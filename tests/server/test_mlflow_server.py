"""MLflow of a deployed centre: one place for all runs, named by the environment."""

import time
from datetime import datetime
from pathlib import Path

import pytest

from experiments.superlink import free_port
from server.journal import Journal, read_events
from server.records import ResultRecord, RoundRecord
from server.tracking import MlflowTracker

SETTINGS = {"strategy": "fedavg", "seed": 1}
ROUND = RoundRecord(
    round=1,
    seconds=1.0,
    sites={"a": {"val/dice": 0.5}},
    overall={"val/dice": 0.5},
    edges=(),
)
RESULT = ResultRecord(
    status="completed",
    rounds=1,
    sites=("a",),
    missing=(),
    test={"a": {"test/dice": 0.75}},
    overall={"test/dice": 0.75},
)


def mirror(folder: Path) -> tuple[MlflowTracker, Journal]:
    journal = Journal.create(str(folder), SETTINGS, datetime(2026, 11, 21))
    tracker = MlflowTracker(journal, SETTINGS, ["a"])
    tracker.log_round(ROUND)
    tracker.log_files([journal.folder / "settings.json"], "run")
    tracker.end(RESULT)
    return tracker, journal


def test_runs_go_into_one_database_with_their_artifacts_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    tracking = tmp_path / "tracking"
    tracking.mkdir()
    address = f"sqlite:///{tracking / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    for name in ("first", "second"):
        tracker, journal = mirror(tmp_path / name)
        assert not tracker.failed
        assert not (journal.folder / "mlflow.db").exists()
    client = MlflowClient(tracking_uri=address)
    [experiment] = [e for e in client.search_experiments() if e.name == "endofed"]
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if run.data.tags["fl.role"] == "server"]
    assert len(parents) == 2
    assert {run.data.metrics["test/dice"] for run in parents} == {0.75}
    assert list((tracking / "mlartifacts").rglob("settings.json"))


@pytest.mark.parametrize("kind", ["http", "sqlite"])
def test_a_place_that_cannot_be_reached_never_stops_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    nowhere = tmp_path / "no-such-folder" / "mlflow.db"
    address = f"http://127.0.0.1:{free_port()}" if kind == "http" else nowhere
    address = str(address) if kind == "http" else f"sqlite:///{address}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    started = time.monotonic()
    tracker, journal = mirror(tmp_path / "run")
    assert tracker.failed
    assert time.monotonic() - started < 25
    assert "tracking" in {e["event"] for e in read_events(journal.events_path)}
