"""Has the site its own private key, in the right form and for its eyes only?"""

import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from experiments.deployment.checks.finding import Finding
from experiments.deployment.node_keys import NodeKey, read_public_key
from strategies.settings import SettingsError

NAME = "key"
MAKE_ONE = "Make a pair with `endofed site key` and send the public half to the centre."


def check_key(key: Path, public: Path) -> Finding:
    """Look at the private key of the site.

    Args:
        key: supernode.key of the kit.
        public: supernode.pub of the kit; may be missing.

    Returns:
        The finding, with the fingerprint by which the centre knows the key.
    """
    try:
        mode = stat.S_IMODE(key.stat().st_mode)
        content = key.read_bytes()
    except FileNotFoundError:
        says = "The kit has no supernode.key."
        advice = "A site that made its own key copies its private half there. "
        return Finding(NAME, "failed", says, advice + MAKE_ONE)
    except OSError:
        return Finding(
            NAME,
            "failed",
            "supernode.key cannot be read by this program's user.",
            "Give it to the user that starts the SuperNode.",
        )
    found = _public_half(content)
    if found is None:
        return Finding(
            NAME,
            "failed",
            "supernode.key is no unencrypted ECDSA key in OpenSSH format.",
            MAKE_ONE,
        )
    return _judge(found, mode, public)


def _judge(found: NodeKey, mode: int, public: Path) -> Finding:
    numbers = {"fingerprint": found.fingerprint}
    if mode & 0o077:
        return Finding(
            NAME,
            "failed",
            f"Other users of this machine may read supernode.key (mode {mode:o}).",
            "chmod 600 supernode.key",
            numbers,
        )
    if not _belongs(public, found):
        return Finding(
            NAME,
            "failed",
            "supernode.pub is not the public half of supernode.key.",
            "The centre knows the public one: bring the key that belongs to it back, "
            "or send the public half of this one.",
            numbers,
        )
    says = f"The key is there, for its owner only: {found.fingerprint}"
    return Finding(NAME, "ok", says, numbers=numbers)


def _public_half(content: bytes) -> NodeKey | None:
    if not content.startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----"):
        return None
    try:
        key = serialization.load_ssh_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return None
    line = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    try:
        return read_public_key(line.decode("ascii"))
    except SettingsError:
        return None  # of a curve that Flower does not take


def _belongs(public: Path, found: NodeKey) -> bool:
    try:
        text = public.read_text(encoding="utf-8")
        return read_public_key(text).fingerprint == found.fingerprint
    except FileNotFoundError:
        return True
    except (OSError, ValueError):  # SettingsError is a ValueError
        return False
