"""When a run counts as over: a SuperLink and processes that follow a script."""

import io
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from experiments import launch
from experiments.launch import SERVER_DONE, DeadlineReached, Launch, StopSignals
from experiments.live import LiveProgress
from experiments.processes import ProcessFamily
from experiments.superlink import RunStatus, SuperLinkError

RUNNING = RunStatus("running", "")
COMPLETED = RunStatus("finished:completed", "")


class ScriptedSuperLink:
    """Says what the test wants and notes what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "superlink.log"
        self.says: RunStatus | None = RUNNING  # None = it does not answer
        self.alive = True
        self.asked: list[str] = []

    def start(self) -> None:
        self.asked.append("start")

    def submit(self, *arguments: object) -> str:
        self.asked.append("submit")
        return "7"

    def is_alive(self) -> bool:
        return self.alive

    def status(self, run_id: str) -> RunStatus:
        self.asked.append(f"status {run_id}")
        if self.says is None:
            raise SuperLinkError("no answer")
        return self.says

    def stop_run(self, run_id: str) -> None:
        self.asked.append(f"stop {run_id}")

    def save_run_log(self, run_id: str) -> None:
        self.asked.append(f"log {run_id}")


class Stage:
    """A launch whose SuperLink and processes the test plays."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = folder / "flower"
        self.events = folder / "metrics.jsonl"
        self.superlink = ScriptedSuperLink(folder)
        self.simulation_is_there = True
        monkeypatch.setattr(launch, "SuperLink", lambda *arguments: self.superlink)
        monkeypatch.setattr(
            ProcessFamily, "has_program", lambda family, name: self.simulation_is_there
        )
        monkeypatch.setattr(ProcessFamily, "memory_mib", lambda family: 512.0)
        live = LiveProgress(self.events, Console(file=io.StringIO()))
        self.launch = Launch(self.home, live, threads_per_site=1)

    def run(self, seconds: float = 5.0) -> RunStatus:
        return self.launch.run(Path(), {}, "", time.monotonic() + seconds)

    def after(self, seconds: float, **changes: object) -> None:
        """Change what the processes do while the launch is waiting."""
        target = {"says": self.superlink, "alive": self.superlink}

        def change() -> None:
            for name, value in changes.items():
                setattr(target.get(name, self), name, value)

        threading.Timer(seconds, change).start()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    for name, seconds in {"POLL_S": 0.01, "LOOK_S": 0.02, "ASK_S": 10.0}.items():
        monkeypatch.setattr(launch, name, seconds)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    stage = Stage(tmp_path, monkeypatch)
    yield stage
    stage.launch.close()


def test_a_run_is_over_when_its_process_is_gone_and_flower_says_so(
    stage: Stage,
) -> None:
    stage.after(0.2, says=COMPLETED, simulation_is_there=False)
    assert stage.run() == COMPLETED
    assert stage.superlink.asked == ["start", "submit", "status 7"]
    assert stage.launch.peak_memory_mib == 512.0


def test_a_process_that_died_without_a_word_is_a_failure(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "GONE_GRACE_S", 0.2)
    stage.after(0.1, simulation_is_there=False)
    found = stage.run()
    assert found.state == "finished:failed"
    assert "died" in found.details


def test_flower_is_asked_now_and_then_while_all_is_well(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "ASK_S", 0.05)
    stage.superlink.says = None  # too busy to answer: no reason to give up
    stage.after(0.4, says=COMPLETED)
    assert stage.run() == COMPLETED
    assert stage.superlink.asked.count("status 7") > 2


def test_a_server_that_has_finished_is_not_waited_for_for_ever(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "SHUTDOWN_GRACE_S", 0.2)
    stage.events.write_text('{"event": "end", "status": "completed"}\n')
    assert stage.run() == SERVER_DONE
    stage.launch.close()
    assert stage.superlink.asked[-2:] == ["stop 7", "log 7"]


def test_a_deadline_after_the_servers_end_costs_nothing(stage: Stage) -> None:
    stage.events.write_text('{"event": "end", "status": "completed"}\n')
    assert stage.run(seconds=0.1) == SERVER_DONE


def test_a_run_that_takes_too_long_is_stopped(stage: Stage) -> None:
    with pytest.raises(DeadlineReached):
        stage.run(seconds=0.2)
    stage.launch.close()
    assert stage.superlink.asked == ["start", "submit", "stop 7", "log 7"]


def test_a_superlink_that_dies_ends_the_run(stage: Stage) -> None:
    stage.superlink.log.write_text("out of memory\n")
    stage.after(0.1, alive=False)
    with pytest.raises(SuperLinkError, match=r"during the run.*\nout of memory"):
        stage.run()


def test_a_simulation_that_never_begins_ends_the_run(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "SPAWN_TIMEOUT_S", 0.1)
    stage.simulation_is_there = False
    with pytest.raises(SuperLinkError, match="did not start the simulation"):
        stage.run()


def test_a_hurried_end_fetches_no_log(stage: Stage) -> None:
    with pytest.raises(DeadlineReached):
        stage.run(seconds=0.05)
    stage.launch.close(hurry=True)
    assert stage.superlink.asked[-1] == "stop 7"
    stage.superlink.alive = False


def test_only_the_logs_stay_of_flowers_folder(stage: Stage) -> None:
    (stage.home / "apps" / "copy").mkdir(parents=True)
    (stage.home / "config.toml").touch()
    stage.superlink.log.write_text("\x1b[93mWARNING\x1b[0m: x\n")
    stage.launch.close()
    assert [path.name for path in stage.home.iterdir()] == ["config.toml"]
    assert stage.superlink.log.read_text() == "WARNING: x\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_once_and_is_given_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopSignals() as signals:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
            time.sleep(1)
        assert signals.received
        os.kill(os.getpid(), number)  # swallowed: processes are being stopped
        time.sleep(0.05)
    assert signal.getsignal(number) is before


def test_no_signal_disturbs_the_end_of_a_good_run() -> None:
    with StopSignals() as signals:
        signals.swallow()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)
        assert not signals.received
