"""Starts the SuperNode of a hospital from its kit, in this process.

A kit is a folder with `site.toml`, `ca.crt` and `supernode.key`. It is only read: all
that is written goes into the `state` folder of site.toml and the system's temporary
folder, so the kit and the root file system may be mounted read-only. Connections go
out to the one address in site.toml; the SuperNode's own API, through which the programs
of an app fetch their work, listens on loopback.
"""

import json
import os
import sys
from collections.abc import Sequence
from logging import ERROR, WARNING
from pathlib import Path

from clients.data.errors import DataError
from clients.hospital import CACHE_FOLDER, KEY_FILE
from clients.site_file import ANY_APP, SiteFile
from experiments.deployment.private_files import is_open_to_others, make_private_folders
from experiments.flower_home import QUIET, REPEATABLE
from experiments.superlink import free_port

SITE_FILE, CERTIFICATE, KEY = "site.toml", "ca.crt", "supernode.key"
"""Files of a kit that a SuperNode needs."""
HOME = "flower"
"""Flower's folder, in the state folder."""
LOOPBACK = "127.0.0.1"


def run_supernode(
    kit: Path,
    *,
    port: int = 0,
    isolation: str = "subprocess",
    arguments: Sequence[str] = (),
) -> int:
    """Connect a hospital and serve until somebody ends this process.

    Must be called in the main thread, as Flower sets signal handlers.

    Args:
        kit: Folder of the kit.
        port: Of the SuperNode's own API on loopback; 0 = a free one.
        isolation: "subprocess": this process starts the programs of an app; "process":
            a `flower-superexec` started beside it does.
        arguments: More for `flower-supernode`, such as a health server's address.

    Returns:
        Exit code: 0 after SIGTERM or SIGINT, 1 if the centre refused the key, Flower
        is a version that the gate for apps does not know, or there was another error;
        the log says which.

    Raises:
        DataError: If the kit is incomplete or wrong, or its state folder cannot be
            written.
    """
    kit = kit.absolute()
    site = SiteFile.read(kit / SITE_FILE)
    _require_files(kit)
    _prepare_state(site.machine.state)
    os.environ.update(site_environment(site.machine.state))
    command = supernode_command(kit, site, port or free_port(), isolation, arguments)
    return _run(kit, site, command)


def site_environment(state: Path) -> dict[str, str]:
    """Return what a SuperNode and its programs are to find in their environment.

    Args:
        state: The folder that may be written.

    Returns:
        Variables by name, in addition to those that are there.
    """
    programs = str(Path(sys.executable).parent)  # flower-superexec is sought by name
    return {
        **QUIET,
        **REPEATABLE,
        "PYTHONDONTWRITEBYTECODE": "1",
        "FLWR_HOME": str(state / HOME),
        "ENDOFED_KEY": str(state / KEY_FILE),
        "ENDOFED_CACHE": str(state / CACHE_FOLDER),
        "XDG_CACHE_HOME": str(state / CACHE_FOLDER),
        "MPLCONFIGDIR": str(state / CACHE_FOLDER),
        "PATH": os.pathsep.join([programs, os.environ.get("PATH", os.defpath)]),
    }


def supernode_command(
    kit: Path, site: SiteFile, port: int, isolation: str, arguments: Sequence[str] = ()
) -> list[str]:
    """Return the command line of Flower's SuperNode for a kit.

    Args:
        kit: Absolute path of the kit.
        site: Its site file.
        port: Of the SuperNode's own API.
        isolation: Flower's.
        arguments: More for Flower.

    Returns:
        Program and arguments.

    Raises:
        DataError: If the kit's path has quotes, which Flower cannot be given.
    """
    path = str(kit / SITE_FILE)
    if json.dumps(path, ensure_ascii=False) != f'"{path}"' or "'" in path:
        raise DataError("Move the kit to a folder without quotes in its path.")
    return [
        "flower-supernode",
        *("--superlink", site.federation.address),
        *("--root-certificates", str(kit / CERTIFICATE)),
        *("--auth-supernode-private-key", str(kit / KEY)),
        *("--host", LOOPBACK),
        *("--port", str(port)),
        *("--isolation", isolation),
        *("--node-config", f'site-file="{path}"'),
        *arguments,
    ]


def _require_files(kit: Path) -> None:
    missing = [name for name in (CERTIFICATE, KEY) if not _is_readable(kit / name)]
    if missing:
        raise DataError(
            f"The kit lacks {' and '.join(missing)}, or this program's user may not "
            "read it. A site that made its own key puts its private half there as "
            f"{KEY}."
        )
    if is_open_to_others(kit / KEY):
        raise DataError(
            f"Other users of this machine may read {KEY}: take that away with "
            f"`chmod 600 {KEY}` in the kit."
        )


def _is_readable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.R_OK)


def _prepare_state(state: Path) -> None:
    if not make_private_folders((state, state / HOME, state / CACHE_FOLDER)):
        raise DataError(
            "The folder `state` of site.toml cannot be written by this program's user. "
            "It keeps the audit log, the pseudonyms' key and prepared frames: mount or "
            "make a folder there."
        )


def _run(kit: Path, site: SiteFile, command: list[str]) -> int:
    # Flower reads its environment when it is imported.
    from flwr.supercore import log, telemetry
    from flwr.supernode.cli.flower_supernode import flower_supernode

    from experiments.deployment.fab_gate import AppGate, GateError, only_approved_apps

    telemetry.FLWR_TELEMETRY_ENABLED = "0"  # if somebody imported Flower before
    if ANY_APP in site.limits.apps:
        log(WARNING, 'apps = ["any"]: whatever code the centre sends will run here.')
    elif not site.limits.apps:
        log(
            WARNING,
            "No app is approved yet ([limits] apps): all will be refused.",
        )
    before, sys.argv = sys.argv, command
    try:
        with only_approved_apps(AppGate(kit / SITE_FILE)):
            flower_supernode()
    except GateError as error:
        log(ERROR, str(error))
        return 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv = before
    return 0
