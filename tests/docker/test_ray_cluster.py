"""One simulation on three Ray nodes: the Slurm script with three addresses as nodes.

`srun` and `scontrol` are stand-ins that start everything on this machine, each node on
a loopback address of its own; Ray, Flower and the hospitals are real.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from experiments.processes import ProcessFamily
from tests.docker.files import DOCKER, ROOT

# 127.0.0.1 will not do: Ray replaces it by the machine's own address.
NODES = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
PROGRAMS = {
    "scontrol": 'echo "$STAND_IN_NODES" | tr " " "\\n"',
    "hostname": 'echo "$STAND_IN_NODE"',
    "srun": 'while [ "${1#--}" != "$1" ]; do case "$1" in --nodelist=*) '
    'export STAND_IN_NODE="${1#--nodelist=}";; esac; shift; done; exec "$@"',
}
SITES = "".join(
    f'[[site]]\nname = "{name}"\ndomain = "{domain}"\npatients = 4\n'
    "frames-per-patient = 1\n\n"
    for name, domain in (("one", "human"), ("two", "phantom"), ("three", "animal"))
)
SMOKE = ROOT / "experiments" / "configs" / "smoke.toml"
LIMIT_S = 400.0


@pytest.fixture
def family() -> Iterator[ProcessFamily]:
    family = ProcessFamily("ENDOFED_TEST_CLUSTER", uuid.uuid4().hex)
    yield family
    family.stop(3.0)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for the names of Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def options(folder: Path, name: str) -> list[str]:
    (folder / "sites.toml").write_text(SITES)
    given = {"--config": SMOKE, "--sites": folder / "sites.toml"}
    given["--output"] = folder / name
    words = [str(word) for pair in given.items() for word in pair]
    return [*words, "--set", "mlflow=false", "--set", "join-timeout-s=120"]


def slurm_environment(folder: Path, ray_folder: Path) -> dict[str, str]:
    programs = folder / "programs"
    programs.mkdir()
    for name, body in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{body}\n")
        (programs / name).chmod(0o755)
    with socket.create_server((NODES[0], 0)) as free:
        port = free.getsockname()[1]
    return {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "STAND_IN_NODES": " ".join(NODES),
        "SLURM_JOB_NODELIST": "three",
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_GPUS_ON_NODE": "0",
        "ENDOFED_VENV": sys.prefix,
        "PYTHONPATH": str(ROOT),
        "RAY_PORT": str(port),
        "RAY_FOLDER": str(ray_folder),
        "RAY_OBJECT_STORE_BYTES": "150000000",
    }


def nodes_at_work(family: ProcessFamily) -> set[str]:
    """Return the addresses of the Ray nodes that run a hospital now."""
    found = set()
    for process in family.members():
        try:
            if "ClientAppActor" in " ".join(process.cmdline()):
                parent = " ".join(process.parent().cmdline())
                found.update(re.findall(r"--node_ip_address=(\S+)", parent))
        except (psutil.Error, AttributeError):  # it has just ended
            continue
    return found


def card_of(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "checkpoints" / "foundation.json").read_text()))


@pytest.mark.deployment
@pytest.mark.timeout(900)
def test_three_ray_nodes_give_the_bits_of_one_machine_and_end_with_the_job(
    tmp_path: Path, family: ProcessFamily, short_folder: Path
) -> None:
    environment = {**slurm_environment(tmp_path, short_folder), **family.environment}
    script = ["bash", str(DOCKER / "slurm" / "simulate.sbatch")]
    with (tmp_path / "job.log").open("wb") as log:
        job = subprocess.Popen(
            [*script, *options(tmp_path, "cluster")],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    worked: set[str] = set()
    stop_at = time.monotonic() + LIMIT_S
    while job.poll() is None and time.monotonic() < stop_at:
        worked |= nodes_at_work(family)
        time.sleep(1.0)
    assert job.poll() == 0, (tmp_path / "job.log").read_text()[-4000:]
    assert worked == set(NODES)
    assert family.members() == []  # the job has ended its own Ray

    local = [str(Path(sys.executable).with_name("endofed")), "simulate"]
    done = subprocess.run(
        [*local, *options(tmp_path, "local")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    spread, alone = card_of(tmp_path / "cluster"), card_of(tmp_path / "local")
    assert spread["weights-digest"] == alone["weights-digest"]
    assert spread["metrics"] == alone["metrics"]
