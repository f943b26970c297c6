"""The health check against servers that are well, ill, foreign and absent."""

import datetime
import http.server
import ipaddress
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.docker.files import DOCKER


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = self.path == "/health" and getattr(self.server, "well", True)
        self.send_response(200 if known else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def certificate(folder: Path, days: int) -> tuple[Path, Path]:
    """Make a self-signed certificate of 127.0.0.1; it is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=10)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=10 + days))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "ca.crt", folder / "server.key"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return public, private


def serve(tls: tuple[Path, Path] | None, *, well: bool = True) -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.well = well  # type: ignore[attr-defined]
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def check(role: str, port: int, **variables: str) -> tuple[int, str]:
    own = {
        "ENDOFED_PORT": str(port),
        **({"ENDOFED_RUNTIME_PORT": str(port)} if port else {}),
        "ENDOFED_MLFLOW_PORT": str(port),
        # A hospital's proxy must not be asked for this machine's own port.
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
    }
    done = subprocess.run(
        [sys.executable, str(DOCKER / "healthcheck.py"), role],
        env={**os.environ, **own, **variables},
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_server_with_the_certificate_of_its_authority_is_healthy(
    tmp_path: Path,
) -> None:
    tls = certificate(tmp_path, days=5)
    for port in serve(tls):
        assert check("server", port, ENDOFED_CA=str(tls[0])) == (0, "HTTP 200.\n")


def test_an_expired_or_foreign_certificate_is_ill_and_says_why(tmp_path: Path) -> None:
    tls = certificate(tmp_path, days=-1)
    for port in serve(tls):
        code, said = check("server", port, ENDOFED_CA=str(tls[0]))
        assert code == 1 and "expired" in said
    (tmp_path / "other").mkdir()
    other, _ = certificate(tmp_path / "other", days=5)
    tls = certificate(tmp_path, days=5)
    for port in serve(tls):
        code, said = check("server", port, ENDOFED_CA=str(other))
        assert code == 1 and "self-signed" in said


@pytest.mark.parametrize("role", ["site", "mlflow"])
def test_a_site_and_mlflow_are_asked_without_tls_on_loopback(role: str) -> None:
    for port in serve(None):
        assert check(role, port) == (0, "HTTP 200.\n")
    for port in serve(None, well=False):
        assert check(role, port) == (1, "HTTP 503.\n")


def test_a_site_is_found_on_whichever_port_it_has_taken() -> None:
    for _ in serve(None):
        assert check("site", 0) == (0, "HTTP 200.\n")


def test_nobody_there_is_one_line_without_a_path(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    code, said = check("site", port)
    assert code == 1
    assert said == "No answer: [Errno 111] Connection refused.\n"
    code, said = check("server", port, ENDOFED_CA=str(tmp_path / "DOE-JANE.crt"))
    assert code == 1
    assert "DOE-JANE" not in said and said.count("\n") == 1


@pytest.mark.parametrize("role", ["", "hospital"])
def test_an_unknown_role_is_told_which_there_are(role: str) -> None:
    assert check(role, 1) == (1, "Give one of server, site, mlflow.\n")


def test_a_port_that_is_no_number_is_ill() -> None:
    said = check("site", 1, ENDOFED_RUNTIME_PORT="x")
    assert said == (1, "Not probed: InvalidURL.\n")
