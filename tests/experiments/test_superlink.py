"""The SuperLink's front door, with small programs in the place of Flower's."""

import http.server
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.common.config import parse_config_args

from experiments import superlink
from experiments.processes import ProcessFamily
from experiments.superlink import (
    RunStatus,
    SuperLink,
    SuperLinkError,
    free_port,
    is_healthy,
    read_answer,
    tail,
)

SERVES = """
import http.server, sys
from pathlib import Path
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
port = int(sys.argv[sys.argv.index("--port") + 1])
"""
START = 'http.server.HTTPServer(("127.0.0.1", port), Health).serve_forever()\n'
PORT_TAKEN_ONCE = """
if not Path("{flag}").exists():
    Path("{flag}").touch()
    sys.exit("[Errno 98] error while attempting to bind on address")
"""


@pytest.fixture
def family() -> Iterator[ProcessFamily]:
    family = ProcessFamily.new()
    yield family
    family.stop(0.1)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where `flwr` and `flower-superlink` are looked for."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(superlink, "programs_folder", lambda: folder)
    return folder


def write_program(programs: Path, name: str, code: str) -> None:
    (programs / name).write_text(f"#!{sys.executable}\n{code}")
    (programs / name).chmod(0o755)


@pytest.fixture
def link(tmp_path: Path, family: ProcessFamily) -> SuperLink:
    home = tmp_path / "flower"
    home.mkdir()
    return SuperLink(home, family.environment)


def test_a_superlink_is_started_when_it_answers(
    link: SuperLink, programs: Path, tmp_path: Path
) -> None:
    write_program(programs, "flower-superlink", SERVES + START)
    assert not link.is_alive()
    link.start()
    assert link.is_alive()
    config = (tmp_path / "flower" / "config.toml").read_text()
    port = int(config.split("127.0.0.1:")[1].split('"')[0])
    assert is_healthy(port)


def test_a_port_that_was_taken_meanwhile_is_replaced(
    link: SuperLink, programs: Path, tmp_path: Path
) -> None:
    taken_once = PORT_TAKEN_ONCE.format(flag=tmp_path / "tried")
    write_program(programs, "flower-superlink", SERVES + taken_once + START)
    link.start()
    assert link.is_alive()
    assert (tmp_path / "tried").exists()


def test_a_superlink_that_ends_at_once_is_reported_with_its_last_lines(
    link: SuperLink, programs: Path
) -> None:
    write_program(programs, "flower-superlink", "print('\\x1b[93mno licence\\x1b[0m')")
    with pytest.raises(SuperLinkError, match=r"did not start.*\nno licence$"):
        link.start()


def test_a_superlink_that_never_answers_is_given_up(
    link: SuperLink, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(superlink, "START_TIMEOUT_S", 0.5)
    write_program(programs, "flower-superlink", "import time; time.sleep(60)")
    with pytest.raises(SuperLinkError, match="did not start"):
        link.start()


@pytest.mark.usefixtures("programs")
def test_a_missing_flower_is_named(link: SuperLink) -> None:
    with pytest.raises(SuperLinkError, match="`flower-superlink` cannot be started"):
        link.start()
    with pytest.raises(SuperLinkError, match="`flwr` cannot be started"):
        link.status("1")


def test_a_run_is_submitted_with_its_settings_in_one_toml_file(
    link: SuperLink, programs: Path, tmp_path: Path
) -> None:
    echo = "import json, sys; print(json.dumps({'success': True, 'run-id': sys.argv}))"
    write_program(programs, "flwr", echo)
    config = {"output": 'a "b"\\c', "fedefm.beta": 0.25, "mlflow": True, "seed": 3}
    run_id = link.submit(tmp_path, config, "num-supernodes=4")
    path = tmp_path / "flower" / "run_config.toml"
    assert f"'run', '{tmp_path}', 'endofed', '--format', 'json'" in run_id
    assert f"'--run-config', '{path}'" in run_id
    assert "'--federation-config', 'num-supernodes=4'" in run_id
    assert parse_config_args([str(path)]) == config  # as Flower reads it


def test_the_status_of_a_run_is_flowers_word_and_its_reason(
    link: SuperLink, programs: Path
) -> None:
    said = '{"success": true, "runs": [{"status": "%s", "status-details": "%s"}]}'
    write_program(programs, "flwr", f"print('{said % ('running', 'N/A')}')")
    assert link.status("1") == RunStatus("running", "")
    write_program(programs, "flwr", f"print('{said % ('finished:failed', 'oh')}')")
    assert link.status("1") == RunStatus("finished:failed", "oh")


def test_a_command_that_hangs_is_given_up(
    link: SuperLink, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(superlink, "STOP_TIMEOUT_S", 0.3)
    write_program(programs, "flwr", "import time; time.sleep(60)")
    with pytest.raises(SuperLinkError, match="`flwr stop` did not answer"):
        link.stop_run("1")
    link.save_run_log("1")  # decides nothing, so it does not raise


def test_the_log_of_a_run_is_kept_without_colours(
    link: SuperLink, programs: Path, tmp_path: Path
) -> None:
    write_program(programs, "flwr", "print('\\x1b[92mINFO\\x1b[0m: site [a]')")
    link.save_run_log("1")
    assert (tmp_path / "flower" / "run.log").read_text() == "INFO: site [a]\n"


def test_only_finished_states_are_finished() -> None:
    finished = ("finished:completed", "finished:failed", "finished:stopped")
    assert all(RunStatus(state, "").finished for state in finished)
    going_on = ("pending", "starting", "running", "no answer")
    assert not any(RunStatus(state, "").finished for state in going_on)


def test_flowers_reason_is_told_without_what_it_printed_before() -> None:
    printed = "configuration warnings in x\\nUsing SuperLink: endofed (127.0.0.1:1)\\n"
    output = f'{{"success": false, "error-message": "{printed}\\nNo such run."}}'
    with pytest.raises(SuperLinkError) as error:
        read_answer("list", output)
    assert str(error.value) == "`flwr list` failed: No such run."


def test_a_setting_that_the_app_does_not_list_is_explained() -> None:
    reason = "Using SuperLink: a\\n[code: 15] Invalid run configuration."
    output = f'{{"success": false, "error-message": "{reason}"}}'
    with pytest.raises(SuperLinkError, match=r"Every setting must be listed"):
        read_answer("run", output)


def test_an_answer_that_is_no_json_is_told_as_it_is() -> None:
    with pytest.raises(SuperLinkError, match="`flwr run` failed: No such option"):
        read_answer("run", "", "No such option: --nonsense")
    with pytest.raises(SuperLinkError, match="no answer"):
        read_answer("run", "")


def test_a_free_port_can_be_listened_on() -> None:
    port = free_port()
    assert not is_healthy(port)
    handler = http.server.SimpleHTTPRequestHandler  # has no page /health
    with http.server.HTTPServer(("127.0.0.1", port), handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert not is_healthy(port)
        thread.join(5)


def test_the_tail_of_a_log_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert tail(tmp_path / "log") == ""
    (tmp_path / "log").write_text("1\n2\n3\n")
    assert tail(tmp_path / "log", num_lines=2) == "2\n3"
