"""Whom the SuperLink admits: exactly the active sites of the provision."""

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from experiments import processes
from experiments.deployment import centre as centre_module
from experiments.deployment.centre import (
    Centre,
    become,
    centre_environment,
    require_key,
    superlink_command,
)
from experiments.deployment.node_keys import make_node_key
from experiments.deployment.provision import provision
from experiments.deployment.provision_changes import revoke_site, rotate_site
from experiments.deployment.provision_state import load_state
from experiments.deployment.registration import (
    Node,
    fingerprint_of,
    list_nodes,
    nodes_by_site,
    register_sites,
)
from experiments.processes import ProcessFamily
from experiments.superlink import SuperLinkError, free_port, tail
from strategies.settings import SettingsError


class FakeFlower:
    """Keeps nodes as a SuperLink does; a key can be used once."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.asked: list[str] = []

    def ask(self, arguments: Sequence[str], timeout_s: float = 0) -> dict[str, Any]:
        verb = arguments[1]
        self.asked.append(verb)
        if verb == "register":
            key = serialization.load_ssh_public_key(Path(arguments[2]).read_bytes())
            pem = key.public_bytes(
                serialization.Encoding.PEM,
                serialization.PublicFormat.SubjectPublicKeyInfo,
            )
            name = arguments[list(arguments).index("--name") + 1]
            fingerprint = fingerprint_of(pem)
            if fingerprint in {one.fingerprint for one in self.nodes}:
                raise SuperLinkError("Public key already in use")
            number = len(self.nodes) + 1
            self.nodes.append(Node(number, fingerprint, "registered", name))
        else:
            self.nodes = [
                Node(n.node_id, n.fingerprint, "unregistered", n.name)
                if n.node_id == int(arguments[2])
                else n
                for n in self.nodes
            ]
        return {"success": True}


def test_every_active_site_is_registered_once(provisioned: Path) -> None:
    flower, state = FakeFlower(), load_state(provisioned)
    first = register_sites(flower, state, flower.nodes)
    assert first.registered == ("hillside", "northgate")
    assert {one.name for one in flower.nodes} == {"hillside", "northgate"}
    again = register_sites(flower, state, flower.nodes)
    assert (again.registered, again.unchanged) == ((), first.registered)
    assert flower.asked == ["register", "register"]


def test_a_revoked_and_a_rotated_key_are_shut_out(
    provisioned: Path, now: datetime
) -> None:
    flower = FakeFlower()
    register_sites(flower, load_state(provisioned), flower.nodes)
    revoke_site(provisioned, "northgate", now)
    rotate_site(provisioned, "hillside", "", now)
    state = load_state(provisioned)
    done = register_sites(flower, state, flower.nodes)
    assert sorted(done.unregistered) == ["hillside", "northgate"]
    assert done.registered == ("hillside",)
    assert flower.asked[2:4] == ["unregister", "unregister"]  # before the new one
    known = nodes_by_site(state, flower.nodes)
    assert list(known) == ["hillside"]
    assert known["hillside"].fingerprint == state.sites["hillside"].fingerprint


def test_a_registration_that_was_cut_off_is_finished(provisioned: Path) -> None:
    flower, state = FakeFlower(), load_state(provisioned)
    register_sites(flower, state, flower.nodes)
    flower.nodes.pop()  # as if it had never got so far
    done = register_sites(flower, state, flower.nodes)
    assert (done.registered, done.unchanged) == (("northgate",), ("hillside",))


def test_a_key_of_no_provision_is_counted_and_left_alone(provisioned: Path) -> None:
    flower, state = FakeFlower(), load_state(provisioned)
    flower.nodes.append(Node(9, make_node_key().fingerprint, "online", "stranger"))
    assert register_sites(flower, state, flower.nodes).strangers == 1
    assert flower.nodes[0].status == "online"


def test_a_server_that_does_not_answer_is_named_with_what_to_look_at(
    provisioned: Path, tmp_path: Path
) -> None:
    centre = Centre.open(provisioned, tmp_path / "state", f"127.0.0.1:{free_port()}")
    with pytest.raises(SuperLinkError, match="endofed federation start"):
        list_nodes(centre)


def test_a_provision_and_its_server_folder_are_the_same_centre(
    provisioned: Path,
) -> None:
    centre = Centre.open(provisioned)
    assert centre == Centre.open(provisioned / "server")
    assert centre.address == "127.0.0.1:8000"
    assert centre.state == provisioned / "server" / "state"
    with pytest.raises(SettingsError, match="endofed provision"):
        Centre.open(provisioned / "sites")


def test_the_superlink_takes_registered_sites_over_tls_only(provisioned: Path) -> None:
    centre = Centre.open(provisioned)
    command = superlink_command(centre, "0.0.0.0", 8000)
    assert "--enable-supernode-auth" in command
    assert "--disable-runtime-dependency-installation" in command
    assert "--insecure" not in command
    assert command[command.index("--database") + 1].startswith(str(centre.state))


def test_the_servers_key_must_be_its_owners_alone(provisioned: Path) -> None:
    server = provisioned / "server"
    require_key(server)
    (server / "server.key").chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        require_key(server)


def test_a_tracking_folder_becomes_the_apps_mlflow_unless_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "MLFLOW_TRACKING_URI" not in centre_environment(tmp_path)
    found = centre_environment(tmp_path, tmp_path / "tracking")
    assert found["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/tracking/mlflow.db"
    assert found["FLWR_TELEMETRY_ENABLED"] == "0"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    named = centre_environment(tmp_path, tmp_path)
    assert named["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:5000"


def test_a_state_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="--state"):
        centre_module.prepare_state(tmp_path / "file" / "state")


def test_a_superlink_that_is_not_installed_is_said(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with pytest.raises(SettingsError, match="flower-superlink"):
            become([str(tmp_path / "flower-superlink")], {})
    finally:
        os.umask(before)


@pytest.mark.deployment
@pytest.mark.timeout(240)
def test_flower_itself_registers_and_shuts_out(
    federation_text: str, tmp_path: Path
) -> None:
    """The real SuperLink with TLS, and the real `flwr`."""
    folder, today = tmp_path / "trial", datetime.now(UTC)
    provision(federation_text, folder, today)
    port, family = free_port(), ProcessFamily.new()
    centre = Centre.open(folder, tmp_path / "state", f"127.0.0.1:{port}")
    connection = centre.connect()
    environment = {**centre_environment(centre.state), **family.environment}
    log = tmp_path / "superlink.log"
    try:
        processes.start(superlink_command(centre, "127.0.0.1", port), environment, log)
        assert _wait_for(centre, log) == []
        done = register_sites(connection, load_state(folder), [])
        assert done.registered == ("hillside", "northgate")
        revoke_site(folder, "northgate", today)
        state = load_state(folder)
        done = register_sites(connection, state, list_nodes(centre))
        assert (done.unregistered, done.registered) == (("northgate",), ())
        known = nodes_by_site(state, list_nodes(centre))
        assert [one.name for one in known.values()] == ["hillside"]
    finally:
        family.stop(5.0)


def _wait_for(centre: Centre, log: Path) -> list[Node]:
    given_up_at = time.monotonic() + 120
    while True:
        try:
            return list_nodes(centre)
        except SuperLinkError:
            if time.monotonic() > given_up_at:
                raise AssertionError(tail(log)) from None
            time.sleep(0.5)
