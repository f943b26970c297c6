"""Certificates as a TLS client meets them, on loopback."""

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from experiments.deployment.certificates import (
    Issued,
    certificate_facts,
    make_authority,
    make_server_certificate,
)
from strategies.settings import SettingsError

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


def authority(name: str = "trial") -> Issued:
    return make_authority(name, NOW - DAY, NOW + 100 * DAY)


def server_of(
    issuer: Issued,
    *names: str,
    start: datetime = NOW - DAY,
    end: datetime = NOW + 10 * DAY,
) -> Issued:
    return make_server_certificate(issuer, "trial", names, start, end)


def hello(folder: Path, server: Issued, trusted: Issued, name: str) -> str:
    """Connect over TLS and return what the server says."""
    (folder / "server.pem").write_bytes(server.certificate)
    (folder / "server.key").write_bytes(server.key)
    (folder / "ca.crt").write_bytes(trusted.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    client = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 does by default
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_serve_once, args=(listening, context))
        thread.start()
        try:
            with (
                socket.create_connection(listening.getsockname(), timeout=10) as raw,
                client.wrap_socket(raw, server_hostname=name) as stream,
            ):
                return stream.recv(16).decode()
        finally:
            thread.join(timeout=10)


def _serve_once(listening: socket.socket, context: ssl.SSLContext) -> None:
    raw, _ = listening.accept()
    raw.settimeout(10)
    try:
        with context.wrap_socket(raw, server_side=True) as stream:
            stream.sendall(b"hello")
    except (ssl.SSLError, OSError):
        raw.close()  # the client has refused


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "fl.example.org", "::1"])
def test_a_client_with_the_authority_trusts_the_server_under_each_of_its_names(
    tmp_path: Path, name: str
) -> None:
    issuer = authority()
    server = server_of(issuer, "fl.example.org", "::1")
    assert hello(tmp_path, server, issuer, name) == "hello"


def test_a_client_refuses_a_name_that_is_not_in_the_certificate(tmp_path: Path) -> None:
    issuer = authority()
    server = server_of(issuer, "fl.example.org")
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        hello(tmp_path, server, issuer, "fl.example.com")


def test_a_client_refuses_the_server_of_another_authority_of_the_same_name(
    tmp_path: Path,
) -> None:
    server = server_of(authority("trial"))
    with pytest.raises(ssl.SSLCertVerificationError, match="verify failed"):
        hello(tmp_path, server, authority("trial"), "127.0.0.1")


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        (NOW - 3 * DAY, NOW - DAY, "expired"),
        (NOW + DAY, NOW + 3 * DAY, "not yet valid"),
    ],
)
def test_a_client_refuses_a_certificate_outside_its_days(
    tmp_path: Path, start: datetime, end: datetime, reason: str
) -> None:
    issuer = authority()
    server = server_of(issuer, start=start, end=end)
    with pytest.raises(ssl.SSLCertVerificationError, match=reason):
        hello(tmp_path, server, issuer, "127.0.0.1")


def test_the_server_may_not_pose_as_an_authority(tmp_path: Path) -> None:
    issuer = authority()
    forged = server_of(server_of(issuer))
    forged = Issued(certificate=forged.certificate, key=forged.key)
    with pytest.raises(ssl.SSLCertVerificationError):
        hello(tmp_path, forged, issuer, "127.0.0.1")


def test_a_server_certificate_serves_servers_only_and_says_whom() -> None:
    server = server_of(authority(), "fl.example.org", "10.0.0.5", "localhost")
    found = x509.load_pem_x509_certificate(server.certificate)
    usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    facts = certificate_facts(server.certificate)
    assert facts.names == ("fl.example.org", "10.0.0.5", "localhost", "127.0.0.1")
    assert facts.expires == NOW + 10 * DAY
    assert int(facts.serial, 16) == found.serial_number


def test_every_renewal_has_its_own_serial_and_key() -> None:
    issuer = authority()
    first, second = server_of(issuer), server_of(issuer)
    assert first.key != second.key
    serials = {certificate_facts(one.certificate).serial for one in (first, second)}
    assert len(serials) == 2


def test_a_server_certificate_does_not_outlive_its_authority() -> None:
    issuer = authority()
    server = server_of(issuer, end=NOW + 1000 * DAY)
    assert certificate_facts(server.certificate).expires == NOW + 100 * DAY


def test_an_authority_that_has_expired_certifies_nobody() -> None:
    old = make_authority("trial", NOW - 3 * DAY, NOW - DAY)
    with pytest.raises(SettingsError, match="has expired"):
        server_of(old)


def test_a_private_key_is_never_shown() -> None:
    made = authority()
    assert "PRIVATE" in made.key.decode()
    assert "PRIVATE" not in repr(made)


@pytest.mark.parametrize("which", ["certificate", "key"])
def test_a_damaged_file_of_the_authority_is_told_in_words(which: str) -> None:
    good = authority()
    bad = Issued(
        certificate=b"" if which == "certificate" else good.certificate,
        key=b"" if which == "key" else good.key,
    )
    with pytest.raises(SettingsError, match="restore it from a backup"):
        server_of(bad)
