"""Tells the SuperLink which sites may connect: by their public keys.

What the SuperLink knows is compared with the provision, so a command that was cut off,
or given twice, ends in the same state. `flwr supernode list` shows no keys; the request
behind it does, so it is sent through Flower's own client, which is private and touched
in `list_nodes` alone (flwr 1.41).
"""

import base64
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

from experiments.deployment.centre import Centre
from experiments.deployment.provision_state import ProvisionState
from experiments.flower_home import CONNECTION
from experiments.superlink import FlowerConnection, SuperLinkError

UNREGISTERED = "unregistered"


@dataclass(frozen=True)
class Node:
    """A SuperNode as the SuperLink knows it.

    Attributes:
        node_id: Flower's.
        fingerprint: Of its public key, as `ssh-keygen -l` prints it.
        status: registered (never seen), online, offline or unregistered.
        name: That it was registered under; "" if none.
        last_seen: When it last came or went, in UTC; None = never. Of a node that is
            online it is when it came.
    """

    node_id: int
    fingerprint: str
    status: str
    name: str = ""
    last_seen: datetime | None = None


@dataclass(frozen=True)
class Registration:
    """What a registration changed.

    Attributes:
        registered: Names of sites that are newly known.
        unregistered: Names of sites whose old or revoked key is shut out now.
        unchanged: Names of active sites that were known already.
        strangers: How many nodes are known whose key is in no provision.
    """

    registered: tuple[str, ...]
    unregistered: tuple[str, ...]
    unchanged: tuple[str, ...]
    strangers: int = 0


def register_sites(
    connection: FlowerConnection, state: ProvisionState, nodes: Sequence[Node]
) -> Registration:
    """Register every active site, and unregister every key that was revoked.

    Args:
        connection: To the SuperLink.
        state: Of the provision.
        nodes: What the SuperLink knows, of `list_nodes`.

    Returns:
        What was changed.

    Raises:
        SuperLinkError: If Flower refuses; what was done before stays done.
    """
    known = {one.fingerprint: one for one in nodes if one.status != UNREGISTERED}
    shut_out = []
    for key in state.revoked_keys:  # first: a lost key is more urgent than a new one
        if key.fingerprint in known:
            _unregister(connection, known[key.fingerprint])
            shut_out.append(key.site)
    added, unchanged = [], []
    for name, public_key in state.active_keys().items():
        if state.sites[name].fingerprint in known:
            unchanged.append(name)
        else:
            _register(connection, name, public_key)
            added.append(name)
    ours = {site.fingerprint for site in state.sites.values()}
    ours |= {key.fingerprint for key in state.revoked_keys}
    strangers = len(known.keys() - ours)
    return Registration(tuple(added), tuple(shut_out), tuple(unchanged), strangers)


def list_nodes(centre: Centre) -> list[Node]:
    """Ask the SuperLink which SuperNodes it knows.

    Args:
        centre: Whose SuperLink.

    Returns:
        All of them, unregistered ones too.

    Raises:
        SuperLinkError: If it does not answer or is not the one with our certificate.
    """
    from flwr.proto.control_pb2 import ListNodesRequest
    from flwr.supercore.control import ControlHttpClient
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

    _reach_directly()
    client = None
    try:
        client = ControlHttpClient.from_server_address(
            server_address=centre.address,
            insecure=False,
            root_certificates=centre.authority.read_bytes(),
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )
        answer = client.ListNodes(ListNodesRequest())
    except Exception as error:  # noqa: BLE001 - httpx's, ssl's and Flower's own
        raise SuperLinkError(
            f"The SuperLink at {centre.address} does not answer as it should "
            f"({type(error).__name__}). See that `endofed federation start` runs, that "
            "the address is right, and that its certificate is of this provision and "
            "has not expired."
        ) from None
    finally:
        if client is not None:
            client.close()
    return [_read_node(info) for info in answer.nodes_info]


def fingerprint_of(public_key: bytes) -> str:
    """Return the fingerprint of a public key as `ssh-keygen -l` prints it.

    Args:
        public_key: In PEM, as Flower keeps it.

    Returns:
        SHA256:…
    """
    key = serialization.load_pem_public_key(public_key)
    line = key.public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")


def nodes_by_site(state: ProvisionState, nodes: Sequence[Node]) -> Mapping[str, Node]:
    """Match what the SuperLink knows with the present keys of the sites.

    Args:
        state: Of the provision.
        nodes: Of `list_nodes`.

    Returns:
        Name of a site -> its node; sites that are not registered are left out.
    """
    by_key = {one.fingerprint: one for one in nodes if one.status != UNREGISTERED}
    return {
        name: by_key[site.fingerprint]
        for name, site in state.sites.items()
        if site.fingerprint in by_key
    }


def _reach_directly() -> None:
    """Keep the client in this process from asking a proxy for this machine."""
    for name in ("NO_PROXY", "no_proxy"):
        known = filter(None, os.environ.get(name, "").split(","))
        os.environ[name] = ",".join(dict.fromkeys([*known, "127.0.0.1", "localhost"]))


def _register(connection: FlowerConnection, name: str, public_key: str) -> None:
    with tempfile.TemporaryDirectory(prefix="endofed-") as folder:
        path = Path(folder) / "site.pub"
        path.write_text(f"{public_key}\n", encoding="ascii")
        connection.ask(
            [
                *("supernode", "register", str(path), CONNECTION),
                *("--name", name, "--format", "json"),
            ]
        )


def _unregister(connection: FlowerConnection, node: Node) -> None:
    connection.ask(
        ["supernode", "unregister", str(node.node_id), CONNECTION, "--format", "json"]
    )


def _read_node(info: Any) -> Node:  # noqa: ANN401 - Flower's
    stamps = [
        getattr(info, name)
        for name in ("last_activated_at", "last_deactivated_at")
        if getattr(info, name)
    ]
    return Node(
        node_id=info.node_id,
        fingerprint=fingerprint_of(info.public_key),
        status=info.status,
        name=info.name,
        last_seen=max(map(datetime.fromisoformat, stamps), default=None),
    )
