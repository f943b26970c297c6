"""Is whoever answers at the centre's address the centre?

The chain and the name are verified by the TLS library against the kit's `ca.crt`, as
Flower does it; nothing else is trusted.
"""

import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from experiments.deployment.checks.finding import Finding
from experiments.deployment.checks.network import TIMEOUT_S

NAME = "certificate"
WARN_DAYS = 30
NOT_YET_VALID, EXPIRED, WRONG_NAME, WRONG_ADDRESS = 9, 10, 62, 64
"""OpenSSL's codes, X509_V_ERR_…"""
REASONS = {
    NOT_YET_VALID: (
        "The centre's certificate is not valid yet.",
        "Look at the clock of this machine first.",
    ),
    EXPIRED: (
        "The centre's certificate, or the kit's ca.crt, has expired.",
        "Ask the centre for a new one (`endofed provision rotate DIR server`); look at "
        "this machine's clock, too.",
    ),
    WRONG_NAME: (
        "The centre's certificate does not name the address in site.toml.",
        "Ask the centre to add the address to its certificate, or correct site.toml.",
    ),
}
UNTRUSTED = (
    "The certificate that came was not signed by the authority in the kit's ca.crt.",
    "Something between here and the centre may open TLS connections (a proxy), or the "
    "kit is of another federation. Do not join before this is clear.",
)


def check_certificate(
    host: str, port: int, authority: Path, now: datetime | None = None
) -> Finding:
    """Make a TLS connection as the SuperNode does, and look at the certificate.

    Args:
        host: Name or IP address of the centre, as in site.toml.
        port: TCP port.
        authority: The kit's ca.crt.
        now: Time of it, for the days left; None = now.

    Returns:
        The finding.
    """
    now = now or datetime.now(UTC)
    try:
        context = ssl.create_default_context(cafile=str(authority))
        authority_days = _days_left(authority.read_bytes(), now)
    except (OSError, ValueError):
        return Finding(
            NAME,
            "failed",
            "The kit has no certificate in ca.crt, or it cannot be read.",
            "Unpack the kit again.",
        )
    try:
        with (
            socket.create_connection((host, port), timeout=TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            served, version = secure.getpeercert(binary_form=True), secure.version()
    except ssl.SSLCertVerificationError as error:
        code = WRONG_NAME if error.verify_code == WRONG_ADDRESS else error.verify_code
        says, advice = REASONS.get(code, UNTRUSTED)
        return Finding(NAME, "failed", says, advice)
    except ssl.SSLError:
        return Finding(
            NAME,
            "failed",
            "What answers at the centre's port does not speak TLS.",
            "Ask the centre whether the port is right; a proxy may stand in between.",
        )
    except OSError:
        return Finding(NAME, "skipped", "No connection, so no certificate was seen.")
    certificate = x509.load_der_x509_certificate(served or b"")
    return _judge(_days(certificate, now), authority_days, str(version))


def _judge(server_days: int, authority_days: int, version: str) -> Finding:
    days = min(server_days, authority_days)
    is_late = days < WARN_DAYS
    advice = ""
    if is_late and authority_days <= server_days:
        advice = "Ask the centre for a new kit soon: ca.crt expires."
    elif is_late:
        advice = "The centre should renew its certificate soon."
    return Finding(
        NAME,
        "warning" if is_late else "ok",
        f"The centre proved who it is ({version}); the certificate is valid for "
        f"{server_days} more days, the kit's for {authority_days}.",
        advice,
        {"server-days": server_days, "authority-days": authority_days, "tls": version},
    )


def _days_left(pem: bytes, now: datetime) -> int:
    return _days(x509.load_pem_x509_certificate(pem), now)


def _days(certificate: x509.Certificate, now: datetime) -> int:
    return (certificate.not_valid_after_utc - now).days
