"""A run of a deployed federation is followed to its true end."""

import hashlib
import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from flwr.cli.build import build_fab_from_disk
from rich.console import Console
from typer.testing import CliRunner

from experiments import cli
from experiments.commands import federation as federation_cli
from experiments.deployment import app_digest as app_digest_module
from experiments.deployment.app_digest import app_digest
from experiments.deployment.federation_run import Pace, run_deployed
from experiments.simulation import SimulationOutcome
from experiments.superlink import RunStatus, SuperLinkError
from strategies.settings import SettingsError, SettingValue

FAST = Pace(look=0.01, ask=0.02, ask_at_end=0.01, silence=0.3, grace=0.2)
RUNNING = RunStatus("running", "")
DONE = RunStatus("finished:completed", "")


class FakeConnection:
    """A SuperLink whose answers are given; the last one is repeated."""

    def __init__(
        self, *answers: RunStatus | str, server: Callable[[Path], None] | None = None
    ) -> None:
        self._answers = list(answers)
        self._server = server
        self.submitted: dict[str, Any] = {}
        self.stopped: list[str] = []
        self.logged: list[Path] = []

    def submit(self, app: Path, run_config: Mapping[str, Any], size: str = "") -> str:
        self.submitted = dict(run_config)
        if self._server is not None:
            folder = Path(str(run_config["output"]))
            folder.mkdir(parents=True, exist_ok=True)
            self._server(folder)
        return "77"

    def status(self, run_id: str) -> RunStatus:
        answer = self._answers[0]
        if len(self._answers) > 1:
            self._answers.pop(0)
        if isinstance(answer, str):
            raise SuperLinkError(answer)
        return answer

    def stop_run(self, run_id: str) -> None:
        self.stopped.append(run_id)

    def save_run_log(self, run_id: str, folder: Path | None = None) -> None:
        self.logged.append(folder)


def server_that_ends(
    status: str = "completed", sites: tuple[str, ...] = ("a", "b"), reason: str = ""
) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        result = {"status": status, "sites": sites, "missing": [], "reason": reason}
        (folder / "result.json").write_text(json.dumps(result))
        (folder / "metrics.jsonl").write_text('{"event": "end"}\n')

    return write


def run(
    connection: FakeConnection,
    folder: Path,
    settings: Mapping[str, SettingValue] | None = None,
    **values: Any,  # noqa: ANN401
) -> SimulationOutcome:
    run_config = {"output": str(folder / "run"), "min-sites": 0, **(settings or {})}
    values = {"active_sites": 2, "pace": FAST, **values}
    console = Console(file=(folder / "screen").open("w"))
    return run_deployed(connection, run_config, console=console, **values)


def test_a_run_counts_when_flower_and_the_server_say_so(tmp_path: Path) -> None:
    connection = FakeConnection(RUNNING, RUNNING, DONE, server=server_that_ends())
    outcome = run(connection, tmp_path)
    assert (outcome.status, outcome.exit_code) == ("completed", 0)
    assert connection.submitted["min-sites"] == 2  # all active sites
    assert connection.stopped == []
    assert connection.logged == [tmp_path / "run"]


def test_fewer_sites_than_active_take_part_only_if_the_run_says_so(
    tmp_path: Path,
) -> None:
    one = server_that_ends(sites=("a",))
    (tmp_path / "x").mkdir()
    assert run(FakeConnection(DONE, server=one), tmp_path / "x").exit_code == 3
    (tmp_path / "y").mkdir()
    allowed = run(FakeConnection(DONE, server=one), tmp_path / "y", {"min-sites": 1})
    assert allowed.exit_code == 0


def test_a_run_that_flower_failed_gives_flowers_reason(tmp_path: Path) -> None:
    failed = RunStatus("finished:failed", "Task failed with unknown error.")
    outcome = run(FakeConnection(RUNNING, failed), tmp_path)
    assert outcome.exit_code == 1
    assert outcome.reason.startswith(failed.details)
    assert "restarted" in outcome.reason  # what Flower does not say


def test_a_reason_that_the_server_wrote_comes_first(tmp_path: Path) -> None:
    failed = RunStatus("finished:failed", "Task failed with unknown error.")
    server = server_that_ends("failed", sites=(), reason="The loss became nan.")
    outcome = run(FakeConnection(failed, server=server), tmp_path)
    assert (outcome.exit_code, outcome.reason) == (1, "The loss became nan.")


def test_a_run_without_result_is_no_success_although_flower_completed_it(
    tmp_path: Path,
) -> None:
    outcome = run(FakeConnection(DONE), tmp_path)
    assert outcome.exit_code == 1
    assert "wrote no result" in outcome.reason


def test_a_deadline_stops_the_run(tmp_path: Path) -> None:
    connection = FakeConnection(RUNNING)
    outcome = run(connection, tmp_path, deadline_s=0.1)
    assert (outcome.exit_code, connection.stopped) == (124, ["77"])


