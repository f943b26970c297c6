"""The audit log of a site: what came in, what went out, and what was refused.

`STATE/audit.jsonl` is the site's own record, with the same hash chain and the same
fingerprints of weights as the server's; see `strategies.audit`. It is written before
an answer leaves, so nothing leaves that the log does not show, and a site whose log was
changed answers nothing until somebody has looked. Rounds per day are counted from it:
a restart does not reset the count.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import Timeout

from clients.data.errors import DataError
from strategies.audit import AuditEntry, AuditLog

AUDIT_FILE = "audit.jsonl"
UNCOUNTED = "introduce"
"""Trains and measures nothing, so it begins no round."""


class SiteAudit:
    """The log of one site; several processes may have it open."""

    def __init__(self, state: Path, clock: Callable[[], float] = time.time) -> None:
        """Open the log, or start one; what is there is checked.

        Args:
            state: The site's folder that may be written.
            clock: Gives the Unix time in seconds.

        Raises:
            AuditError: If the log was changed after it was written.
            DataError: If it cannot be read or written; without its path.
        """
        self._clock = clock
        self._begun: dict[str, set[tuple[int, int]]] = {}  # of the latest day
        with _without_paths():
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._log = AuditLog(state / AUDIT_FILE, clock, self._count)

    @property
    def head(self) -> str:
        """SHA-256 of the last line: stands for the whole log so far."""
        return self._log.head

    def record(self, entry: AuditEntry) -> None:
        """Add an entry and force it to the disk.

        Args:
            entry: A message; `note` says why, if it was refused or failed.

        Raises:
            AuditError: If the log was changed after it was written.
            DataError: If it cannot be written.
        """
        with _without_paths():
            self._log.record(entry)

    def rounds_today(self, *, besides: tuple[int, int] | None = None) -> int:
        """Count the rounds that were begun today, by the calendar of UTC.

        A round is begun by the first request to train or to measure that was not
        refused. Rounds of different runs are different rounds.

        Args:
            besides: Run and round that do not count, as they are begun already.

        Returns:
            Number of rounds.
        """
        return len(self._begun.get(_day(self._clock()), set()) - {besides})

    def _count(self, line: Mapping[str, Any]) -> None:
        is_request = line["direction"] == "in" and not line["note"]
        if not is_request or line["phase"] == UNCOUNTED:
            return
        day = _day(line["time"])
        if day not in self._begun:
            self._begun = {day: set()}
        self._begun[day].add((line.get("run", 0), line["round"]))


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


@contextmanager
def _without_paths() -> Iterator[None]:
    try:
        yield
    except (OSError, Timeout):
        raise DataError(
            "The site's audit log can be neither read nor written, so the site "
            "answers nothing: let this program's user write the folder `state` of "
            "site.toml, and see that its disk is not full."
        ) from None
