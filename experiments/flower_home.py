"""The environment and the configuration folder that Flower's programs run with.

Flower keeps its configuration, its copies of apps and its local SuperLink's database in
one folder, `FLWR_HOME`. `endofed simulate` gives every run a folder of its own; a
person who calls `flwr run .` by hand gets one per checkout from `write_flower_home` and
`shell_exports`. Facts read in flwr 1.41 (`cli/local_superlink.py`, `cli/constant.py`):

- without its own ports, `flwr run` talks to whichever local SuperLink the machine runs,
  perhaps that of another checkout with another environment;
- a SuperLink starts its helpers by name, so the environment's programs must come first
  on `PATH`;
- unless told otherwise it installs an app's dependencies anew for every run, and Flower
  and Ray report their use.

The options of a connection are deprecated in favour of `--federation-config`, but they
are what lets a plain `flwr run .` know the number of sites; Flower prints one line
about it. `flwr federation simulation-config` would keep the same numbers in the local
SuperLink's database, and starts that SuperLink to do so.
"""

import hashlib
import os
import shlex
import shutil
import sys
from pathlib import Path

import psutil
import tomli_w

from experiments.processes import ProcessFamily, program_names

CONNECTION = "endofed"
"""Name of a run's own SuperLink in its configuration."""

FLOWER_PROGRAMS = frozenset({"flower-superlink", "flower-superexec", "flwr-simulation"})
STOP_GRACE_S = 5.0
FIRST_LOCAL_PORT = 20_000
NUM_LOCAL_PORTS = 10_000  # stays below the ports that systems hand out by themselves

QUIET = {
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Nothing is installed during a run and nothing reports home."""

REPEATABLE = {
    "PYTHONHASHSEED": "0",
    "RAY_DEDUP_LOGS": "0",  # else equal lines of two hospitals become one
    "RAY_COLOR_PREFIX": "0",
}


def run_environment(
    folder: Path, *, threads_per_site: int, ray_folder: Path | None
) -> dict[str, str]:
    """Return the environment of all processes of one run.

    Args:
        folder: The run's `FLWR_HOME`.
        threads_per_site: CPU threads of the numerical libraries in one process.
        ray_folder: Short path for Ray's sockets (a socket's path may have 107
            characters, of which Ray needs about 70); None leaves Ray's default.

    Returns:
        This process's environment with Flower's and Ray's variables. A `RAY_ADDRESS`
        that is set stays set.
    """
    environment = {**os.environ, **QUIET, **REPEATABLE}
    environment["FLWR_HOME"] = str(folder)
    environment["FLWR_SUPEREXEC_TASK_POLL_INTERVAL"] = "0.2"  # seconds
    environment["OMP_NUM_THREADS"] = str(threads_per_site)
    environment["PATH"] = f"{programs_folder()}{os.pathsep}{os.environ.get('PATH', '')}"
    for name in ("NO_PROXY", "no_proxy"):
        environment[name] = _without_proxy(os.environ.get(name, ""))
    if ray_folder is not None:
        environment["RAY_TMPDIR"] = str(ray_folder)
    return environment


def programs_folder() -> Path:
    """Return the folder of this environment's programs, such as `flwr`."""
    return Path(sys.executable).parent


def write_connection(folder: Path, port: int) -> Path:
    """Write the configuration of a run that has a SuperLink of its own.

    Args:
        folder: The run's `FLWR_HOME`; made if missing.
        port: Loopback port of the SuperLink.

    Returns:
        Path of the configuration.
    """
    return _write_config(
        folder,
        f'[superlink]\ndefault = "{CONNECTION}"\n\n'
        f"[superlink.{CONNECTION}]\n"
        f'address = "127.0.0.1:{port}"\n'
        "insecure = true  # never leaves this machine\n",
    )


def write_secure_connection(folder: Path, address: str, certificate: Path) -> Path:
    """Write the configuration of somebody who talks to a deployed SuperLink.

    Args:
        folder: The `FLWR_HOME`; made if missing.
        address: Of the SuperLink, host:port.
        certificate: Of the authority that signed the SuperLink's, in PEM.

    Returns:
        Path of the configuration.
    """
    superlink = {
        "default": CONNECTION,
        CONNECTION: {
            "address": address,
            "insecure": False,
            "root-certificates": str(certificate.resolve()),
        },
    }
    return _write_config(folder, tomli_w.dumps({"superlink": superlink}))


