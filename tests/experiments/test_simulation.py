"""How a run is judged, and real runs of a stand-in app through `flwr run`."""

import io
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiments import launch
from experiments.flower_home import (
    shell_exports,
    stop_local_superlink,
    write_flower_home,
)
from experiments.processes import MARKER, ProcessFamily
from experiments.simulation import (
    Ending,
    SimulationOutcome,
    SimulationRequest,
    StoppedBy,
    check_run_folder,
    judge,
    simulate,
)
from strategies.settings import SettingsError, SettingValue

STAND_IN = Path(__file__).parent / "stand_in"
FINISHED = Ending("finished:completed")


def request_of(min_sites: int = 0) -> SimulationRequest:
    return SimulationRequest({"min-sites": min_sites}, num_sites=3)


def outcome_of(
    folder: Path, ending: Ending, result: dict[str, Any] | None, min_sites: int = 0
) -> SimulationOutcome:
    if result is not None:
        (folder / "result.json").write_text(json.dumps(result))
    return judge(request_of(min_sites), ending, folder, 12.0, 512.0)


def result_of(*sites: str, **values: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"status": "completed", "sites": sites, "reason": "", **values}


def test_a_run_in_which_all_took_part_is_completed(tmp_path: Path) -> None:
    outcome = outcome_of(tmp_path, FINISHED, result_of("a", "b", "c"))
    assert (outcome.status, outcome.exit_code, outcome.reason) == ("completed", 0, "")
    assert outcome.result is not None
    assert outcome.result["sites"] == ["a", "b", "c"]


def test_flowers_word_alone_completes_nothing(tmp_path: Path) -> None:
    outcome = outcome_of(tmp_path, FINISHED, None)
    assert (outcome.status, outcome.exit_code) == ("failed", 1)
    assert "wrote no result" in outcome.reason


def test_the_servers_word_alone_completes_nothing(tmp_path: Path) -> None:
    ending = Ending("finished:failed", "Simulation failed with exception: x")
    outcome = outcome_of(tmp_path, ending, result_of("a", "b", "c"))
    assert (outcome.status, outcome.exit_code) == ("failed", 1)
    assert outcome.reason == "Simulation failed with exception: x"


def test_a_site_that_hangs_after_the_servers_end_changes_nothing(
    tmp_path: Path,
) -> None:
    outcome = outcome_of(tmp_path, Ending("server-done"), result_of("a", "b", "c"))
    assert (outcome.status, outcome.exit_code) == ("completed", 0)


def test_too_few_sites_are_no_success(tmp_path: Path) -> None:
    outcome = outcome_of(tmp_path, FINISHED, result_of("a", "b"))
    assert (outcome.status, outcome.exit_code) == ("failed", 3)
    assert outcome.reason == "2 of at least 3 sites took part."


def test_as_many_sites_as_the_run_needs_are_enough(tmp_path: Path) -> None:
    outcome = outcome_of(tmp_path, FINISHED, result_of("a", "b"), min_sites=2)
    assert (outcome.status, outcome.exit_code) == ("completed", 0)


@pytest.mark.parametrize("sign", [{"too_few_sites": True}, {"missing": ["c"]}])
def test_a_server_that_stopped_for_want_of_sites_is_told_apart(
    tmp_path: Path, sign: dict[str, Any]
) -> None:
    result = result_of(**sign) | {"status": "failed", "reason": "1 of 3 can take part"}
    outcome = outcome_of(tmp_path, Ending("finished:failed", "exception"), result)
    assert (outcome.status, outcome.exit_code) == ("failed", 3)
    assert outcome.reason == "1 of 3 can take part"


@pytest.mark.parametrize(
    ("stopped_by", "code"), [("deadline", 124), ("interrupt", 130)]
)
def test_a_stopped_run_is_stopped_whatever_it_had_written(
    tmp_path: Path, stopped_by: StoppedBy, code: int
) -> None:
    ending = Ending("", "It was stopped.", stopped_by)
    outcome = outcome_of(tmp_path, ending, result_of("a", "b", "c"))
    assert (outcome.status, outcome.exit_code) == ("stopped", code)
    assert outcome.reason == "It was stopped."


def test_a_result_that_was_cut_short_is_no_result(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"status": "comp')
    outcome = judge(request_of(), FINISHED, tmp_path, 12.0, 512.0)
    assert outcome.result is None
    assert outcome.exit_code == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_sites": 0},
        {"num_sites": 3, "workers": 0},
        {"num_sites": 3, "gpus_per_site": 1.5},
        {"num_sites": 3, "deadline_s": 0.0},
        {"num_sites": 3, "deadline_s": float("nan")},
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"must be|at least"):
        SimulationRequest({}, **wrong)


