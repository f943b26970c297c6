"""Audit log: what left which site, and what reached it, when; kept at both ends.

One JSON line per message with its size and the fingerprint of its weights. Every line
carries the SHA-256 of the line before it (a hash chain, after Haber and Stornetta,
"How to Time-Stamp a Digital Document", J. Cryptology 3, 1991), so that a line changed,
removed or put in later breaks the chain at that place.

The log holds no weights and no data; of a request that a site refused or failed at it
holds the reason that the site gave. It does not prove who wrote it: whoever can write
the file can write a new chain, and lines cut off the end leave a valid shorter chain.
Keep `AuditLog.head` elsewhere, and `verify` against it. The server's log and that of a
site carry the same fingerprints, so the two can be laid side by side.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from filelock import FileLock

GENESIS = "0" * 64
"""What the first line carries in place of the digest of a line before it."""
LOCK_TIMEOUT_S = 60.0
Seen = Callable[[Mapping[str, Any]], None]
"""Is shown a line of the log as it stands in the file."""


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
    note: str = ""  # why a request was refused or failed; "" if all is well
    run: int = 0  # Flower's id; 0 = every line is of one run, and none is written

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
    """An append-only, hash-chained file that several processes may grow.

    Args:
        path: `audit.jsonl`; an earlier log is checked and then continued.
        clock: Gives the Unix time in seconds of an entry.
        seen: Shown every line, those of an earlier log and of other processes, too.

    Raises:
        AuditError: If the earlier log was tampered with.
        OSError: If the log cannot be read or written.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float] = time.time,
        seen: Seen | None = None,
    ) -> None:
        """Open a log, or start one."""
        self._path = path
        self._clock = clock
        self._walk = _Walk(seen)
        lock = path.with_name(f"{path.name}.lock")
        self._lock = FileLock(lock, LOCK_TIMEOUT_S, mode=0o600)
        with self._lock:
            self._walk.follow(path)

    @property
    def head(self) -> str:
        """SHA-256 of the last line: stands for the whole log so far."""
        return self._walk.head

    def record(self, entry: AuditEntry) -> None:
        """Add an entry and force it to the disk.

        Args:
            entry: What was sent.

        Raises:
            AuditError: If somebody changed the log since it was opened.
            OSError: If the log cannot be written.
        """
        with self._lock:
            self._walk.follow(self._path)  # another process may have been here
            content = {
                "time": self._clock(),
                "round": entry.round,
                "phase": entry.phase,
                "site": entry.site,
                "direction": entry.direction,
                "bytes": entry.num_bytes,
                "tensors": entry.num_tensors,
                "digest": entry.digest,
                "note": entry.note,
                **({"run": entry.run} if entry.run else {}),
                "previous": self.head,
            }
            _append(self._path, json.dumps(content, ensure_ascii=False))
            self._walk.follow(self._path)


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
    walk = _Walk()
    walk.follow(path)
    if head is not None and walk.head != head:
        raise AuditError(
            f"The audit log ends at entry {walk.count} with another digest than "
            "the one kept: entries are missing, added or replaced."
        )
    return walk.count


class _Walk:
    """Goes along a chain, and further along when it has grown."""

    def __init__(self, seen: Seen | None = None) -> None:
        self.head, self.count = GENESIS, 0
        self._seen = seen
        self._size = 0  # bytes that were walked

    def follow(self, path: Path) -> None:
        if not path.exists():
            if self._size:
                raise AuditError("The audit log was removed while it was in use.")
            return
        with path.open("rb") as stream:
            if stream.seek(0, os.SEEK_END) < self._size:
                raise AuditError("The audit log was cut while it was in use.")
            stream.seek(self._size)
            self._step_along(stream)

    def _step_along(self, stream: BinaryIO) -> None:
        for line in stream:
            self.count += 1
            self._size += len(line)
            if not line.endswith(b"\n"):
                raise AuditError(
                    f"Line {self.count} of the audit log is cut off. Restore the log "
                    "from a copy, or keep it as evidence elsewhere and start a new one."
                )
            entry = _read(line[:-1])
            if entry.get("previous") != self.head:
                raise AuditError(
                    f"Line {self.count} of the audit log does not follow from the line "
                    "before it: the log was changed after it was written."
                )
            self.head = hashlib.sha256(line[:-1]).hexdigest()
            if self._seen is not None:
                self._seen(entry)


def _read(line: bytes) -> Mapping[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _append(path: Path, line: str) -> None:
    # Only the owner may read it: when which round was trained is nobody else's affair.
    opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(opened, "ab") as stream:
        stream.write(line.encode("utf-8") + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
