"""What docker/README.md promises of the compose files, one test each."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docker.files import (
    COMPOSE_FILES,
    DOCKER,
    SITE_ENVIRONMENT,
    UnsetVariable,
    read_compose,
    read_services,
)

SERVICES = [
    pytest.param(service, id=f"{name.split('.')[1]}-{key}")
    for name in COMPOSE_FILES
    for key, service in read_services(name).items()
]
every_service = pytest.mark.parametrize("service", SERVICES)
Service = dict[str, Any]


def mounts_of(service: Service) -> dict[str, Service]:
    return {mount["target"]: mount for mount in service["volumes"]}


@every_service
def test_nobody_is_root(service: Service) -> None:
    assert service["user"] == "10001:10001"


def test_who_starts_a_container_may_be_its_user() -> None:
    environment = {**SITE_ENVIRONMENT, "ENDOFED_UID": "1234", "ENDOFED_GID": "5678"}
    services = read_compose("compose.site.yaml", environment)["services"]
    assert services["supernode"]["user"] == "1234:5678"


@every_service
def test_the_root_file_system_is_read_only_with_a_small_tmp(service: Service) -> None:
    assert service["read_only"] is True
    (tmp,) = service["tmpfs"]
    path, _, options = tmp.partition(":")
    assert path == "/tmp"
    assert {"noexec", "nosuid", "nodev"} <= set(options.split(","))
    assert "size=" in options


@every_service
def test_frames_kit_and_keys_are_mounted_read_only(service: Service) -> None:
    for target, mount in mounts_of(service).items():
        if mount["type"] == "bind":
            assert mount["read_only"] is True, target
        else:
            assert mount["type"] == "volume"
            assert target in ("/state", "/tracking")


def test_a_missing_folder_of_frames_is_not_made_up() -> None:
    for service in read_services("compose.site.yaml").values():
        assert mounts_of(service)["/data"]["bind"] == {"create_host_path": False}
    with pytest.raises(UnsetVariable, match="ENDOFED_DATA"):
        read_compose("compose.site.yaml", {"ENDOFED_IMAGE": "endofed-site:0.1.0"})


@every_service
def test_a_container_has_no_capability_and_gains_no_privilege(service: Service) -> None:
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["privileged"] is False


@every_service
def test_memory_cores_and_processes_are_limited(service: Service) -> None:
    assert float(service["cpus"]) > 0
    assert service["mem_limit"]
    assert service["memswap_limit"] == service["mem_limit"]  # no swap on top
    assert service["pids_limit"] > 0
    assert service["logging"]["options"]["max-size"]
    core = service["ulimits"]["core"]
    assert core == 0  # a core dump would hold images


def test_a_kit_says_how_much_a_site_gives() -> None:
    given = {**SITE_ENVIRONMENT, "ENDOFED_CPUS": "6", "ENDOFED_MEMORY": "16384m"}
    service = read_compose("compose.site.yaml", given)["services"]["supernode"]
    assert (service["cpus"], service["mem_limit"]) == (6, "16384m")


@every_service
def test_the_machine_and_its_docker_are_out_of_reach(service: Service) -> None:
    for mount in service["volumes"]:
        assert "docker.sock" not in str(mount["source"])
        assert mount["source"] != "/"
    for key in ("network_mode", "pid", "uts", "userns_mode", "devices", "cgroup"):
        assert key not in service, key
    assert service["ipc"] == "private"


def test_a_site_publishes_no_port() -> None:
    for name in ("compose.site.yaml", "compose.local.yaml"):
        for key, service in read_services(name).items():
            assert key == "mlflow" or not {"ports", "expose"} & service.keys(), key


def test_mlflow_is_reached_from_this_machine_only() -> None:
    for name in ("compose.server.yaml", "compose.local.yaml"):
        mlflow = read_services(name)["mlflow"]
        assert mlflow["ports"] == ["127.0.0.1:5000:5000"]
        assert "superlink" not in mlflow.get("depends_on", {})
        assert set(mlflow["networks"]).isdisjoint(
            read_services(name)["superlink"]["networks"]
        )


def test_the_server_publishes_its_one_port() -> None:
    given = {"ENDOFED_PORT": "8443", "ENDOFED_BIND": "10.0.0.5"}
    server = read_compose("compose.server.yaml", given)["services"]["superlink"]
    assert server["ports"] == ["10.0.0.5:8443:8443"]
    assert server["environment"]["ENDOFED_PORT"] == 8443


def test_mlflow_keeps_its_database_in_a_volume_that_the_server_writes() -> None:
    for name in ("compose.server.yaml", "compose.local.yaml"):
        services = read_services(name)
        shared = services["superlink"]["environment"]["ENDOFED_TRACKING"]
        assert (
            f"--backend-store-uri=sqlite:///{shared}/mlflow.db"
            in (services["mlflow"]["command"])
        )
        for service in (services["superlink"], services["mlflow"]):
            assert mounts_of(service)[shared]["source"] == "tracking"


def test_a_federation_on_one_machine_has_no_way_out() -> None:
    local = read_compose(
        "compose.local.yaml",
        {"ENDOFED_FEDERATION": "/f", **dict.fromkeys(DATA_FOLDERS, "/frames")},
    )
    assert local["networks"]["inside"]["internal"] is True
    for key, service in local["services"].items():
        assert service["networks"] == ["looked-at" if key == "mlflow" else "inside"]
    states = [mounts_of(local["services"][name])["/state"]["source"] for name in SITES]
    assert len(set(states)) == len(SITES)


SITES = ("one", "two", "three")
DATA_FOLDERS = [f"ENDOFED_DATA_{name.upper()}" for name in SITES]


def test_the_gpu_of_a_site_is_asked_for_by_name_only() -> None:
    services = read_services("compose.site.yaml")
    assert "deploy" not in services["supernode"]
    assert services["supernode-cuda"]["profiles"] == ["cuda"]
    (device,) = services["supernode-cuda"]["deploy"]["resources"]["reservations"][
        "devices"
    ]
    assert device["capabilities"] == ["gpu"]


@every_service
def test_a_container_runs_the_command_of_its_side(service: Service) -> None:
    image = service["image"]
    if service.get("entrypoint") == ["mlflow"]:
        assert "endofed-server" in image or image == SITE_ENVIRONMENT["ENDOFED_IMAGE"]
        return
    known = (["federation", "start", "/federation"], ["site", "start", "--kit", "/kit"])
    assert service["command"] in known
    folder = service["command"][-1]
    assert folder in mounts_of(service)


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_the_compose_specification_knows_every_key(name: str) -> None:
    beside = str(Path(sys.executable).parent)
    program = shutil.which("check-jsonschema", path=beside) or shutil.which(
        "check-jsonschema"
    )
    if program is None:
        pytest.skip("check-jsonschema is not installed (pip install check-jsonschema)")
    schema = ["--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [program, *schema, str(DOCKER / name)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
