import getpass
import json
import logging
import math
import os
import platform
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from server.journal import Journal, read_events
from server.mlflow_page import ui_command
from server.records import EdgeRecord, ResultRecord, RoundRecord
from server.tracking import MlflowTracker, NoTracker, open_tracker

SITES = ("b", "a", "c")
EDGES = (
    EdgeRecord("a", "b", 0.9, 0.4, gap=1e-9, teacher_loss=0.7, num_bytes=1200),
    EdgeRecord("a", "a", 0.95, None),
)
MARKER = "marker-of-a-person"
SETTINGS = {
    "output": f"/home/{MARKER}/run",
    "sites": f"/home/{MARKER}/sites.toml",
    "strategy": "fedefm",
    "seed": 7,
    "train.learning-rate": 1e-3,
    "mlflow": True,
}
RESULT = ResultRecord(
    status="completed",
    rounds=2,
    sites=("a", "b"),
    missing=("c",),
    test={"a": {"test/dice": 0.75}, "b": {"test/dice": 0.25}},
    emd={"mean": 0.9, "spread": 0.1, "diagonal": None, "shares": {"host+pair": 0.7}},
    overall={"test/dice": 0.5, "fair/worst_site_dice": 0.25},
    all_test={"a": {"test/catheter/image.dice": 0.7, "test/catheter/pooled.auc": None}},
    all_overall={"test/catheter/image.dice": 0.6, "test/catheter/image.hd95": math.nan},
)


def make_journal(folder: Path) -> Journal:
    return Journal.create(str(folder), SETTINGS, datetime(2026, 11, 21))


def make_round(number: int) -> RoundRecord:
    dice = 0.1 * (number + 1)
    return RoundRecord(
        round=number,
        seconds=1.0,
        sites={
            "a": {"val/dice": dice, "train/loss": 1.0},
            "b": {"val/dice": None if number == 1 else 2 * dice, "hd": math.nan},
        },
        overall={"val/dice": 1.5 * dice, "fair/worst_site_dice": dice},
        edges=EDGES if number else (),
    )


