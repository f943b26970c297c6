"""What the server writes down about a run, as typed records.

The records are the contract between the server, `metrics.jsonl`, the live display, the
figures and MLflow; `to_event` and `to_json` give their keys. They hold names, numbers
and reasons only: no weights, no images, no paths of a machine.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

# The same as in strategies.settings, which would load torch for one line.
SettingValue = bool | int | float | str
"""What a setting may hold."""

Metrics = Mapping[str, float | None]
"""Numbers by name, such as "val/dice"; None or NaN where a number is missing."""


@dataclass(frozen=True)
class EdgeRecord:
    """What one teacher was worth to one student in a round, and what it cost.

    A control is the diagonal S_ii: a copy of the student that was trained at home and
    scored like a teacher, but taught nothing.
    """

    student: str
    teacher: str
    score: float | None  # EMD similarity, 1 = alike
    weight: float | None  # share of this teacher, >= 0
    gap: float | None = None  # primal minus dual value of the transport problem
    teacher_loss: float | None = None  # of the teacher on the student's own frames
    num_bytes: int = 0  # of weights that travelled for this edge

    @property
    def is_control(self) -> bool:
        """Whether the teacher is the student itself."""
        return self.student == self.teacher

    def to_json(self) -> dict[str, Any]:
        """Return the edge as it stands in `metrics.jsonl`."""
        return {**asdict(self), "is_control": self.is_control}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "EdgeRecord":
        """Read `to_json` back; numbers that an older run did not know are missing."""
        return cls(
            student=content["student"],
            teacher=content["teacher"],
            score=content.get("score"),
            weight=content.get("weight"),
            gap=content.get("gap"),
            teacher_loss=content.get("teacher_loss"),
            num_bytes=content.get("num_bytes") or 0,
        )


@dataclass(frozen=True)
class PhaseRecord:
    """How one phase of a round went."""

    round: int
    phase: str
    seconds: float
    replied: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)  # site -> reason
    bytes_up: int = 0  # from the sites to the server
    bytes_down: int = 0

    def to_event(self) -> dict[str, Any]:
        """Return the event of `metrics.jsonl`, without its time."""
        return {
            "event": "phase",
            "round": self.round,
            "phase": self.phase,
            "seconds": self.seconds,
            "replied": self.replied,
            "failed": self.failed,
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
        }


@dataclass(frozen=True)
class RoundRecord:
    """Everything measured in a round; round 0 is the local warm-up."""

    round: int
    seconds: float
    sites: Mapping[str, Metrics]
    overall: Metrics  # "global" in the file
    edges: tuple[EdgeRecord, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)  # site -> reason
    warnings: tuple[str, ...] = ()  # one sentence each

    def to_event(self) -> dict[str, Any]:
        """Return the event of `metrics.jsonl`, without its time."""
        return {
            "event": "round",
            "round": self.round,
            "seconds": self.seconds,
            "sites": self.sites,
            "global": self.overall,
            "edges": [edge.to_json() for edge in self.edges],
            "failed": self.failed,
            "warnings": self.warnings,
        }


@dataclass(frozen=True)
class ResultRecord:
    """How a run ended and what the final model scored."""

    status: Literal["completed", "failed"]
    rounds: int
    sites: tuple[str, ...]
    missing: tuple[str, ...] = ()
    test: Mapping[str, Metrics] = field(default_factory=dict)
    overall: Metrics = field(default_factory=dict)  # "global" in the file
    # Every metric, for MLflow: these stand in test_metrics.json and not in the file.
    all_test: Mapping[str, Metrics] = field(default_factory=dict)
    all_overall: Metrics = field(default_factory=dict)
    # What `server.score_variance` says of the scores of all rounds; empty = no scores.
    emd: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str = ""  # relative to the run folder
    reason: str = ""
    too_few_sites: bool = False  # why it failed, for programs

    def to_json(self) -> dict[str, Any]:
        """Return the content of `result.json`."""
        return {
            "status": self.status,
            "rounds": self.rounds,
            "sites": self.sites,
            "missing": self.missing,
            "test": self.test,
            "global": self.overall,
            "emd": self.emd,
            "checkpoint": self.checkpoint,
            "reason": self.reason,
            "too_few_sites": self.too_few_sites,
        }
