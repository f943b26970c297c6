"""What the events of a run say so far; read from the run folder's `metrics.jsonl`.

The file grows while it is read: a line that is half written is read next time, and a
line that makes no sense is left out, so that nothing in the file can stop a run that is
only being watched. `server/journal.py` writes it; `experiments/live.py` shows it.

The time left is estimated from the rounds after the warm-up, which is longer; the last
test and the figures come on top of it.
"""

import contextlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any


class EventTail:
    """Reads a growing file of JSON lines, every line once."""

    def __init__(self, path: Path) -> None:
        """Follow a file, which may not exist yet."""
        self._path = path
        self._offset = 0

    def read(self) -> list[dict[str, Any]]:
        """Return the events that were completed since the last call.

        Returns:
            The events in order; a line that is no JSON object is left out.
        """
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._offset)
                complete, newline, _ = stream.read().rpartition(b"\n")
        except FileNotFoundError:
            return []
        self._offset += len(complete) + len(newline)
        events = (_parse(line) for line in complete.splitlines())
        return [event for event in events if event is not None]


@dataclass
class SiteRow:
    """The last that is known of a site."""

    train_loss: float | None = None
    val_dice: float | None = None  # 0 to 1
    val_accuracy: float | None = None  # 0 to 1, where frames are classified
    failure: str = ""
    answered: bool = False


@dataclass
class RunView:
    """What the events so far say about a run."""

    num_rounds: int = 0
    strategy: str = ""
    finished_round: int = -1  # 0 is the warm-up
    last_step: str = "waiting for the hospitals"
    sites: dict[str, SiteRow] = field(default_factory=dict)
    overall: Mapping[str, Any] = field(default_factory=dict)
    emd_score: float | None = None  # mean over the teachers, 1 = alike
    round_seconds: list[float] = field(default_factory=list)  # without the warm-up
    last_round_at: float = 0.0  # Unix time
    ended: bool = False
    note: str = ""

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take in an event; unknown ones and missing values change nothing."""
        with contextlib.suppress(TypeError, ValueError, AttributeError):
            self._apply(event)

    @property
    def classifies(self) -> bool:
        """Tell whether the run classifies frames and has accuracies, not Dice."""
        return "val/accuracy" in self.overall

    def seconds_left(self, now: float) -> float | None:
        """Estimate the time to the end of the last round.

        Args:
            now: Unix time in seconds.

        Returns:
            Seconds, never negative; None before the first round after the warm-up and
            after the last one.
        """
        rounds_left = self.num_rounds - self.finished_round
        if not self.round_seconds or rounds_left <= 0:
            return None
        total = rounds_left * fmean(self.round_seconds)
        return max(0.0, total - (now - self.last_round_at))

    def _apply(self, event: Mapping[str, Any]) -> None:
        kind = event.get("event")
        if kind == "start":
            self.num_rounds = int(event.get("num_rounds") or 0)
            self.strategy = str(event.get("strategy", ""))
            self.sites = {str(name): SiteRow() for name in event.get("sites") or ()}
            self.last_step = "training"
        elif kind == "phase":
            self.last_step = f"round {event.get('round')}: {event.get('phase')} done"
            self._note_failures(event)
        elif kind == "round":
            self._apply_round(event)
        elif kind == "tracking":
            self.note = "MLflow stopped taking numbers; the run goes on without it."
        elif kind == "end":
            self.ended = True
            self.last_step = str(event.get("reason") or event.get("status"))

    def _apply_round(self, event: Mapping[str, Any]) -> None:
        self.finished_round = int(event.get("round") or 0)
        self.last_step = f"round {self.finished_round} done"
        self.last_round_at = float(event.get("time") or time.time())
        seconds = finite(event.get("seconds"))
        if self.finished_round > 0 and seconds is not None:
            self.round_seconds.append(seconds)
        self.overall = event.get("global") or {}
        for row in self.sites.values():
            row.failure = ""
        for name, values in (event.get("sites") or {}).items():
            row = self.sites.setdefault(str(name), SiteRow())
            row.train_loss = finite(values.get("train/loss"))
            row.val_dice = finite(values.get("val/dice"))
            row.val_accuracy = finite(values.get("val/accuracy"))
            row.answered = True
        self._note_failures(event)
        edges = [e for e in event.get("edges") or () if not e.get("is_control")]
        scores = [finite(edge.get("score")) for edge in edges]
        known = [score for score in scores if score is not None]
        self.emd_score = fmean(known) if known else None

    def _note_failures(self, event: Mapping[str, Any]) -> None:
        for name, reason in (event.get("failed") or {}).items():
            self.sites.setdefault(str(name), SiteRow()).failure = str(reason)


def finite(value: object) -> float | None:
    """Return a finite number, or None for whatever else stands there."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
