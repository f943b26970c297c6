"""The coordinating centre: Flower's SuperLink with TLS and registered sites only.

Started from the server's folder of a provision, which is only read; all that is written
goes into a state folder:

    STATE/flower/        Flower's own folder (`FLWR_HOME`), with the connection
    STATE/superlink.db   SQLite: registered keys, runs, messages under way
    STATE/runs/          a folder for each run of `endofed federation run`

Flower's control interface has no login in the open-source version: whoever reaches the
port can submit an app. Sites run only what they approved; the firewall should still
admit nobody but the sites (flwr 1.41).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments.deployment.private_files import is_open_to_others, make_private_folders
from experiments.flower_home import (
    QUIET,
    REPEATABLE,
    programs_folder,
    write_secure_connection,
)
from experiments.superlink import FlowerConnection
from strategies.settings import SettingsError

AUTHORITY, CERTIFICATE, KEY = "ca.crt", "server.pem", "server.key"
ENVIRONMENT_FILE = "federation.env"
HOME, DATABASE, RUNS = "flower", "superlink.db", "runs"
"""In the state folder."""
PORT = "ENDOFED_PORT"
TRACKING_ADDRESS = "MLFLOW_TRACKING_URI"
TASK_POLL_S = "0.5"
"""How often the SuperLink's helper looks for a run to start; Flower's own: 1 s."""


@dataclass(frozen=True)
class Centre:
    """Where the folders of a centre are and how its SuperLink is reached.

    Attributes:
        server: The server's folder of a provision.
        state: Folder that may be written.
        address: Of the SuperLink as seen from here, host:port.
    """

    server: Path
    state: Path
    address: str

    @classmethod
    def open(
        cls, folder: Path, state: Path | None = None, address: str = ""
    ) -> "Centre":
        """Find the parts of a centre.

        Args:
            folder: That `endofed provision` has made, or `server` in it.
            state: Folder that may be written; None = `state` in the server's folder.
            address: host:port; "" = this machine, at the provisioned port.

        Returns:
            The centre; nothing is made or asked yet.

        Raises:
            SettingsError: If the folder is no server's folder of a provision.
        """
        server = server_folder(folder)
        return cls(
            server=server,
            state=(state or server / "state").absolute(),
            address=address or f"127.0.0.1:{read_port(server)}",
        )

    @property
    def authority(self) -> Path:
        """Return the certificate by which the SuperLink is known."""
        return self.server / AUTHORITY

    @property
    def runs(self) -> Path:
        """Return where runs get their folders."""
        return self.state / RUNS

    def connect(self) -> FlowerConnection:
        """Write the connection of this centre and return it.

        Raises:
            SettingsError: If the state folder cannot be written.
        """
        prepare_state(self.state)
        home = self.state / HOME
        write_secure_connection(home, self.address, self.authority)
        return FlowerConnection(home, centre_environment(self.state))


def server_folder(folder: Path) -> Path:
    """Return the server's folder of a provision.

    Args:
        folder: A provision, or `server` in it.

    Returns:
        Absolute path.

    Raises:
        SettingsError: If it is neither.
    """
    for place in (folder / "server", folder):
        if (place / AUTHORITY).is_file() and (place / CERTIFICATE).is_file():
            return place.absolute()
    raise SettingsError(
        f"'{folder}' holds no {AUTHORITY} and {CERTIFICATE}. Name the folder that "
        "`endofed provision` has made, or `server` in it."
    )


def read_port(server: Path) -> int:
    """Return the port that a federation was provisioned for.

    Args:
        server: The server's folder.

    Raises:
        SettingsError: If its federation.env names none.
    """
    try:
        lines = (server / ENVIRONMENT_FILE).read_text(encoding="utf-8").splitlines()
        pairs = dict(line.split("=", 1) for line in lines if "=" in line)
        return int(pairs[PORT])
    except (OSError, ValueError, KeyError):
        raise SettingsError(
            f"{ENVIRONMENT_FILE} in the server's folder names no {PORT}. Copy the file "
            "from the provision again, or give --port or --address."
        ) from None


def centre_environment(state: Path, tracking: Path | None = None) -> dict[str, str]:
    """Return the environment of the SuperLink, of `flwr` and of the app at the centre.

    Args:
        state: The centre's state folder.
        tracking: Folder of the database of an MLflow server; None = as this process
            has it, and each run folder its own database if it has none.

    Returns:
        This process's environment with what Flower, MLflow and numbers that repeat
        need; nothing is installed during a run and nothing reports home.
    """
    environment = {**os.environ, **QUIET, **REPEATABLE}
    environment["FLWR_HOME"] = str(state / HOME)
    environment.setdefault("FLWR_SUPEREXEC_TASK_POLL_INTERVAL", TASK_POLL_S)
    environment.setdefault("OMP_NUM_THREADS", "1")
    environment["PATH"] = os.pathsep.join(
        [str(programs_folder()), os.environ.get("PATH", os.defpath)]
    )
    for name in ("NO_PROXY", "no_proxy"):  # this machine is reached directly
        known = os.environ.get(name, "")
        environment[name] = ",".join(filter(None, [known, "127.0.0.1", "localhost"]))
    if tracking is not None and not environment.get(TRACKING_ADDRESS):
        environment[TRACKING_ADDRESS] = f"sqlite:///{tracking.absolute() / 'mlflow.db'}"
    return environment


def superlink_command(centre: Centre, host: str, port: int) -> list[str]:
    """Return the command line of a SuperLink that serves registered sites over TLS.

    Args:
        centre: Whose it is.
        host: Address to listen on; 0.0.0.0 = all of this machine.
        port: To listen on.

    Returns:
        Program and arguments.
    """
    return [
        str(programs_folder() / "flower-superlink"),
        *("--ssl-ca-certfile", str(centre.authority)),
        *("--ssl-certfile", str(centre.server / CERTIFICATE)),
        *("--ssl-keyfile", str(centre.server / KEY)),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
        *("--host", host),
        *("--port", str(port)),
        *("--database", str(centre.state / DATABASE)),
    ]


def become(command: list[str], environment: Mapping[str, str]) -> None:
    """Go on as another program, in this process: signals reach it as they are.

    Args:
        command: Program, as a path, and arguments.
        environment: All of its environment.

    Raises:
        SettingsError: If it cannot be started.
    """
    os.umask(0o077)  # weights and keys pass through what it writes
    try:
        os.execve(command[0], command, dict(environment))
    except OSError as error:
        raise SettingsError(
            f"`{Path(command[0]).name}` cannot be started ({error.strerror}). Install "
            "this project's dependencies in the environment of the Python that runs it."
        ) from None


def require_key(server: Path) -> None:
    """Refuse a server's key that is missing or that others may read.

    Args:
        server: The server's folder.

    Raises:
        SettingsError: If so.
    """
    key = server / KEY
    if not os.access(key, os.R_OK):
        raise SettingsError(
            f"{KEY} is missing in the server's folder, or this program's user may not "
            "read it. Copy it from the provision."
        )
    if is_open_to_others(key):
        raise SettingsError(
            f"Other users of this machine may read {KEY}: take that away with "
            f"`chmod 600 {KEY}`."
        )


def prepare_state(state: Path) -> None:
    """Make the state folder and its parts, for its owner only.

    Args:
        state: The folder; its parents are made, too.

    Raises:
        SettingsError: If it cannot be written.
    """
    if not make_private_folders((state, state / HOME, state / RUNS)):
        raise SettingsError(
            f"'{state}' cannot be written. Name a folder for the database and the runs "
            "with --state, where this program's user may write."
        )
