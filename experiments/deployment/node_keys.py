"""The key pair by which a site proves that it is the registered one.

ECDSA in OpenSSH format, which Flower's SuperNode authentication wants. A site may make
its own pair and send only the public half:

    ssh-keygen -t ecdsa -b 384 -N "" -C "" -f supernode.key
"""

import base64
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from strategies.settings import SettingsError

KEY_TYPES = ("ecdsa-sha2-nistp384", "ecdsa-sha2-nistp256")
MAKE_ONE = 'ssh-keygen -t ecdsa -b 384 -N "" -C "" -f supernode.key'
"""How a site makes its own pair."""


@dataclass(frozen=True)
class NodeKey:
    """The key of one site.

    Attributes:
        public: One line as OpenSSH writes it, without comment: type and key.
        fingerprint: As `ssh-keygen -l` prints it: `SHA256:…`.
        private: In OpenSSH format, not encrypted; empty if only the site has it.
    """

    public: str
    fingerprint: str
    private: bytes = field(default=b"", repr=False)


def make_node_key() -> NodeKey:
    """Make a new pair on P-384.

    Returns:
        Both halves.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    public = key.public_key()
    return NodeKey(
        public=_openssh(public),
        fingerprint=_fingerprint(public),
        private=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        ),
    )


def read_public_key(text: str) -> NodeKey:
    """Read the public half that a site has sent.

    Args:
        text: One line as in a `.pub` file. A comment behind the key is left out, since
            it may name a person or a machine.

    Returns:
        The public half.

    Raises:
        SettingsError: If it is no such key; the text is never repeated, as it may be
            a private one.
    """
    if "PRIVATE KEY" in text:
        raise SettingsError(
            "A private key was given where a public one is wanted. It must not leave "
            f"its site: the site makes a new pair ({MAKE_ONE}) and sends "
            "supernode.key.pub."
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    words = lines[0].split() if len(lines) == 1 else []
    if len(words) < 2 or words[0] not in KEY_TYPES:
        raise SettingsError(
            f"A public key must be one line that starts with {' or '.join(KEY_TYPES)}, "
            f"got another. The site makes a pair by: {MAKE_ONE}"
        )
    try:
        key = serialization.load_ssh_public_key(" ".join(words[:2]).encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise SettingsError(
            "A public key is damaged: it is cut off or was changed on its way. Ask the "
            "site to send the file supernode.key.pub again."
        )
    return NodeKey(public=_openssh(key), fingerprint=_fingerprint(key))


def _openssh(key: ec.EllipticCurvePublicKey) -> str:
    return key.public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    ).decode("ascii")


def _fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    digest = serialization.ssh_key_fingerprint(key, hashes.SHA256())
    return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")
