"""Starting a tree of processes and surely stopping all of it.

A federation on one machine is a dozen processes. Flower and Ray start sessions of their
own, and when a parent dies its children are handed to process 1, so neither a process
group nor a parent can be relied on. Therefore everything that is started carries a
marker in its environment, which children inherit, and whatever carries it is found and
ended. Nothing else is ever signalled.

`psutil` reads the environments. Ray renames its processes, which overwrites the
environment that others can see: `SPT_NOENV` tells it not to. This module knows nothing
of Flower; it sees only processes of the same user and the same machine.
"""

import contextlib
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

MARKER = "ENDOFED_RUN_ID"
BYTES_PER_MIB = 2**20
KILL_ATTEMPTS = 5
KILL_WAIT_S = 2.0


class ProcessFamily:
    """The living processes that carry a marker, and their descendants."""

    def __init__(
        self,
        name: str,
        value: str,
        is_founder: Callable[[psutil.Process], bool] = lambda process: True,
    ) -> None:
        """Describe a family; it may not have a member yet.

        Args:
            name: Environment variable that its members carry.
            value: Value that the variable must have.
            is_founder: Which carriers count, besides the descendants of those that do.
        """
        self._name = name
        self._value = value
        self._is_founder = is_founder
        self._known: set[psutil.Process] = set()

    @classmethod
    def new(cls) -> "ProcessFamily":
        """Return a family with a marker that no other process has."""
        return cls(MARKER, uuid.uuid4().hex)

    @property
    def environment(self) -> dict[str, str]:
        """Variables that every process of the family must be started with."""
        return {self._name: self._value, "SPT_NOENV": "1"}

    def members(self) -> list[psutil.Process]:
        """Find the members that are alive now; a zombie is not.

        Returns:
            The members, oldest first. A process that was a member once stays one, also
            after it lost its parent.
        """
        for founder in self._founders():
            self._known.add(founder)
            with contextlib.suppress(psutil.Error):
                self._known.update(founder.children(recursive=True))
        self._known = {process for process in self._known if _is_alive(process)}
        return sorted(self._known, key=lambda process: (_born(process), process.pid))

    def has_program(self, program: str) -> bool:
        """Tell whether a member runs a program.

        Args:
            program: Name of the program's file, such as "flwr-simulation".
        """
        return any(program in program_names(process) for process in self.members())

    def memory_mib(self) -> float:
        """Return the memory of all members together, in MiB.

        The proportional set size (Linux): memory that several processes share is
        counted once. Elsewhere the resident size, which counts it several times.
        """
        return sum(_memory_bytes(process) for process in self.members()) / BYTES_PER_MIB

    def stop(self, grace_s: float) -> int:
        """End all members: first ask, then, after a grace period, kill.

        Args:
            grace_s: How long members may take to end by themselves, in seconds.

        Returns:
            How many are still alive; 0 unless the system refuses to end them.
        """
        members = self.members()
        for process in members:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        psutil.wait_procs(members, timeout=grace_s)
        for _ in range(KILL_ATTEMPTS):  # the dying may have started others
            members = self.members()
            if not members:
                return 0
            for process in members:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(members, timeout=KILL_WAIT_S)
        return len(self.members())

    def _founders(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(
                    self._name
                ) == self._value and self._is_founder(process):
                    yield process


def start(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> "subprocess.Popen[bytes]":
    """Start a program in a session of its own, so that Ctrl-C does not reach it.

    Args:
        command: Program and arguments.
        environment: All of its environment, the family's variables included.
        log: File that its output is added to.

    Returns:
        The process.

    Raises:
        OSError: If the program does not exist or the log cannot be written.
    """
    with log.open("ab") as stream:
        return subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    timeout_s: float,
    *,
    folder: Path | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end, out of reach of Ctrl-C.

    Args:
        command: Program and arguments.
        environment: All of its environment.
        timeout_s: How long it may take; then it is killed.
        folder: Where to run it; None = where this program runs.

    Returns:
        Its exit code and its output as text.

    Raises:
        OSError: If the program does not exist.
        subprocess.TimeoutExpired: If it took too long.
    """
    return subprocess.run(
        command,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
        start_new_session=True,
    )


def program_names(process: psutil.Process) -> set[str]:
    """Return the file names of the program and, for a script, of the script.

    Args:
        process: Any process.

    Returns:
        Such as {"python", "flwr-simulation"}; empty if the process is gone.
    """
    try:
        return {Path(part).name for part in process.cmdline()[:2]}
    except psutil.Error:
        return set()


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _born(process: psutil.Process) -> float:
    """Return when a process started; psutil has kept it since it was found."""
    try:
        return float(process.create_time())
    except psutil.Error:
        return float("inf")


def _memory_bytes(process: psutil.Process) -> int:
    try:
        info = process.memory_full_info()
        return int(getattr(info, "pss", info.rss))
    except psutil.Error:
        return 0