def watch_batches(action: Callable[[], None]) -> list[str]:
    """Return the run of every `log_batch` that an action makes."""
    from mlflow.tracking import MlflowClient

    seen: list[str] = []
    log_batch = MlflowClient.log_batch

    def watched(self: MlflowClient, run_id: str, **parts: Any) -> None:  # noqa: ANN401
        seen.append(run_id)
        log_batch(self, run_id, **parts)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(MlflowClient, "log_batch", watched)
        action()
    return seen


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A whole run in MLflow, made once in an empty working directory."""
    folder = tmp_path_factory.mktemp("a run")
    elsewhere = tmp_path_factory.mktemp("working-directory-of-a-person")
    before = Path.cwd()
    os.chdir(elsewhere)
    try:
        journal = make_journal(folder)
        figure = folder / "figures" / "curves.png"
        figure.write_bytes(b"a picture")
        tracker = open_tracker(True, journal, SETTINGS, SITES)
        for number in range(3):
            batches = watch_batches(partial(tracker.log_round, make_round(number)))
            with (folder / "batches.txt").open("a") as notes:
                notes.writelines(f"{number}:{run_id}\n" for run_id in batches)
        tracker.log_files([figure], "figures")
        tracker.end(RESULT)
        assert isinstance(tracker, MlflowTracker)
        assert not tracker.failed
        assert list(elsewhere.iterdir()) == []
    finally:
        os.chdir(before)
    yield folder


def query(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        return database.execute(sql).fetchall()


def find_run(folder: Path, name: str) -> str:
    [(run_id,)] = query(folder, f"SELECT run_uuid FROM runs WHERE name = '{name}'")
    return str(run_id)


def history(folder: Path, name: str, key: str) -> dict[int, float]:
    rows = query(
        folder,
        f"SELECT step, value FROM metrics WHERE key = '{key}' "
        f"AND run_uuid = '{find_run(folder, name)}'",
    )
    assert len(rows) == len(dict(rows))
    return {step: pytest.approx(value) for step, value in rows}


def tags(folder: Path, name: str) -> dict[str, str]:
    run_id = find_run(folder, name)
    return dict(query(folder, f"SELECT key, value FROM tags WHERE run_uuid='{run_id}'"))


def test_every_site_is_a_child_of_the_one_parent(run: Path) -> None:
    names = {row[0] for row in query(run, "SELECT name FROM runs")}
    assert names == {"fedefm-seed7", "a", "b", "c"}
    parent = find_run(run, "fedefm-seed7")
    for site in SITES:
        found = tags(run, site)
        assert found["mlflow.parentRunId"] == parent
        assert found["fl.role"] == "site"
        assert found["fl.site"] == site
    assert tags(run, "fedefm-seed7")["fl.role"] == "server"
    assert "mlflow.parentRunId" not in tags(run, "fedefm-seed7")


def test_curves_are_what_was_logged_with_the_round_as_step(run: Path) -> None:
    assert history(run, "a", "val/dice") == {0: 0.1, 1: 0.2, 2: 0.3}
    assert history(run, "fedefm-seed7", "val/dice") == {0: 0.15, 1: 0.3, 2: 0.45}
    assert history(run, "fedefm-seed7", "site/a/val_dice") == {0: 0.1, 1: 0.2, 2: 0.3}
    assert history(run, "a", "edge/b/score") == {1: 0.9, 2: 0.9}
    assert history(run, "a", "edge/b/weight") == {1: 0.4, 2: 0.4}
    assert history(run, "a", "edge/b/gap") == {1: 1e-9, 2: 1e-9}
    assert history(run, "a", "edge/b/teacher_loss") == {1: 0.7, 2: 0.7}
    assert history(run, "a", "edge/b/bytes") == {1: 1200, 2: 1200}
    assert history(run, "a", "edge/a/score") == {}  # a control is no edge


def test_the_scores_of_the_whole_run_are_told_at_its_end(run: Path) -> None:
    assert history(run, "fedefm-seed7", "emd/mean_score") == {2: 0.9}
    assert history(run, "fedefm-seed7", "emd/spread") == {2: 0.1}
    assert history(run, "fedefm-seed7", "emd/variance/host_pair") == {2: 0.7}
    assert history(run, "fedefm-seed7", "emd/mean_diagonal") == {}


def test_missing_numbers_are_left_out(run: Path) -> None:
    assert history(run, "b", "val/dice") == {0: 0.2, 2: 0.6}
    assert history(run, "b", "hd") == {}
    assert history(run, "c", "val/dice") == {}


def test_test_scores_are_kept_apart_from_validation(run: Path) -> None:
    assert history(run, "a", "test/dice") == {2: 0.75}
    assert history(run, "fedefm-seed7", "test/dice") == {2: 0.5}
    assert history(run, "fedefm-seed7", "test/fair/worst_site_dice") == {2: 0.25}
    assert history(run, "fedefm-seed7", "fair/worst_site_dice")[2] == 0.3


def test_every_metric_of_the_test_is_there_but_no_missing_one(run: Path) -> None:
    assert history(run, "a", "test/catheter/image.dice") == {2: 0.7}
    assert history(run, "a", "test/catheter/pooled.auc") == {}
    assert history(run, "fedefm-seed7", "test/catheter/image.dice") == {2: 0.6}
    assert history(run, "fedefm-seed7", "test/catheter/image.hd95") == {}


def test_runs_end_as_their_site_did(run: Path) -> None:
    statuses = dict(query(run, "SELECT name, status FROM runs"))
    assert statuses == {
        "fedefm-seed7": "FINISHED",
        "a": "FINISHED",
        "b": "FINISHED",
        "c": "FAILED",
    }
    assert tags(run, "c")["fl.status"] == "missing"
    assert tags(run, "a")["fl.status"] == "completed"


def test_parameters_are_the_settings_without_paths(run: Path) -> None:
    assert dict(query(run, "SELECT key, value FROM params")) == {
        "sites": "custom",
        "strategy": "fedefm",
        "seed": "7",
        "train.learning-rate": "0.001",
        "mlflow": "True",
    }


def test_figures_are_artifacts_of_the_parent(run: Path) -> None:
    artifacts = run / "mlartifacts" / find_run(run, "fedefm-seed7") / "artifacts"
    assert (artifacts / "figures" / "curves.png").read_bytes() == b"a picture"


def test_nothing_in_the_database_tells_who_ran_it_or_from_where(run: Path) -> None:
    with closing(sqlite3.connect(run / "mlflow.db")) as database:
        # The place of the run folder is known to be there, as the artifacts' address.
        place = (run / "mlartifacts").as_uri()
        dump = "\n".join(database.iterdump()).replace(place, "")
    values = {
        str(value) for row in query(run, "SELECT value FROM tags") for value in row
    }
    assert getpass.getuser() not in values
    for hint in (
        MARKER,
        "working-directory-of-a-person",
        platform.node(),
        str(Path.home()) + "/",
        str(Path(__file__).parents[2]),
        "mlflow.user",
        "mlflow.source",
        "git",
        str(run),
    ):
        assert hint not in dump
    assert query(run, "SELECT DISTINCT user_id, source_name FROM runs") == [
        ("unknown", "")
    ]


def test_every_round_is_one_batch_a_run(run: Path) -> None:
    batches = (run / "batches.txt").read_text().split()
    in_round_1 = [batch.split(":")[1] for batch in batches if batch.startswith("1:")]
    assert len(in_round_1) == len(set(in_round_1)) == 1 + len(SITES)


def test_mlflow_is_quiet_and_reports_to_nobody(tmp_path: Path) -> None:
    script = (
        "import sys, datetime; from pathlib import Path\n"
        "from server.journal import Journal; from server.tracking import *\n"
        "assert 'mlflow' not in sys.modules\n"
        "journal = Journal.create(sys.argv[1], {}, datetime.datetime.now())\n"
        "open_tracker(True, journal, {}, ['a'])\n"
        "from mlflow.telemetry.client import get_telemetry_client\n"
        "assert get_telemetry_client() is None\n"
    )
    environment = {
        key: value
        for key, value in os.environ.items()
        if key in ("PATH", "HOME", "VIRTUAL_ENV")
    }
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_database_that_cannot_be_opened_does_not_stop_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = make_journal(tmp_path / "run")
    (journal.folder / "mlflow.db").mkdir()
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        tracker = MlflowTracker(journal, SETTINGS, SITES)
        tracker.log_round(make_round(0))
        tracker.log_files([journal.folder / "settings.json"], "settings")
        tracker.end(RESULT)
    assert time.monotonic() - began < 5
    assert tracker.failed
    assert [event["event"] for event in read_events(journal.events_path)] == [
        "tracking"
    ]
    [warning] = caplog.records
    assert "Training goes on" in warning.getMessage()
    assert str(tmp_path) not in caplog.text


@pytest.mark.parametrize("name", ["what?", "100%20"])
def test_a_folder_that_mlflow_cannot_address_gets_no_database_elsewhere(
    tmp_path: Path, name: str
) -> None:
    journal = make_journal(tmp_path / name)
    assert MlflowTracker(journal, SETTINGS, SITES).failed
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert not (journal.folder / "mlflow.db").exists()


def test_a_database_that_breaks_midway_costs_its_numbers_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = make_journal(tmp_path / "run")
    tracker = MlflowTracker(journal, SETTINGS, SITES)
    with closing(sqlite3.connect(journal.folder / "mlflow.db")) as database:
        database.execute("DROP TABLE metrics")
        database.commit()
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            record = make_round(number)
            journal.round(record)
            tracker.log_round(record)
        tracker.end(RESULT)
    events = [event["event"] for event in read_events(journal.events_path)]
    assert events == ["round", "tracking", "round", "round"]
    assert len(caplog.records) == 1
    # What can still be told is told: the runs have ended.
    assert query(journal.folder, "SELECT 1 FROM runs WHERE status = 'RUNNING'") == []


def test_a_failed_run_ends_as_failed(tmp_path: Path) -> None:
    journal = make_journal(tmp_path / "run")
    tracker = MlflowTracker(journal, SETTINGS, ["a"])
    tracker.end(ResultRecord("failed", rounds=0, sites=(), reason="too few sites"))
    statuses = query(journal.folder, "SELECT DISTINCT status FROM runs")
    assert statuses == [("FAILED",)]


def test_without_mlflow_nothing_is_written(tmp_path: Path) -> None:
    journal = make_journal(tmp_path / "run")
    tracker = open_tracker(False, journal, SETTINGS, SITES)
    assert isinstance(tracker, NoTracker)
    tracker.log_round(make_round(0))
    tracker.log_files([journal.folder / "none.png"], "figures")
    tracker.end(RESULT)
    assert not (journal.folder / "mlflow.db").exists()


def ask(port: int, path: str, body: Mapping[str, Any] | None = None) -> bytes:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=5) as reply:
        return bytes(reply.read())


@pytest.fixture
def served(run: Path, tmp_path: Path) -> Iterator[int]:
    """The port of a browser view started with the command that users are told."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variable, program, *arguments = shlex.split(ui_command(run))
    assert variable == "MLFLOW_DISABLE_TELEMETRY=true"
    server = subprocess.Popen(
        [program, *arguments, "--port", str(port)],
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # its workers can be stopped with it
    )
    try:
        wait_until_up(port, server)
        yield port
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def wait_until_up(port: int, server: "subprocess.Popen[bytes]") -> None:
    for _ in range(200):
        assert server.poll() is None
        try:
            ask(port, "/health")
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail("The browser view did not start within 40 s.")


@pytest.mark.timeout(120)
def test_the_browser_view_shows_parent_children_curves_and_figures(
    run: Path, served: int
) -> None:
    api = "/ajax-api/2.0/mlflow"
    parent = find_run(run, "fedefm-seed7")
    found = json.loads(
        ask(
            served,
            f"{api}/runs/search",
            {
                "experiment_ids": ["1"],
                "filter": f"tags.`mlflow.parentRunId` = '{parent}'",
            },
        )
    )
    assert {one["info"]["run_name"] for one in found["runs"]} == set(SITES)
    query_string = f"run_id={parent}&metric_key=val/dice"
    curve = json.loads(ask(served, f"{api}/metrics/get-history?{query_string}"))
    assert [point["step"] for point in curve["metrics"]] == [0, 1, 2]
    picture = ask(served, f"/get-artifact?path=figures/curves.png&run_uuid={parent}")
    assert picture == b"a picture"
    assert b"<html" in ask(served, "/")