def test_a_run_folder_is_absolute_and_holds_no_run(tmp_path: Path) -> None:
    assert check_run_folder({"output": str(tmp_path)}) == tmp_path
    for relative in ("", "runs/1"):
        with pytest.raises(SettingsError, match="absolute"):
            check_run_folder({"output": relative})
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(SettingsError, match="already holds a run"):
        check_run_folder({"output": str(tmp_path)})


# ------------------------------------------------------------- real runs ----
Simulate = Callable[..., SimulationOutcome]


@pytest.fixture
def run_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Simulate, Path, io.StringIO]]:
    """Run the stand-in app; afterwards nothing of it may be left."""
    family = ProcessFamily.new()
    ray_folder = Path(tempfile.mkdtemp(prefix="endofed-test-", dir="/tmp"))
    screen = io.StringIO()
    monkeypatch.setattr(ProcessFamily, "new", lambda: family)
    monkeypatch.setattr(launch, "_short_folder", lambda: ray_folder)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def run(behaviour: str, **values: Any) -> SimulationOutcome:  # noqa: ANN401
        config: dict[str, SettingValue] = {
            "output": str(tmp_path / "run"),
            "behaviour": behaviour,
            "fedefm.beta": 0.25,
            "min-sites": 0,
        }
        request = SimulationRequest(
            config, num_sites=3, workers=2, gpus_per_site=0.0, **values
        )
        console = Console(file=screen, width=100)
        return simulate(request, console=console, app_folder=STAND_IN)

    yield run, tmp_path / "run", screen
    left = ProcessFamily(MARKER, family.environment[MARKER]).members()
    assert left == []
    assert not ray_folder.exists()
    assert not (tmp_path / "run" / "flower" / "apps").exists()


@pytest.mark.simulation
def test_a_real_run_completes_and_shows_every_round(
    run_stand_in: tuple[Simulate, Path, io.StringIO],
) -> None:
    simulate_app, folder, screen = run_stand_in
    outcome = simulate_app("work")
    assert (outcome.exit_code, outcome.reason) == (0, "")
    assert outcome.result is not None
    assert outcome.result["sites"] == ["site-0", "site-1", "site-2"]
    lines = [line for line in screen.getvalue().splitlines() if "round" in line]
    assert [line.split("  ")[0] for line in lines] == [f"round {n}/2" for n in range(3)]
    assert all("val Dice 0.250" in line for line in lines)  # the app got the setting
    assert outcome.peak_memory_mib > 100
    assert "Starting Flower Simulation" in (folder / "flower" / "run.log").read_text()
    assert "Created run" in (folder / "flower" / "superlink.log").read_text()


@pytest.mark.simulation
def test_a_real_run_that_raises_is_a_failure(
    run_stand_in: tuple[Simulate, Path, io.StringIO],
) -> None:
    simulate_app, _, _ = run_stand_in
    outcome = simulate_app("server-raises")
    assert (outcome.status, outcome.exit_code) == ("failed", 1)
    assert "the stand-in was told to raise" in outcome.reason


@pytest.mark.simulation
def test_a_deadline_stops_a_real_run_with_sites_that_hang(
    run_stand_in: tuple[Simulate, Path, io.StringIO],
) -> None:
    simulate_app, folder, _ = run_stand_in
    outcome = simulate_app("client-hangs", deadline_s=15.0)
    assert (outcome.status, outcome.exit_code) == ("stopped", 124)
    assert outcome.seconds < 35
    assert not (folder / "result.json").exists()


@pytest.mark.simulation
def test_ctrl_c_stops_a_real_run(
    run_stand_in: tuple[Simulate, Path, io.StringIO],
) -> None:
    simulate_app, folder, _ = run_stand_in

    def press_ctrl_c_when_the_server_has_started() -> None:
        given_up_at = time.monotonic() + 60
        while not (folder / "metrics.jsonl").exists():
            if time.monotonic() > given_up_at:
                return
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press_ctrl_c_when_the_server_has_started).start()
    outcome = simulate_app("client-hangs")
    assert (outcome.status, outcome.exit_code) == ("stopped", 130)


@pytest.mark.simulation
def test_flwr_run_by_hand_simulates_all_sites(tmp_path: Path) -> None:
    home = tmp_path / "home"
    write_flower_home(home, num_sites=3, workers=2)
    script = f"{shell_exports(home)}flwr run . -c \"output='{tmp_path}'\""
    result = tmp_path / "result.json"
    try:
        subprocess.run(["sh", "-c", script], cwd=STAND_IN, check=True, timeout=60)
        given_up_at = time.monotonic() + 60
        while not result.exists() and time.monotonic() < given_up_at:
            time.sleep(0.2)
        assert json.loads(result.read_text())["sites"] == ["site-0", "site-1", "site-2"]
    finally:
        assert stop_local_superlink(home) >= 2  # the SuperLink and its helper
