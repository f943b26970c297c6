"""One run's processes, from the SuperLink's start to the end of the last of them.

`Launch` starts a SuperLink, submits the run, watches it and, whatever happened, ends
every process that the run has started. Asking Flower costs about a second of CPU time,
so a run is followed by its events and its processes, and Flower is asked rarely and
when the simulation's process is gone.

A site that hangs keeps Flower's simulation alive after the server has finished; then
the run is over when the server says so and a grace period has passed.
"""

import contextlib
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from experiments.flower_home import run_environment
from experiments.live import LiveProgress
from experiments.processes import ProcessFamily
from experiments.superlink import (
    RunStatus,
    SuperLink,
    SuperLinkError,
    tail,
    without_colours,
)

log = logging.getLogger(__name__)

POLL_S = 0.3  # between two looks at the events
LOOK_S = 1.0  # between two looks at the processes
ASK_S = 15.0  # between two questions to Flower while all is well
SPAWN_TIMEOUT_S = 60.0  # from submission until the simulation's process is there
SHUTDOWN_GRACE_S = 30.0  # from the server's last event until Flower has finished
GONE_GRACE_S = 10.0  # from the end of the simulation's process until Flower says so
STOP_GRACE_S = 4.0  # from asking processes to end until they are killed
SIMULATION_PROGRAM = "flwr-simulation"
SERVER_DONE = RunStatus("server-done", "")
"""The server has finished, Flower's simulation has not."""


class DeadlineReached(Exception):
    """The run took longer than it may."""


class StopSignals:
    """Turns Ctrl-C, SIGTERM and SIGHUP into one KeyboardInterrupt; a context manager.

    Further signals are swallowed while processes are being stopped, which takes a
    bounded time. Outside the main thread it does nothing.
    """

    def __init__(self) -> None:
        """Make it; signals are caught between enter and exit."""
        self.received = False
        self._swallow = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        """Begin to catch signals."""
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                if number is not None:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def swallow(self) -> None:
        """From now on ignore the signals."""
        self._swallow = True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._swallow:
            self._swallow = self.received = True
            raise KeyboardInterrupt


class Launch:
    """The processes of one run."""

    def __init__(self, home: Path, live: LiveProgress, threads_per_site: int) -> None:
        """Prepare a launch; nothing is started yet.

        Args:
            home: The run's `FLWR_HOME`; made if missing.
            live: Shows the run.
            threads_per_site: CPU threads of one hospital.
        """
        home.mkdir(parents=True, exist_ok=True)
        self.peak_memory_mib = 0.0
        self._home = home
        self._live = live
        self._family = ProcessFamily.new()
        # An existing Ray cluster keeps its sockets in a folder of its own.
        self._ray_folder = None if os.environ.get("RAY_ADDRESS") else _short_folder()
        environment = run_environment(
            home, threads_per_site=threads_per_site, ray_folder=self._ray_folder
        )
        self._superlink = SuperLink(home, {**environment, **self._family.environment})
        self._run_id = ""
        self._over = False

    def run(
        self,
        app_folder: Path,
        run_config: Mapping[str, Any],
        federation_config: str,
        stop_at: float,
    ) -> RunStatus:
        """Start the run and follow it to its end.

        Args:
            app_folder: Folder of the app's `pyproject.toml`.
            run_config: Flat settings.
            federation_config: Flower's `key=value` pairs, separated by blanks.
            stop_at: Monotonic time in seconds after which the run must stop.

        Returns:
            What Flower says about the run, or `SERVER_DONE`.

        Raises:
            SuperLinkError: If Flower could not start the run or broke down.
            DeadlineReached: If it took too long.
        """
        self._live.say("starting Flower's SuperLink")
        self._superlink.start()
        self._live.say("submitting the run")
        self._run_id = self._superlink.submit(app_folder, run_config, federation_config)
        self._live.say("starting Ray and the hospitals")
        status = self._follow(stop_at)
        self._over = status.finished
        return status

    def close(self, *, hurry: bool = False) -> None:
        """End every process of the run and remove what only they needed.

        Args:
            hurry: Do not fetch the run's log.
        """
        if self._run_id and self._superlink.is_alive():
            if not self._over:
                with contextlib.suppress(SuperLinkError):
                    self._superlink.stop_run(self._run_id)
            if not hurry:
                self._superlink.save_run_log(self._run_id)
        left = self._family.stop(STOP_GRACE_S)
        if left:
            log.warning("%d processes of the run could not be ended.", left)
        shutil.rmtree(self._home / "apps", ignore_errors=True)
        if self._ray_folder is not None:
            shutil.rmtree(self._ray_folder, ignore_errors=True)
        if self._superlink.log.exists():
            text = self._superlink.log.read_text(encoding="utf-8", errors="replace")
            self._superlink.log.write_text(without_colours(text), encoding="utf-8")

    def _follow(self, stop_at: float) -> RunStatus:
        submitted = looked = asked = time.monotonic()
        ended_at = gone_at = float("inf")
        spawned = False
        while True:
            time.sleep(POLL_S)
            self._live.update()
            now = time.monotonic()
            ended_at = min(ended_at, now) if self._live.view.ended else ended_at
            if now - looked >= LOOK_S:
                looked, present = now, self._look()
                spawned = spawned or present
                gone_at = min(gone_at, now) if spawned and not present else gone_at
            self._check(spawned, now - submitted)
            if now - asked >= (LOOK_S if gone_at <= now else ASK_S):
                status = self._ask(sure=gone_at <= now)
                if status.finished:
                    return status
                asked = time.monotonic()
            if now - gone_at > GONE_GRACE_S:
                return RunStatus("finished:failed", "The simulation's process died.")
            if now - ended_at > SHUTDOWN_GRACE_S or (ended_at <= now and now > stop_at):
                return SERVER_DONE
            if now > stop_at:
                raise DeadlineReached

    def _ask(self, *, sure: bool) -> RunStatus:
        """Ask Flower; a busy SuperLink may miss a question unless we must be sure."""
        try:
            return self._superlink.status(self._run_id)
        except SuperLinkError:
            if sure:
                raise
            return RunStatus("no answer", "")

    def _look(self) -> bool:
        """Measure the memory and tell whether the simulation's process is there."""
        self.peak_memory_mib = max(self.peak_memory_mib, self._family.memory_mib())
        return self._family.has_program(SIMULATION_PROGRAM)

    def _check(self, spawned: bool, seconds: float) -> None:
        if not self._superlink.is_alive():
            raise SuperLinkError(
                "The SuperLink ended during the run. Its last lines were:\n"
                + tail(self._superlink.log)
            )
        if not spawned and seconds > SPAWN_TIMEOUT_S:
            raise SuperLinkError(
                f"Flower did not start the simulation within {SPAWN_TIMEOUT_S:.0f} s."
                " The SuperLink's last lines were:\n" + tail(self._superlink.log)
            )


def _short_folder() -> Path:
    """Make a folder whose path leaves room for the names of Ray's sockets."""
    short = Path("/tmp")
    parent = str(short) if os.access(short, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="endofed-", dir=parent))