def write_flower_home(
    folder: Path, num_sites: int, workers: int, gpus_per_site: float = 0.0
) -> Path:
    """Write what a plain `flwr run .` needs to simulate all sites.

    Args:
        folder: `FLWR_HOME` of a checkout; made if missing.
        num_sites: Simulated hospitals.
        workers: How many of them work at the same time; each uses one CPU.
        gpus_per_site: Share of a GPU that a working hospital gets, 0 to 1.

    Returns:
        Path of the configuration.
    """
    return _write_config(
        folder,
        "# Written by `endofed environment`. Instead of the options one may give\n"
        "# `flwr run . --federation-config 'num-supernodes=N ...'`.\n"
        '[superlink]\ndefault = "local"\n\n'
        '[superlink.local]\naddress = ":local:"\n\n'
        f"[superlink.local.options]\nnum-supernodes = {num_sites}\n\n"
        "[superlink.local.options.backend.client-resources]\n"
        f"num-cpus = 1\nnum-gpus = {float(gpus_per_site)}\n\n"
        "[superlink.local.options.backend.init-args]\n"
        f"num-cpus = {workers}\n",
    )


def shell_exports(folder: Path) -> str:
    """Return the lines that prepare a POSIX shell for `flwr run .`.

    Args:
        folder: `FLWR_HOME` of a checkout, see `write_flower_home`.

    Returns:
        `export` lines for `eval`.
    """
    first_port = local_port(folder)
    variables = {
        **QUIET,
        **REPEATABLE,
        "FLWR_HOME": str(folder.resolve()),
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(first_port),
        "FLWR_LOCAL_CONTROL_API_PORT": str(first_port + 1),
        "RAY_TMPDIR": str(local_ray_folder(folder)),
        "NO_PROXY": _without_proxy(os.environ.get("NO_PROXY", "")),
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    lines.append(f'export PATH={shlex.quote(str(programs_folder()))}:"$PATH"')
    return "\n".join(lines) + "\n"


def stop_local_superlink(folder: Path) -> int:
    """Stop the local SuperLink that `flwr run .` started, and what it runs.

    Args:
        folder: `FLWR_HOME` of a checkout, as `shell_exports` gave it.

    Returns:
        How many processes were ended.

    Raises:
        RuntimeError: If the system refuses to end some.
    """
    family = ProcessFamily("FLWR_HOME", str(folder.resolve()), _is_flower_program)
    num_found = len(family.members())
    left = family.stop(STOP_GRACE_S)
    if left:
        raise RuntimeError(
            f"{left} of {num_found} processes of the local SuperLink are still alive. "
            "Stop them as the user who started them."
        )
    shutil.rmtree(local_ray_folder(folder), ignore_errors=True)
    return num_found


def local_port(folder: Path) -> int:
    """Return the port of a checkout's local SuperLink; the next one is its too.

    Args:
        folder: `FLWR_HOME` of the checkout.

    Returns:
        An even port, always the same for the same folder.
    """
    number = int(_digest(folder), 16) % (NUM_LOCAL_PORTS // 2)
    return FIRST_LOCAL_PORT + 2 * number


def local_ray_folder(folder: Path) -> Path:
    """Return the short path where a checkout's simulations by hand keep sockets.

    Args:
        folder: `FLWR_HOME` of the checkout.
    """
    return Path("/tmp") / f"endofed-{_digest(folder)}"


def _digest(folder: Path) -> str:
    """Return eight hexadecimal digits that are the checkout's and the user's own."""
    owner = os.getuid() if hasattr(os, "getuid") else 0
    text = f"{owner}:{folder.resolve()}"
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _write_config(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _without_proxy(hosts: str) -> str:
    """Add this machine to the hosts that are reached without a proxy."""
    return ",".join(filter(None, [hosts, "127.0.0.1", "localhost"]))


def _is_flower_program(process: psutil.Process) -> bool:
    return bool(program_names(process) & FLOWER_PROGRAMS)
