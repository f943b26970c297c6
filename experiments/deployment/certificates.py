"""The certificate authority of a federation and the certificate of its server.

ECDSA on P-256, X.509 version 3 (RFC 5280). A site trusts the authority (`ca.crt` in its
kit) and nothing else, so the server's certificate can be renewed without a new kit.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from strategies.settings import SettingsError

CLOCK_SKEW = timedelta(hours=1)
"""How far behind the clock of a site may be on the first day."""
ALWAYS_IN = ("localhost", "127.0.0.1")
"""Names under which programs on the server's own machine reach it."""


@dataclass(frozen=True, repr=False)
class Issued:
    """A certificate and its private key; never shown by `repr`.

    Attributes:
        certificate: In PEM.
        key: In PEM (PKCS 8), not encrypted.
    """

    certificate: bytes
    key: bytes


@dataclass(frozen=True)
class CertificateFacts:
    """What a state file and a table say of a certificate.

    Attributes:
        serial: In hexadecimal digits.
        fingerprint: SHA-256 of the certificate, as `openssl x509 -fingerprint` counts
            it, in lower case without colons.
        expires: Its last moment, in UTC.
        names: DNS names and addresses of the server; empty for an authority.
    """

    serial: str
    fingerprint: str
    expires: datetime
    names: tuple[str, ...]


def make_authority(name: str, start: datetime, end: datetime) -> Issued:
    """Make a certificate authority that may sign servers, but no other authority.

    Args:
        name: Of the federation, at most 40 characters.
        start: First moment at which it is valid, with time zone.
        end: Last moment.

    Returns:
        The authority.

    Raises:
        ValueError: If it would end before it starts.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(f"{name} authority")
    public = key.public_key()
    certificate = (
        _builder(subject, subject, public, start, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(public), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    return _issued(certificate, key)


def make_server_certificate(
    authority: Issued,
    name: str,
    names: tuple[str, ...],
    start: datetime,
    end: datetime,
) -> Issued:
    """Make a new key for the server and let the authority certify it.

    Args:
        authority: Signs it.
        name: Of the federation, at most 40 characters.
        names: DNS names and IP addresses by which sites reach the server; `localhost`
            and 127.0.0.1 are added.
        start: First moment at which it is valid, with time zone.
        end: Last moment; no later than the authority's, where it is cut.

    Returns:
        Key and certificate.

    Raises:
        SettingsError: If the authority has expired at `start`, or cannot be read.
        ValueError: If it would end before it starts.
    """
    issuer = _load_certificate(authority.certificate)
    signing_key = _load_key(authority.key)
    if issuer.not_valid_after_utc <= start + CLOCK_SKEW:
        raise SettingsError(
            "The certificate authority has expired, so it can certify no server. "
            "Provision the federation anew and send new kits to all sites."
        )
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    every = dict.fromkeys((*names, *ALWAYS_IN))
    end = min(end, issuer.not_valid_after_utc)
    certificate = (
        _builder(_subject(f"{name} server"), issuer.subject, public, start, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .add_extension(
            x509.SubjectAlternativeName([_general_name(one) for one in every]),
            critical=False,
        )
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(public), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()),
            critical=False,
        )
        .sign(signing_key, hashes.SHA256())
    )
    return _issued(certificate, key)


def certificate_facts(certificate: bytes) -> CertificateFacts:
    """Read what is to be known of a certificate.

    Args:
        certificate: In PEM.

    Returns:
        Its facts.

    Raises:
        SettingsError: If it is no certificate.
    """
    found = _load_certificate(certificate)
    return CertificateFacts(
        serial=f"{found.serial_number:x}",
        fingerprint=found.fingerprint(hashes.SHA256()).hex(),
        expires=found.not_valid_after_utc,
        names=_names(found),
    )


def is_address(text: str) -> bool:
    """Say whether a text is an IP address (version 4 or 6)."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    start: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    return x509.IPAddress(ip_address(name)) if is_address(name) else x509.DNSName(name)


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in found.value)


def _load_certificate(certificate: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(certificate)
    except ValueError:
        raise SettingsError(
            "A certificate of this provision cannot be read; restore it from a backup."
        ) from None


def _load_key(key: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        found = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError):
        found = None
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise SettingsError(
            "The key of the certificate authority cannot be read; restore it from a "
            "backup."
        )
    return found


def _issued(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Issued:
    return Issued(
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
        key=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
