"""What somebody tries who knows Flower's protocol: requests copied and replayed.

    python -m tests.deployment.thief KIT ADDRESS OTHER_PUBLIC_KEY

It runs inside a hospital's namespace while no SuperNode of that hospital does, speaks
to the centre with Flower's own client and prints one JSON object. A request that the
centre carries out has an effect that is looked at: a node that was deactivated can be
activated again, one that is active cannot.

Flower 1.41 signs the moment of a request and nothing else (`node_auth.py`), so its own
protection against a replay is the age of that moment, at most 305 s. What protects a
request on its way is TLS: bytes that were copied from a wire mean nothing in another
connection.
"""

import argparse
import base64
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    load_ssh_private_key,
    load_ssh_public_key,
)
from flwr.common.constant import (
    SYSTEM_TIME_TOLERANCE,
    TIMESTAMP_HEADER,
    TIMESTAMP_TOLERANCE,
)
from flwr.proto.fleet_pb2 import ActivateNodeRequest, DeactivateNodeRequest
from flwr.supercore.constant import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
)
from flwr.supercore.date import now
from flwr.supercore.interceptors.http.runtime_version import (
    RuntimeVersionHttpInterceptor,
)
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

INTERVAL_S = 30
DRIFT_S = TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE


class Recorder:
    """Keeps the last request as it leaves."""

    last: httpx.Request

    def intercept(
        self, context: ProtobufRequestContext, call_next: ProtobufCall
    ) -> httpx.Response:
        """Keep it and pass it on."""
        self.last = context.request
        return call_next(context)


class Thief:
    """Has a hospital's kit, with its key."""

    def __init__(self, kit: Path, address: str) -> None:
        """Read the kit."""
        key = load_ssh_private_key((kit / "supernode.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key, self._public = key, public_key_to_bytes(key.public_key())
        self._address, self._authority = address, str(kit / "ca.crt")
        self._recorder = Recorder()
        self._client = self._connect(address)

    def activate(self) -> int | None:
        """Return the number of the node, or None if the centre does not activate it."""
        request = ActivateNodeRequest(
            public_key=self._public, heartbeat_interval=INTERVAL_S
        )
        try:
            return int(self._client.ActivateNode(request).node_id)
        except httpx.HTTPStatusError:
            return None

    def deactivate(self, node: int, client: FleetHttpClient | None = None) -> None:
        """Deactivate the node; the request is kept."""
        request = DeactivateNodeRequest(node_id=node)
        (client or self._client).DeactivateNode(request)

    def try_all(self, other: bytes) -> dict[str, object]:
        """Try everything; each with the HTTP status and whether it had an effect."""
        seen: dict[str, object] = {"drift-s": DRIFT_S}
        node = self.activate()
        assert node is not None
        self.deactivate(node)
        kept = self._recorder.last
        for name, request in (
            ("same request again", self._copied(kept)),
            ("same request, too old", self._signed(kept, -DRIFT_S - 1)),
            ("same request, from the future", self._signed(kept, 60)),
            ("signature of another moment", self._shifted(kept)),
            ("public key of another site", self._claiming(kept, other)),
        ):
            assert self.activate() is not None  # so that there is something to end
            seen[name] = self._try(request, node)
        assert self.activate() is not None
        seen["bytes of the wire again"] = self._replay_wire(node)
        return seen

    def _connect(self, address: str) -> FleetHttpClient:
        return FleetHttpClient.from_server_address(
            address,
            False,
            Path(self._authority).read_bytes(),
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                NodeAuthHttpInterceptor(self._key, self._key.public_key()),
                self._recorder,
            ],
        )

    def _try(self, request: httpx.Request, node: int) -> dict[str, object]:
        """Send a request and say what came of it; the node is inactive afterwards."""
        trusted = ssl.create_default_context(cafile=self._authority)
        with httpx.Client(verify=trusted, trust_env=False) as client:
            status = client.send(request).status_code
        return {"status": status, "effect": self._was_deactivated(node)}

    def _was_deactivated(self, node: int) -> bool:
        had_effect = self.activate() is not None
        self.deactivate(node)
        return had_effect

    def _copied(self, request: httpx.Request, **headers: str) -> httpx.Request:
        changed = dict(request.headers) | headers
        return httpx.Request(
            "POST", request.url, headers=changed, content=request.content
        )

    def _signed(self, request: httpx.Request, seconds: float) -> httpx.Request:
        """Return the request as it was if it had been signed at another moment."""
        moment = (now() + timedelta(seconds=seconds)).isoformat()
        signature = sign_message(self._key, moment.encode("ascii"))
        signed = base64.b64encode(signature).decode("ascii")
        return self._copied(
            request,
            **{TIMESTAMP_HEADER: moment, FLEET_HTTP_SIGNATURE_HEADER: signed},
        )

    def _shifted(self, request: httpx.Request) -> httpx.Request:
        return self._copied(request, **{TIMESTAMP_HEADER: now().isoformat()})

    def _claiming(self, request: httpx.Request, public: bytes) -> httpx.Request:
        """Return the request with another site's public key, which is no secret."""
        key = load_ssh_public_key(public)
        assert isinstance(key, ec.EllipticCurvePublicKey)
        claimed = base64.b64encode(public_key_to_bytes(key)).decode("ascii")
        return self._copied(request, **{FLEET_HTTP_PUBLIC_KEY_HEADER: claimed})

    def _replay_wire(self, node: int) -> dict[str, object]:
        """Copy the bytes of a whole TLS connection and send them once more."""
        host, _, port = self._address.rpartition(":")
        with _wiretap((host, int(port))) as (tapped, copied):
            with self._connect(f"127.0.0.1:{tapped}") as client:
                self.deactivate(node, client)
        assert self.activate() is not None
        with socket.create_connection((host, int(port)), timeout=10) as again:
            with contextlib.suppress(OSError):  # it may be closed in our face
                again.sendall(bytes(copied))
                while again.recv(65536):
                    pass
        return {"bytes": len(copied), "effect": self._was_deactivated(node)}


@contextlib.contextmanager
def _wiretap(there: tuple[str, int]) -> Iterator[tuple[int, bytearray]]:
    """Relay one connection from a loopback port and copy what the client sends."""
    copied = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def relay() -> None:
            ours, _ = server.accept()
            with ours, socket.create_connection(there) as theirs:
                back = threading.Thread(target=_pass, args=(theirs, ours, bytearray()))
                back.start()
                _pass(ours, theirs, copied)
                back.join(5)

        thread = threading.Thread(target=relay)
        thread.start()
        yield server.getsockname()[1], copied
        thread.join(10)


def _pass(source: socket.socket, sink: socket.socket, copied: bytearray) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            copied += chunk
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)


def main() -> None:
    """Try everything and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kind in (("kit", Path), ("address", str), ("other", Path)):
        parser.add_argument(name, type=kind)
    given = parser.parse_args()
    seen = Thief(given.kit, given.address).try_all(given.other.read_bytes())
    print(json.dumps(seen))  # noqa: T201 - read by the test


if __name__ == "__main__":
    main()
