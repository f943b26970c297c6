"""A run of the federation, as its run folder and its command tell of it."""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUN_S = 600.0
"""How long a run may take."""
FEDAVG = ("strategy='fedavg'", "mlflow=false")
"""Each round is one training and one evaluation, of full weights: 13 MB a message of
sam-tiny, and none of the seconds in which each process of a site imports peft."""


def wait_until(what: str, holds: Callable[[], object], timeout_s: float) -> float:
    """Wait until something holds and return how long that took, in seconds."""
    started = time.monotonic()
    while not holds():
        waited = time.monotonic() - started
        assert waited < timeout_s, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.1)
    return time.monotonic() - started


@dataclass
class Run:
    """A run of `endofed federation run`."""

    process: "subprocess.Popen[bytes]"
    folder: Path
    log: Path

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return what the run folder tells of so far: "phase", "round" and so on."""
        events = read_lines(self.folder / "metrics.jsonl")
        return [event for event in events if event["event"] == kind]

    def audit(self) -> list[dict[str, Any]]:
        """Return the entries of the audit log that the centre wrote."""
        return read_lines(self.folder / "audit.jsonl")

    def phase(self, name: str, round_number: int = 1) -> dict[str, Any]:
        """Return the event of a phase's end."""
        return next(
            event
            for event in self.events("phase")
            if (event["phase"], event["round"]) == (name, round_number)
        )

    def wait(self, timeout_s: float = RUN_S) -> int:
        """Wait for the end of the run and return the exit code of the command."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the run did not end: {self.said()[-400:]}") from None

    def succeed(self) -> dict[str, Any]:
        """Wait for the end of a run that must go well and return its result."""
        code = self.wait()
        assert code == 0, f"exit code {code}: {self.said()[-600:]}"
        return self.result()

    def result(self) -> dict[str, Any]:
        """Return `result.json`."""
        return json.loads((self.folder / "result.json").read_text())

    def card(self) -> dict[str, Any]:
        """Return the card of the foundation checkpoint."""
        return json.loads((self.folder / "checkpoints" / "foundation.json").read_text())

    def weights(self) -> str:
        """Return the digest of the trained weights."""
        return str(self.card()["weights-digest"])

    def said(self) -> str:
        """Return what the command printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines, also while a last one is being written."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]
