"""Runs one federation on this machine through `flwr run`, and tells how it went.

Flower exits 0 whether a run failed or not, and calls a run completed in which no site
worked. Therefore a run counts as completed only if Flower says so and the server's own
`result.json` says so and enough sites took part.

`RAY_ADDRESS` in the environment makes Flower use that Ray cluster; how many sites work
at once is then the cluster's size, and its processes and its memory are its own.
"""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rich.console import Console

from experiments.launch import SERVER_DONE, DeadlineReached, Launch, StopSignals
from experiments.live import LiveProgress
from experiments.resources import federation_config
from experiments.run_config import PROJECT_FOLDER
from experiments.superlink import SuperLinkError
from server.journal import EVENTS_FILE, RESULT_FILE
from strategies.settings import SettingsError, SettingValue

EXIT_FAILED = 1
EXIT_TOO_FEW_SITES = 3
EXIT_DEADLINE = 124  # as `timeout` does
EXIT_INTERRUPTED = 130  # as shells do after Ctrl-C

Status = Literal["completed", "failed", "stopped"]
StoppedBy = Literal["", "deadline", "interrupt"]


@dataclass(frozen=True)
class SimulationRequest:
    """One federation to simulate.

    Raises:
        SettingsError: If a number is out of range.
    """

    run_config: Mapping[str, SettingValue]  # complete and flat; "output" is absolute
    num_sites: int  # hospitals of the sites file
    workers: int | None = None  # hospitals that work at the same time; None = by cores
    gpus_per_site: float | None = None  # share of a GPU, 0 to 1; None = even shares
    deadline_s: float | None = None  # from the call of `simulate`; None = no deadline

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.num_sites < 1:
            raise SettingsError(f"A run needs at least 1 site, got {self.num_sites}.")
        if self.workers is not None and self.workers < 1:
            raise SettingsError(f"workers must be at least 1, got {self.workers}.")
        if self.gpus_per_site is not None and not 0 <= self.gpus_per_site <= 1:
            raise SettingsError(
                f"gpus-per-site must be 0 to 1, got {self.gpus_per_site}."
            )
        if self.deadline_s is not None and not self.deadline_s > 0:
            raise SettingsError(f"deadline-s must be > 0, got {self.deadline_s}.")

    @property
    def needed_sites(self) -> int:
        """How many sites must take part in every phase."""
        return int(self.run_config.get("min-sites", 0)) or self.num_sites


@dataclass(frozen=True)
class SimulationOutcome:
    """How a run went."""

    status: Status
    run_folder: Path
    result: dict[str, Any] | None  # result.json; None if the server wrote none
    reason: str  # "" if all is well
    seconds: float  # from the call of `simulate` to the end of the last process
    peak_memory_mib: float  # of all processes together, see ProcessFamily.memory_mib
    too_few_sites: bool = False
    stopped_by: StoppedBy = ""

    @property
    def exit_code(self) -> int:
        """Exit code for a command: 0, 1, 3, 124 or 130."""
        if self.stopped_by:
            return EXIT_DEADLINE if self.stopped_by == "deadline" else EXIT_INTERRUPTED
        if self.too_few_sites:
            return EXIT_TOO_FEW_SITES
        return 0 if self.status == "completed" else EXIT_FAILED


class Ending(NamedTuple):
    """How the processes of a run ended, before anyone looked at the result."""

    flower_says: str  # its last state, "server-done", or "" if it never told
    reason: str = ""
    stopped_by: StoppedBy = ""


def simulate(
    request: SimulationRequest, *, console: Console, app_folder: Path = PROJECT_FOLDER
) -> SimulationOutcome:
    """Run a federation to its end, or to Ctrl-C, SIGTERM or the deadline.

    Args:
        request: What to run.
        console: Where to show the progress.
        app_folder: Folder of the Flower app's `pyproject.toml`.

    Returns:
        How it went. No process of the run is alive then.

    Raises:
        SettingsError: If the run folder is not absolute or already holds a run.
    """
    started = time.monotonic()
    run_folder = check_run_folder(request.run_config)
    threads = int(request.run_config.get("threads-per-site", 1))
    with StopSignals() as signals:
        with LiveProgress(run_folder / EVENTS_FILE, console) as live:
            launch = Launch(run_folder / "flower", live, threads)
            try:
                ending = _run(request, launch, app_folder, started)
            finally:
                signals.swallow()
                live.say("ending the processes")
                launch.close(hurry=signals.received)
                live.say("all processes have ended")
        seconds = time.monotonic() - started
    return judge(request, ending, run_folder, seconds, launch.peak_memory_mib)


