"""A SuperLink of one's own: started, asked and stopped through Flower's programs.

A simulation SuperLink listens on a free loopback port, keeps its state in memory and
serves one run. Everything is asked through the `flwr` command (about a second each,
most of it imports), because Flower's Python clients are private. Facts read in flwr
1.41:

- `flwr` exits 0 also when it failed; with `--format json` the answer says `success`;
- a run's status is `pending`, `starting`, `running` or `finished:completed`,
  `finished:failed`, `finished:stopped`; the app's log is not in the SuperLink's output,
  `flwr log` has it;
- a SuperLink that finds its port taken ends by itself.
"""

import contextlib
import http.client
import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w
from rich.text import Text

from experiments import processes
from experiments.flower_home import CONNECTION, programs_folder, write_connection

START_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
HEALTH_INTERVAL_S = 0.1
BIND_ATTEMPTS = 3
TAIL_LINES = 12


class SuperLinkError(RuntimeError):
    """A SuperLink could not be started or refused what it was asked."""


class RunStatus(NamedTuple):
    """What a SuperLink says about a run."""

    state: str  # such as "running" or "finished:completed"
    details: str  # why it failed; "" if Flower gives no reason

    @property
    def finished(self) -> bool:
        """Whether the run is over, well or not."""
        return self.state.startswith("finished")


class FlowerConnection:
    """The `flwr` command with the connection that a folder's configuration names."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """Describe a connection; its configuration may be written later.

        Args:
            folder: The `FLWR_HOME`; must exist.
            environment: All of the environment of `flwr`.
        """
        self._folder = folder
        self._environment = environment

    def submit(
        self,
        app_folder: Path,
        run_config: Mapping[str, Any],
        federation_config: str = "",
    ) -> str:
        """Start a run with `flwr run`.

        Args:
            app_folder: Folder of the app's `pyproject.toml`.
            run_config: Flat settings; each must be listed by the app.
            federation_config: Flower's `key=value` pairs, separated by blanks; only a
                simulation has any.

        Returns:
            The run's id.

        Raises:
            SuperLinkError: If Flower refuses the app or a setting.
        """
        path = self._folder / "run_config.toml"
        path.write_text(tomli_w.dumps(dict(run_config)), encoding="utf-8")
        command = ["run", str(app_folder), CONNECTION, "--format", "json"]
        command += ["--run-config", str(path)]
        if federation_config:
            command += ["--federation-config", federation_config]
        return str(self.ask(command)["run-id"])

    def status(self, run_id: str) -> RunStatus:
        """Ask for the state of a run.

        Raises:
            SuperLinkError: If there is no answer.
        """
        command = ["list", CONNECTION, "--run-id", run_id, "--format", "json"]
        run = self.ask(command)["runs"][0]
        details = str(run.get("status-details", ""))
        return RunStatus(str(run["status"]), "" if details == "N/A" else details)

    def stop_run(self, run_id: str) -> None:
        """Ask the SuperLink to stop a run; its processes may live on for a while.

        Raises:
            SuperLinkError: If there is no answer in time.
        """
        self.ask(["stop", run_id, CONNECTION, "--format", "json"], STOP_TIMEOUT_S)

    def save_run_log(self, run_id: str, folder: Path | None = None) -> None:
        """Write what the run logged to `run.log`.

        A log that cannot be had is left out: it decides nothing.

        Args:
            run_id: Of the run.
            folder: Where to write it; None = the `FLWR_HOME`.
        """
        command = [str(programs_folder() / "flwr"), "log", run_id, CONNECTION, "--show"]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            done = processes.run(command, self._environment, STOP_TIMEOUT_S)
            text = without_colours(done.stdout)
            path = (folder or self._folder) / "run.log"
            path.write_text(text, encoding="utf-8")

    def ask(
        self, arguments: Sequence[str], timeout_s: float = COMMAND_TIMEOUT_S
    ) -> dict[str, Any]:
        """Run a `flwr` command that answers in JSON.

        Args:
            arguments: Of `flwr`, with `--format json`.
            timeout_s: How long it may take, in seconds.

        Returns:
            Its answer.

        Raises:
            SuperLinkError: If it failed, with Flower's reason, or took too long.
        """
        command = [str(programs_folder() / "flwr"), *arguments]
        try:
            done = processes.run(command, self._environment, timeout_s)
        except OSError as error:
            raise _not_startable("flwr", error) from None
        except subprocess.TimeoutExpired:
            raise SuperLinkError(
                f"`flwr {arguments[0]}` did not answer within {timeout_s:.0f} s."
            ) from None
        return read_answer(arguments[0], done.stdout, done.stderr)


class SuperLink(FlowerConnection):
    """A simulation SuperLink on a free loopback port."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """Describe a SuperLink; `start` starts it.

        Args:
            folder: Its `FLWR_HOME`; must exist.
            environment: All of the environment of it and of the run.
        """
        super().__init__(folder, environment)
        self.log = folder / "superlink.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the SuperLink and wait until it answers.

        Raises:
            SuperLinkError: If it ends or does not answer in time; with its last lines.
        """
        for _ in range(BIND_ATTEMPTS):
            port = free_port()
            write_connection(self._folder, port)
            try:
                self._process = processes.start(
                    self._start_command(port), self._environment, self.log
                )
            except OSError as error:
                raise _not_startable("flower-superlink", error) from None
            if self._answers(port):
                return
            if "attempting to bind" not in tail(self.log):
                break  # not a port that another program took in the meantime
        raise SuperLinkError(
            "The SuperLink did not start. Its last lines were:\n" + tail(self.log)
        )

    def is_alive(self) -> bool:
        """Tell whether the SuperLink is running."""
        return self._process is not None and self._process.poll() is None

    def _start_command(self, port: int) -> list[str]:
        program = str(programs_folder() / "flower-superlink")
        where = ["--host", "127.0.0.1", "--port", str(port)]
        return [program, "--insecure", "--simulation", *where]

    def _answers(self, port: int) -> bool:
        given_up_at = time.monotonic() + START_TIMEOUT_S
        while self.is_alive() and time.monotonic() < given_up_at:
            if is_healthy(port):
                return True
            time.sleep(HEALTH_INTERVAL_S)
        return False


