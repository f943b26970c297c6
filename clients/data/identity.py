"""Pseudonyms of patients and sequences, and the secret that they are made with.

What a person sees is a keyed hash, HMAC-SHA256 [RFC 2104]: without the key of the site
nobody can try out names and numbers until one fits. The key stays at the site. What
decides a split is an unkeyed hash that nobody sees, so that a data set is split in the
same way on every machine.
"""

import base64
import hashlib
import hmac
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from clients.data.errors import DataError

KEY_VARIABLE = "ENDOFED_KEY"
KEY_BYTES = 32
ID_LENGTH = 10  # base32 characters, 50 bits: a collision among 10^5 is unlikely
WAIT_S = 2.0  # for another process to finish writing its new key


@dataclass(frozen=True)
class SiteKey:
    """The secret of one site.

    Attributes:
        secret: 32 random bytes.

    Raises:
        DataError: If the secret has another length.
    """

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse a secret of another length."""
        if len(self.secret) != KEY_BYTES:
            raise DataError(
                f"The site key must be {KEY_BYTES} bytes, got {len(self.secret)}: "
                "bring back the right file, or delete it to get a new key (all "
                "pseudonyms will change)."
            )

    @classmethod
    def load_or_create(cls, path: Path | None = None) -> "SiteKey":
        """Read the key of this site, or make one if there is none yet.

        Args:
            path: Of the key file; None = $ENDOFED_KEY, else ~/.endofed/site.key.

        Returns:
            The key. Of several processes that create it at once, one does, and all get
            the same.

        Raises:
            DataError: If the file cannot be read or made, has another size, or may be
                read by other users. The text holds no path.
        """
        chosen = path or Path(os.environ.get(KEY_VARIABLE) or "~/.endofed/site.key")
        try:
            chosen = chosen.expanduser()
            if not chosen.exists():
                _create(chosen)
            return cls(_read(chosen))
        except (OSError, RuntimeError):  # RuntimeError: there is no home folder
            raise DataError(
                "The site key can be neither read nor created: set $ENDOFED_KEY to a "
                "file in a folder that this program's user may read and write."
            ) from None

    def patient_id(self, raw: str) -> str:
        """Return the pseudonym of a patient.

        Args:
            raw: Whatever tells patients apart; may hold undecodable bytes of a name.

        Returns:
            "P-" and 10 characters of A-Z and 2-7.
        """
        return f"P-{self._hash('patient', raw)}"

    def sequence_id(self, raw: str) -> str:
        """Return the pseudonym of a sequence.

        Args:
            raw: Whatever tells the sequences of all patients apart.

        Returns:
            "S-" and 10 characters of A-Z and 2-7.
        """
        return f"S-{self._hash('sequence', raw)}"

    def _hash(self, purpose: str, raw: str) -> str:
        # The purpose comes first, so that a patient and a sequence of one name differ.
        message = purpose.encode() + b"\0" + _to_bytes(raw)
        found = hmac.new(self.secret, message, hashlib.sha256).digest()
        return base64.b32encode(found)[:ID_LENGTH].decode()


def patient_token(raw: str) -> int:
    """Return the number that decides into which split a patient falls.

    Args:
        raw: Whatever tells patients apart.

    Returns:
        The first 63 bits of SHA-256: the same on every machine, so never to be shown.
    """
    found = hashlib.sha256(_to_bytes(raw)).digest()
    return int.from_bytes(found[:8], "big") >> 1


def _to_bytes(raw: str) -> bytes:
    # File names that are no UTF-8 reach us with surrogates for their bytes.
    return raw.encode("utf-8", "surrogateescape")


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:  # another process was faster
        return
    with os.fdopen(opened, "wb") as stream:
        stream.write(os.urandom(KEY_BYTES))
        stream.flush()
        os.fsync(stream.fileno())


def _read(path: Path) -> bytes:
    give_up = time.monotonic() + WAIT_S
    while True:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            secret = stream.read(2**16)  # no more, should this be a wrong, huge file
        if os.name == "posix" and mode & 0o077:
            raise DataError(
                "Other users of this machine may read or change the site key: take "
                "that away with `chmod 600` on the key file ($ENDOFED_KEY, else "
                ".endofed/site.key in the home folder)."
            )
        if secret or time.monotonic() > give_up:
            return secret
        time.sleep(0.02)  # the process that creates the key has not written it yet