def check_run_folder(run_config: Mapping[str, SettingValue]) -> Path:
    """Return the run folder of a configuration; it need not exist.

    Raises:
        SettingsError: If it is not absolute or already holds a run.
    """
    folder = Path(str(run_config.get("output", "")))
    if not folder.is_absolute():
        raise SettingsError("output must be the absolute path of the run folder.")
    if any((folder / name).exists() for name in (EVENTS_FILE, RESULT_FILE)):
        raise SettingsError(
            "The run folder already holds a run, and nothing is overwritten. "
            "Set output to another folder."
        )
    return folder


def judge(
    request: SimulationRequest,
    ending: Ending,
    run_folder: Path,
    seconds: float,
    peak_memory_mib: float,
) -> SimulationOutcome:
    """Decide how a run went from what Flower and the server say.

    Args:
        request: What was to be run.
        ending: How the processes ended.
        run_folder: May hold the server's `result.json`.
        seconds: How long it took.
        peak_memory_mib: Most memory of all processes together.

    Returns:
        The outcome.
    """
    result = read_result(run_folder)
    status, reason = _status(ending, result)
    too_few = status != "stopped" and _has_too_few_sites(request, result, status)
    if too_few and status == "completed":
        found = len(result["sites"]) if result else 0
        status = "failed"
        reason = f"{found} of at least {request.needed_sites} sites took part."
    return SimulationOutcome(
        status=status,
        run_folder=run_folder,
        result=result,
        reason=reason,
        seconds=seconds,
        peak_memory_mib=peak_memory_mib,
        too_few_sites=too_few,
        stopped_by=ending.stopped_by,
    )


def read_result(run_folder: Path) -> dict[str, Any] | None:
    """Return `result.json` of a run, or None if it is missing or no JSON object."""
    try:
        result = json.loads((run_folder / RESULT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) else None


def _run(
    request: SimulationRequest, launch: Launch, app_folder: Path, started: float
) -> Ending:
    stop_at = started + (request.deadline_s or math.inf)
    size = federation_config(
        request.num_sites,
        workers=request.workers,
        gpus_per_site=request.gpus_per_site,
        threads_per_site=int(request.run_config.get("threads-per-site", 1)),
        use_gpus=request.run_config.get("device") != "cpu",
    )
    try:
        status = launch.run(app_folder, request.run_config, size, stop_at)
    except SuperLinkError as error:
        return Ending("", reason=str(error))
    except DeadlineReached:
        reason = f"It took longer than the {request.deadline_s:g} s it was given."
        return Ending("", reason, stopped_by="deadline")
    except KeyboardInterrupt:
        return Ending("", "It was interrupted.", stopped_by="interrupt")
    return Ending(status.state, status.details)


def _status(ending: Ending, result: Mapping[str, Any] | None) -> tuple[Status, str]:
    if ending.stopped_by:
        return "stopped", ending.reason
    said = str((result or {}).get("status", ""))
    if said == "completed" and ending.flower_says in (
        "finished:completed",
        SERVER_DONE.state,
    ):
        return "completed", ""
    own = str((result or {}).get("reason", ""))
    fallback = f"Flower says '{ending.flower_says}', the server wrote no result."
    return "failed", own or ending.reason or fallback


def _has_too_few_sites(
    request: SimulationRequest, result: Mapping[str, Any] | None, status: Status
) -> bool:
    if result is None:
        return False
    if status == "completed":
        return len(result.get("sites") or ()) < request.needed_sites
    return bool(result.get("too_few_sites") or result.get("missing"))
