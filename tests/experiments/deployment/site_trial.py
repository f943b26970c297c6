"""A kit on disk, and a centre on loopback that speaks TLS, as tests want them."""

import http.server
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

from experiments.deployment.certificates import (
    Issued,
    make_authority,
    make_server_certificate,
)
from experiments.deployment.kit import write_file
from experiments.deployment.node_keys import make_node_key
from tests.clients.site_kit import write_site_file

DAY = timedelta(days=1)


def make_kit(folder: Path, port: int, authority: bytes = b"", **tables: object) -> Path:
    """Write a kit of a simulated hospital whose centre is on a loopback port."""
    federation = {"name": "trial", "address": f"127.0.0.1:{port}"}
    write_site_file(folder, federation=federation, **tables)
    key = make_node_key()
    write_file(folder / "supernode.key", key.private, 0o600)
    write_file(folder / "supernode.pub", f"{key.public} hillside\n".encode(), 0o644)
    if authority:
        (folder / "ca.crt").write_bytes(authority)
    return folder


def make_pair(
    names: tuple[str, ...] = ("127.0.0.1",),
    start: timedelta = -DAY,
    end: timedelta = 90 * DAY,
) -> tuple[Issued, Issued]:
    """Make an authority of a year and a server certificate, relative to now."""
    now = datetime.now(UTC)
    authority = make_authority("trial", now - 400 * DAY, now + 365 * DAY)
    server = make_server_certificate(authority, "trial", names, now + start, now + end)
    return authority, server


@contextmanager
def centre(
    folder: Path, server: Issued | None, clock_ahead: timedelta = timedelta()
) -> Iterator[int]:
    """Answer on a loopback port, with TLS if there is a certificate."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            now = datetime.now(UTC) + clock_ahead
            self.send_header("Date", format_datetime(now, usegmt=True))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass

    with Quiet(("127.0.0.1", 0), Answer) as program:
        if server is not None:
            (folder / "served.pem").write_bytes(server.certificate)
            (folder / "served.key").write_bytes(server.key)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(folder / "served.pem", folder / "served.key")
            program.socket = context.wrap_socket(
                program.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = threading.Thread(target=program.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield program.server_address[1]
        finally:
            program.shutdown()
            thread.join()
