"""Audit log: what left which site, and what reached it, when.

One JSON line per message with its size and the fingerprint of its weights. Every line
carries the SHA-256 of the line before it (a hash chain, after Haber and Stornetta,
"How to Time-Stamp a Digital Document", J. Cryptology 3, 1991), so that a line changed,
removed or put in later breaks the chain at that place.

The log holds no weights, no data and no reason texts of a site. It does not prove who
wrote it: whoever can write the file can write a new chain, and lines cut off the end
leave a valid shorter chain. Keep `AuditLog.head` elsewhere, and `verify` against it.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from server.journal import append_line, to_json_line

GENESIS = "0" * 64
"""What the first line carries in place of the digest of a line before it."""


class AuditError(ValueError):
    """The audit log was changed after it was written."""


@dataclass(frozen=True)
class AuditEntry:
    """A message between the server and a site, seen from the site."""

    round: int
    phase: str
    site: str
    direction: Literal["in", "out"]  # "out" left the site, "in" reached it
    num_bytes: int
    num_tensors: int
    digest: str = ""  # of the weights, 64 hexadecimal digits; "" without weights
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse entries that could not be checked later.

        Raises:
            ValueError: If direction, digest or a count is out of range.
        """
        if self.direction not in ("in", "out"):
            raise ValueError(f"direction must be in or out, got '{self.direction}'.")
        if self.digest and not re.fullmatch(r"[0-9a-f]{64}", self.digest):
            raise ValueError(
                "digest must be 64 hexadecimal digits or empty, got "
                f"{len(self.digest)} characters. Use weights_digest."
            )
        if self.num_bytes < 0 or self.num_tensors < 0:
            raise ValueError(
                "num_bytes and num_tensors must be >= 0, got "
                f"{self.num_bytes} and {self.num_tensors}."
            )


class AuditLog:
    """An append-only, hash-chained file.

    Args:
        path: `audit.jsonl`; an earlier log is checked and then continued.
        clock: Gives the Unix time in seconds of an entry.

    Raises:
        AuditError: If the earlier log was tampered with.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Open a log, or start one."""
        self._path = path
        self._clock = clock
        self._head = _walk(path)[-1]

    @property
    def head(self) -> str:
        """SHA-256 of the last line: stands for the whole log so far."""
        return self._head

    def record(self, entry: AuditEntry) -> None:
        """Add an entry and force it to the disk.

        Args:
            entry: What was sent.
        """
        line = to_json_line(
            {
                "time": self._clock(),
                "round": entry.round,
                "phase": entry.phase,
                "site": entry.site,
                "direction": entry.direction,
                "bytes": entry.num_bytes,
                "tensors": entry.num_tensors,
                "digest": entry.digest,
                "note": entry.note,
                "previous": self._head,
            }
        )
        append_line(self._path, line)
        self._head = _digest(line.encode("utf-8"))


def verify(path: Path, *, head: str | None = None) -> int:
    """Check that nobody changed a log.

    Args:
        path: `audit.jsonl`.
        head: `AuditLog.head` kept elsewhere; shows lines cut off the end too.

    Returns:
        Number of entries, all of them intact.

    Raises:
        AuditError: Naming the first line that does not follow from the one before.
    """
    chain = _walk(path)
    if head is not None and chain[-1] != head:
        raise AuditError(
            f"The audit log ends at entry {len(chain) - 1} with another digest than "
            "the one kept: entries are missing, added or replaced."
        )
    return len(chain) - 1


def _walk(path: Path) -> list[str]:
    """Return the digest before the first line and that of every line."""
    content = path.read_bytes() if path.exists() else b""
    lines = content.split(b"\n")
    if lines.pop():  # what follows the last line break
        raise AuditError(
            f"Line {len(lines) + 1} of the audit log is cut off. Restore the log from "
            "a copy, or keep it as evidence and start a new run folder."
        )
    chain = [GENESIS]
    for number, line in enumerate(lines, start=1):
        if _previous(line) != chain[-1]:
            raise AuditError(
                f"Line {number} of the audit log does not follow from the line before "
                "it: the log was changed after it was written."
            )
        chain.append(_digest(line))
    return chain


def _previous(line: bytes) -> str | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry.get("previous") if isinstance(entry, dict) else None


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
