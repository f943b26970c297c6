"""The images' entry points in a sandbox as tight as the containers, without Docker.

bubblewrap mounts and cuts the network as compose.site.yaml says, setpriv becomes user
10001 without a capability, and the variables are those of the Dockerfile. What differs
from a container: the system libraries are this machine's, and no limit is set.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docker.files import ROOT, environment_of, read_stages

CAPABILITIES = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")
REPORT = """
import json, os, socket
def writes(folder):
    try:
        with open(os.path.join(folder, "probe"), "w") as stream:
            stream.write("x")
        return True
    except OSError:
        return False
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
import clients.app, server.app
print(json.dumps({
    "ids": [os.getuid(), os.geteuid(), os.getgid(), os.getgroups()],
    "capabilities": int(status["CapEff"], 16) | int(status["CapBnd"], 16),
    "no new privileges": status["NoNewPrivs"].strip(),
    "written": [f for f in ("/", "/data", "/kit", "/opt/endofed", "/usr", "/etc",
                            "/root", "/state", "/tmp") if writes(f)],
    "read": open("/data/frame").read(),
    "network": [name for _, name in socket.if_nameindex()],
    "app": type(clients.app.app).__name__,
}))
"""


FEDERATION = """
name = "trial"
address = "127.0.0.1"
port = 8000
[[site]]
name = "hillside"
"""
BOTH_ENDS = """
set -u
health() { python /opt/endofed/docker/healthcheck.py "$1"; }
until_well() { for _ in $(seq 60); do health "$1" && return; sleep 1; done; exit 1; }
health server && exit 1
endofed federation start /federation > /state/server.log 2>&1 &
server=$!
until_well server || exit 1
endofed federation register /federation || exit 1
endofed site start --kit /kit > /state/site.log 2>&1 &
site=$!
until_well site || exit 1
kill $site && wait $site
kill $server
wait $server
"""
"""The commands of both images, one after the other, on one loopback."""


def needed() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: only root becomes user 10001 by itself")
    for program in ("bwrap", "setpriv"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Frames, a kit and a state volume, as they lie on a hospital's machine."""
    needed()
    for name in ("data", "kit", "state"):
        (tmp_path / name).mkdir()
    (tmp_path / "data" / "frame").write_text("seen")
    os.chown(tmp_path / "state", 10001, 10001)
    return tmp_path


def sandbox(
    folders: Path, image: str, *command: str, federation: Path | None = None
) -> subprocess.CompletedProcess:
    """Run a command as the image's user, mounts and variables have it."""
    environment = environment_of(read_stages(), image)
    # The interpreter and the packages are here where the image has /opt/venv.
    here = dict.fromkeys((sys.base_prefix, sys.prefix, str(ROOT)))
    mounts = [["--ro-bind", "/usr", "/usr"], ["--ro-bind", "/etc", "/etc"]]
    for name in ("/bin", "/sbin", "/lib", "/lib64"):
        mounts.append(["--ro-bind-try", name, name])
    mounts.append(["--perms", "1777", "--tmpfs", "/tmp"])  # may hold what comes next
    for path in (Path("/opt/venv"), Path("/root/home"), *map(Path, here)):
        # By itself bubblewrap makes folders on the way that only root may enter.
        parents = [str(one) for one in reversed(path.parents) if one != Path("/")]
        mounts += [["--perms", "0755", "--dir", one] for one in parents]
    mounts += [["--ro-bind", path, path] for path in here]
    mounts += [
        ["--ro-bind", sys.prefix, "/opt/venv"],
        ["--ro-bind", str(ROOT), "/opt/endofed"],
        ["--proc", "/proc"],
        ["--dev", "/dev"],
        ["--tmpfs", "/dev/shm"],
        ["--ro-bind", str(folders / "data"), "/data"],
        ["--ro-bind", str(folders / "kit"), "/kit"],
        ["--bind", str(folders / "state"), "/state"],
    ]
    if federation is not None:
        mounts.append(["--ro-bind", str(federation), "/federation"])
    mounts.append(["--remount-ro", "/"])
    arguments = [word for mount in mounts for word in mount]
    for name, value in environment.items():
        arguments += ["--setenv", name, value]
    for name in CAPABILITIES:
        arguments += ["--cap-add", name]
    become = ["setpriv", "--reuid=10001", "--regid=10001", "--clear-groups"]
    become += ["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
    apart = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    shut = ["bwrap", "--die-with-parent", "--new-session", "--clearenv", *apart]
    return subprocess.run(
        [*shut, *arguments, "--chdir", "/state", *become, *command],
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_the_apps_load_as_nobody_with_only_state_and_tmp_to_write(
    folders: Path,
) -> None:
    done = sandbox(folders, "site", "python", "-c", REPORT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "ids": [10001, 10001, 10001, []],
        "capabilities": 0,
        "no new privileges": "1",
        "written": ["/state", "/tmp"],
        "read": "seen",
        "network": ["lo"],
        "app": "ClientApp",
    }
    assert (folders / "state" / "probe").stat().st_uid == 10001
    assert not (folders / "data" / "probe").exists()


@pytest.mark.parametrize("image", ["server", "site"])
def test_the_entry_point_starts_and_knows_the_command_of_the_image(
    folders: Path, image: str
) -> None:
    stage = read_stages()[image]
    entry = json.loads(stage.all("ENTRYPOINT")[-1])
    group, command, *_ = json.loads(stage.all("CMD")[-1])
    done = sandbox(folders, image, *entry, group, command, "--help")
    assert done.returncode == 0, done.stderr
    assert f"endofed {group} {command}" in " ".join(done.stdout.split())


def test_a_health_check_without_a_server_fails_in_the_sandbox_too(
    folders: Path,
) -> None:
    line = read_stages()["site"].all("HEALTHCHECK")[-1]
    done = sandbox(folders, "site", *json.loads(line.partition(" CMD ")[2]))
    assert done.returncode == 1
    assert done.stdout == "No SuperNode listens here.\n"


@pytest.mark.deployment
def test_both_ends_start_with_what_a_provision_made_and_are_found_well(
    folders: Path,
) -> None:
    (folders / "federation.toml").write_text(FEDERATION)
    endofed, trial = Path(sys.executable).with_name("endofed"), folders / "trial"
    done = subprocess.run(
        [endofed, "provision", folders / "federation.toml", "--output", trial],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    server = trial / "server"
    shutil.copytree(trial / "sites" / "hillside", folders / "kit", dirs_exist_ok=True)
    for folder in (server, folders / "kit"):
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 10001, 10001)
    done = sandbox(folders, "server", "bash", "-c", BOTH_ENDS, federation=server)
    logs = [path.read_text() for path in (folders / "state").glob("*.log")]
    assert "HTTP 200.\nRegistered: hillside\n" in done.stdout, [done.stderr, *logs]
    assert done.stdout.endswith("HTTP 200.\n"), [done.stderr, *logs]