def read_answer(verb: str, output: str, errors: str = "") -> dict[str, Any]:
    """Read what a `flwr` command answered with `--format json`.

    Args:
        verb: The command, for the error message.
        output: Its standard output.
        errors: Its standard error.

    Returns:
        The answer of a command that succeeded.

    Raises:
        SuperLinkError: If the command failed, with Flower's reason.
    """
    try:
        answer = json.loads(output)
    except ValueError:
        answer = {"error-message": (output + errors).strip() or "no answer"}
    if answer.get("success"):
        return dict(answer)
    # Flower puts whatever it printed before in front of the reason.
    _, _, reason = str(answer.get("error-message")).rpartition("Using SuperLink:")
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    reason = " ".join(lines[1:] or lines)
    if "Invalid run configuration" in reason:
        reason += (
            " Every setting must be listed, with a value of the same type, in "
            "[tool.flwr.app.config] of the app's pyproject.toml."
        )
    raise SuperLinkError(f"`flwr {verb}` failed: {reason}")


def free_port() -> int:
    """Return a loopback port that no program listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_healthy(port: int) -> bool:
    """Tell whether a SuperLink answers on a loopback port."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
            return bool(answer.status == http.client.OK)
    except (OSError, http.client.HTTPException):
        return False


def tail(log: Path, num_lines: int = TAIL_LINES) -> str:
    """Return the last lines of a log, without colours; "" if there is none."""
    if not log.exists():
        return ""
    text = log.read_text(encoding="utf-8", errors="replace")
    return "\n".join(without_colours(text).splitlines()[-num_lines:])


def without_colours(text: str) -> str:
    """Return a text without the escape codes of terminals."""
    return "\n".join(Text.from_ansi(line).plain for line in text.splitlines()) + "\n"


def _not_startable(program: str, error: OSError) -> SuperLinkError:
    return SuperLinkError(
        f"`{program}` cannot be started ({error.strerror}). Install this project's "
        "dependencies in the environment of the Python that runs it."
    )
