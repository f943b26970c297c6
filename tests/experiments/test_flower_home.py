import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from flwr.cli.flower_config import read_superlink_connection

from experiments.flower_home import (
    local_port,
    local_ray_folder,
    run_environment,
    shell_exports,
    stop_local_superlink,
    write_connection,
    write_flower_home,
)

SLEEPER = "import time; time.sleep(60)"


def shell_variables(exports: str) -> dict[str, str]:
    """Return the environment that a POSIX shell has after these lines."""
    show = f"{shlex.quote(sys.executable)} -c 'import os; print(dict(os.environ))'"
    done = subprocess.run(
        ["sh", "-c", f"eval {shlex.quote(exports)}; {show}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(eval(done.stdout))


def start_program(folder: Path, name: str, home: Path) -> "subprocess.Popen[bytes]":
    """Start a program of some name that sleeps in a given FLWR_HOME."""
    script = folder / name
    script.write_text(SLEEPER)
    return subprocess.Popen(
        [sys.executable, str(script)], env={**os.environ, "FLWR_HOME": str(home)}
    )


def test_a_run_reports_nothing_home_and_installs_nothing(tmp_path: Path) -> None:
    environment = run_environment(tmp_path, threads_per_site=2, ray_folder=None)
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert environment["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert environment["FLWR_HOME"] == str(tmp_path)
    assert environment["OMP_NUM_THREADS"] == "2"


def test_flower_finds_the_programs_of_this_environment_first(tmp_path: Path) -> None:
    environment = run_environment(tmp_path, threads_per_site=1, ray_folder=None)
    first, _, rest = environment["PATH"].partition(os.pathsep)
    assert (Path(first) / "flower-superlink").exists()
    assert rest == os.environ["PATH"]


def test_no_proxy_stands_between_the_programs_of_one_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "hospital.example")
    environment = run_environment(tmp_path, threads_per_site=1, ray_folder=None)
    assert environment["NO_PROXY"] == "hospital.example,127.0.0.1,localhost"


def test_rays_sockets_go_where_they_are_told_and_its_cluster_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    without = run_environment(tmp_path, threads_per_site=1, ray_folder=None)
    assert "RAY_TMPDIR" not in without
    assert without["RAY_ADDRESS"] == "10.0.0.1:6379"
    inside = run_environment(tmp_path, threads_per_site=1, ray_folder=Path("/tmp/e"))
    assert inside["RAY_TMPDIR"] == "/tmp/e"


def test_flower_reads_the_connection_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_connection(tmp_path / "new", 40123)
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "new"))
    connection = read_superlink_connection()
    assert connection.address == "127.0.0.1:40123"
    assert connection.insecure
    assert connection.options is None


def test_flower_reads_the_size_of_a_simulation_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_flower_home(tmp_path / "new", num_sites=4, workers=2, gpus_per_site=0.25)
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "new"))
    connection = read_superlink_connection()
    assert connection.address == ":local:"
    assert connection.options is not None
    assert connection.options.num_supernodes == 4
    backend = connection.options.backend
    assert backend is not None
    assert backend.client_resources is not None
    assert backend.init_args is not None
    assert backend.client_resources.num_cpus == 1
    assert backend.client_resources.num_gpus == 0.25
    assert backend.init_args.num_cpus == 2


def test_a_shell_gets_every_variable_also_from_a_folder_with_odd_signs(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "it's $HOME"
    variables = shell_variables(shell_exports(folder))
    port = int(variables["FLWR_LOCAL_SUPERLINK_HTTP_API_PORT"])
    assert variables["FLWR_HOME"] == str(folder)
    assert port == local_port(folder)
    assert variables["FLWR_LOCAL_CONTROL_API_PORT"] == str(port + 1)
    assert variables["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert variables["FLWR_TELEMETRY_ENABLED"] == "0"
    assert variables["RAY_TMPDIR"] == str(local_ray_folder(folder))
    first = Path(variables["PATH"].split(os.pathsep)[0])
    assert (first / "flwr").exists()


def test_checkouts_do_not_share_a_superlink(tmp_path: Path) -> None:
    folders = [Path(f"/home/user/checkout-{number}") for number in range(20)]
    ports = {local_port(folder) for folder in folders}
    assert len(ports) >= 18  # 20 numbers of 5,000: two pairs alike happen to no one
    assert all(20_000 <= port < 30_000 and port % 2 == 0 for port in ports)
    assert local_port(tmp_path / "a" / ".." / "b") == local_port(tmp_path / "b")


def test_rays_sockets_fit_into_the_path_of_a_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    session = "ray/session_2026-11-21_13-42-01_723603_4194304/sockets/plasma_store"
    assert len(str(local_ray_folder(deep) / session)) <= 107


def test_only_the_superlink_of_this_folder_is_stopped(tmp_path: Path) -> None:
    home, other_home = tmp_path / "home", tmp_path / "other"
    superlink = start_program(tmp_path, "flower-superlink", home)
    editor = start_program(tmp_path, "editor", home)
    neighbour = start_program(tmp_path, "flower-superlink", other_home)
    try:
        assert stop_local_superlink(home) == 1
        assert superlink.poll() is not None
        assert editor.poll() is None
        assert neighbour.poll() is None
        assert stop_local_superlink(home) == 0
    finally:
        for process in (superlink, editor, neighbour):
            process.kill()
            process.wait()
