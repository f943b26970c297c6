"""One run of a deployed federation, from `flwr run` to its true end.

`flwr run` only hands the app over: what becomes of the run is asked from the SuperLink
and read in the run folder, so this must be called on the server's machine. Killing the
command does not stop a run, therefore Ctrl-C, SIGTERM and the deadline ask the
SuperLink to. A SuperLink that was restarted has failed its runs and cannot go on with
them (flwr 1.41); a new run goes on from the last round that was kept.
"""

import contextlib
import math
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from experiments.launch import SERVER_DONE, DeadlineReached, StopSignals
from experiments.live import LiveProgress
from experiments.run_config import PROJECT_FOLDER
from experiments.simulation import (
    Ending,
    SimulationOutcome,
    SimulationRequest,
    check_run_folder,
    judge,
    read_result,
)
from experiments.superlink import FlowerConnection, RunStatus, SuperLinkError
from server.journal import EVENTS_FILE
from strategies.settings import SettingsError, SettingValue

FAILED = "finished:failed"
NO_RESULT = (
    "The app at the centre ended without a result, as it does when the server is "
    "restarted or out of memory; Flower cannot go on with such a run."
)


@dataclass(frozen=True)
class Pace:
    """How often things are looked at, and how long is waited, in seconds."""

    look: float = 0.5  # at the events of the run
    ask: float = 10.0  # Flower, while all is well: a question costs it a second
    ask_at_end: float = 2.0  # Flower, once the server has finished
    silence: float = 120.0  # until a SuperLink that does not answer is given up
    grace: float = 60.0  # from the server's last event until Flower has finished


def run_deployed(
    connection: FlowerConnection,
    run_config: dict[str, SettingValue],
    *,
    active_sites: int,
    console: Console,
    deadline_s: float | None = None,
    app_folder: Path = PROJECT_FOLDER,
    pace: Pace | None = None,
) -> SimulationOutcome:
    """Run a federation to its end, or to Ctrl-C, SIGTERM or the deadline.

    Args:
        connection: To the SuperLink.
        run_config: Complete and flat; `output` is the absolute path of the run folder,
            as the server's machine sees it.
        active_sites: How many sites are provisioned and not revoked; all must take
            part unless `min-sites` says how many.
        console: Where to show the progress.
        deadline_s: Stop the run after this many seconds; None = no deadline.
        app_folder: Folder of the Flower app's `pyproject.toml`.
        pace: How often to look.

    Returns:
        How it went.

    Raises:
        SettingsError: If the run folder is not absolute or already holds a run, or no
            site is active.
    """
    if active_sites < 1:
        raise SettingsError(
            "No site of this provision is active, so there is nobody to train. Add one "
            "with `endofed provision add`."
        )
    started = time.monotonic()
    needed = int(run_config.get("min-sites", 0)) or active_sites
    request = SimulationRequest(
        run_config={**run_config, "min-sites": needed},
        num_sites=active_sites,
        deadline_s=deadline_s,
    )
    run_folder = check_run_folder(request.run_config)
    with StopSignals() as signals:
        with LiveProgress(run_folder / EVENTS_FILE, console) as live:
            follower = _Follower(connection, live, pace or Pace())
            try:
                ending = follower.run(request, app_folder, started)
            finally:
                signals.swallow()
                follower.close(run_folder)
    if ending.flower_says == FAILED and read_result(run_folder) is None:
        ending = ending._replace(reason=f"{ending.reason} {NO_RESULT}".strip())
    return judge(request, ending, run_folder, time.monotonic() - started, 0.0)


class _Follower:
    """Follows one run; knows it from its submission to its end."""

    def __init__(
        self, connection: FlowerConnection, live: LiveProgress, pace: Pace
    ) -> None:
        self._connection = connection
        self._live = live
        self._pace = pace
        self._run_id = ""
        self._is_over = False

    def run(
        self, request: SimulationRequest, app_folder: Path, started: float
    ) -> Ending:
        stop_at = started + (request.deadline_s or math.inf)
        try:
            self._live.say("submitting the run")
            self._run_id = self._connection.submit(app_folder, request.run_config)
            self._live.say(f"run {self._run_id}: waiting for the hospitals")
            status = self._follow(stop_at)
        except SuperLinkError as error:
            return Ending("", reason=str(error))
        except DeadlineReached:
            reason = f"It took longer than the {request.deadline_s:g} s it was given."
            return Ending("", reason, stopped_by="deadline")
        except KeyboardInterrupt:
            return Ending("", "It was interrupted.", stopped_by="interrupt")
        self._is_over = status.finished
        return Ending(status.state, status.details)

    def close(self, run_folder: Path) -> None:
        """Stop a run that is not over, and keep what it logged."""
        if not self._run_id:
            return
        if not self._is_over:
            self._live.say("stopping the run")
            with contextlib.suppress(SuperLinkError):
                self._connection.stop_run(self._run_id)
        if run_folder.is_dir():
            with contextlib.suppress(OSError):
                self._connection.save_run_log(self._run_id, run_folder)

    def _follow(self, stop_at: float) -> RunStatus:
        pace = self._pace
        asked = answered = time.monotonic()
        ended_at = math.inf
        while True:
            time.sleep(pace.look)
            self._live.update()
            now = time.monotonic()
            ended_at = min(ended_at, now) if self._live.view.ended else ended_at
            if now - asked >= (pace.ask_at_end if ended_at <= now else pace.ask):
                status = self._ask()
                asked = time.monotonic()
                if status is not None and status.finished:
                    self._live.update()
                    return status
                answered = asked if status is not None else answered
            if now - answered > pace.silence:
                raise SuperLinkError(
                    f"The SuperLink has not answered for {pace.silence:.0f} s. See "
                    "whether `endofed federation start` runs. If it was restarted, "
                    "start the next run with --resume and this run's folder."
                )
            if now - ended_at > pace.grace or (ended_at <= now and now > stop_at):
                return SERVER_DONE
            if now > stop_at:
                raise DeadlineReached

    def _ask(self) -> RunStatus | None:
        """Ask Flower; a busy or restarting SuperLink may miss a question."""
        try:
            return self._connection.status(self._run_id)
        except SuperLinkError:
            return None