def test_ctrl_c_stops_the_run(tmp_path: Path) -> None:
    connection = FakeConnection(RUNNING)

    def interrupt(run_id: str) -> RunStatus:
        raise KeyboardInterrupt

    connection.status = interrupt
    outcome = run(connection, tmp_path)
    assert (outcome.exit_code, connection.stopped) == (130, ["77"])


def test_a_superlink_that_restarts_may_miss_questions(tmp_path: Path) -> None:
    gone = ["no answer"] * 4
    connection = FakeConnection(RUNNING, *gone, DONE, server=server_that_ends())
    assert run(connection, tmp_path).exit_code == 0


def test_a_superlink_that_is_gone_for_good_ends_the_wait(tmp_path: Path) -> None:
    outcome = run(FakeConnection(RUNNING, "no answer"), tmp_path)
    assert outcome.exit_code == 1
    assert "--resume" in outcome.reason


def test_a_refused_submission_gives_its_reason_and_stops_nothing(
    tmp_path: Path,
) -> None:
    connection = FakeConnection(RUNNING)

    def refuse(*_: object) -> str:
        raise SuperLinkError("`flwr run` failed: no")

    connection.submit = refuse
    outcome = run(connection, tmp_path)
    assert (outcome.exit_code, outcome.reason) == (1, "`flwr run` failed: no")
    assert connection.stopped == []


def test_flower_that_hangs_after_the_servers_end_is_not_waited_for(
    tmp_path: Path,
) -> None:
    connection = FakeConnection(RUNNING, server=server_that_ends())
    outcome = run(connection, tmp_path)
    assert outcome.exit_code == 0
    assert connection.stopped == ["77"]  # what hangs is told to end


def test_nobody_to_train_and_a_used_folder_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="provision add"):
        run(FakeConnection(DONE), tmp_path, active_sites=0)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "result.json").write_text("{}")
    with pytest.raises(SettingsError, match="already holds a run"):
        run(FakeConnection(DONE), tmp_path)


def test_the_command_takes_the_exit_code_of_the_run(
    provisioned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def fake(connection: object, run_config: dict[str, Any], **values: Any) -> Any:  # noqa: ANN401
        seen.update(values, run_config=run_config)
        folder = Path(str(run_config["output"]))
        return SimulationOutcome(
            "failed", folder, None, "See [limits].", 1.0, 0.0, True
        )

    monkeypatch.setattr(federation_cli, "run_deployed", fake)
    state = tmp_path / "state"
    arguments = ["federation", "run", str(provisioned), "--state", str(state)]
    result = CliRunner().invoke(cli.app, [*arguments, "--set", "num-rounds=3"])
    assert result.exit_code == 3
    assert "See [limits]." in result.output  # not taken for a colour
    assert seen["active_sites"] == 2
    assert seen["run_config"]["num-rounds"] == 3
    assert Path(seen["run_config"]["output"]).parent == state / "runs"
    config = (state / "flower" / "config.toml").read_text()
    assert str(provisioned / "server" / "ca.crt") in config
    assert "insecure = false" in config


def test_a_sites_file_has_no_place_in_a_deployed_federation(
    provisioned: Path, tmp_path: Path
) -> None:
    arguments = ["federation", "run", str(provisioned), "--state", str(tmp_path)]
    result = CliRunner().invoke(cli.app, [*arguments, "--set", "sites=/sites.toml"])
    assert result.exit_code == 2
    assert "sites file" in result.output


def test_equal_apps_have_equal_digests_and_a_changed_one_another(
    tmp_path: Path,
) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "pyproject.toml").write_text(
        '[project]\nname = "small"\nversion = "1.0.0"\nlicense = "Apache-2.0"\n'
        'description = "small"\n[tool.flwr.app]\npublisher = "endofed"\n'
        '[tool.flwr.app.components]\nserverapp = "part:app"\nclientapp = "part:app"\n'
    )
    (app / "part.py").write_text("app = 1\n")
    first = app_digest(app)
    (app / "part.py").touch()  # another time in the file system
    # What `flwr run` sends, built in this process: `flwr` takes seconds to start.
    assert hashlib.sha256(build_fab_from_disk(app)).hexdigest() == first
    (app / "part.py").write_text("app = 2\n")
    assert hashlib.sha256(build_fab_from_disk(app)).hexdigest() != first


def test_an_app_that_flower_cannot_build_gives_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = subprocess.CompletedProcess([], 1, "", "No pyproject.toml.")
    monkeypatch.setattr(app_digest_module.subprocess, "run", lambda *_, **__: refused)
    with pytest.raises(SettingsError, match="No pyproject"):
        app_digest(tmp_path)


def test_a_build_that_hangs_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("flwr", 1)

    monkeypatch.setattr(app_digest_module.subprocess, "run", hang)
    with pytest.raises(SettingsError, match="TimeoutExpired"):
        app_digest(tmp_path)
