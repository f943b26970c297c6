"""What is known of a run, as typed records with missing parts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.report.plain_text import as_list, as_mapping, as_number

Metrics = Mapping[str, float | None]


@dataclass(frozen=True)
class Edge:
    """What a teacher was worth to a student in a round; None = not measured."""

    round: int
    student: str
    teacher: str
    score: float | None = None
    weight: float | None = None
    gap: float | None = None  # of the transport
    teacher_loss: float | None = None  # on the student's frames
    num_bytes: float | None = None
    is_control: bool = False  # a copy trained at home: the diagonal


@dataclass(frozen=True)
class Round:
    """What was measured in a round; round 0 is the local warm-up."""

    number: int
    seconds: float | None
    sites: Mapping[str, Metrics]
    overall: Metrics
    edges: tuple[Edge, ...]
    failed: Mapping[str, str]  # site -> reason
    warnings: tuple[str, ...] = ()  # such as silos that drift apart


@dataclass(frozen=True)
class Phase:
    """How one phase of a round went."""

    round: int
    name: str
    seconds: float | None
    failed: Mapping[str, str]
    bytes_up: float
    bytes_down: float


@dataclass(frozen=True)
class Run:
    """A run folder, read."""

    folder: Path
    events: list[dict[str, Any]]
    rounds: list[Round]
    phases: list[Phase]
    settings: dict[str, Any]
    sites: dict[str, dict[str, Any]]  # what every site told about itself
    result: dict[str, Any]
    card: dict[str, Any]  # of the foundation checkpoint
    test_rows: list[dict[str, Any]]
    fewshot: list[dict[str, Any]]  # one study a file
    cross_site: dict[str, Any]
    score_variance: dict[str, Any]
    traffic: dict[str, dict[str, float]]  # site -> bytes "in" and "out"
    notes: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        """Return "completed", "failed", or "open" for a run without an end."""
        ends = [event.get("status") for event in self.events if is_event(event, "end")]
        status = self.result.get("status") or (ends[-1] if ends else None)
        return status if status in ("completed", "failed") else "open"

    @property
    def reason(self) -> str:
        """Return why the run failed, or an empty text."""
        ends = [event.get("reason") for event in self.events if is_event(event, "end")]
        reason = self.result.get("reason") or (ends[-1] if ends else None)
        return reason if isinstance(reason, str) else ""

    @property
    def site_names(self) -> list[str]:
        """Return all sites that were announced, reported or tested, sorted."""
        names = {*self.sites, *self.test_by_site}
        for event in self.events:
            if is_event(event, "start"):
                names.update(map(str, as_list(event.get("sites"))))
        for one in self.rounds:
            names.update(one.sites)
        return sorted(names)

    @property
    def test_by_site(self) -> dict[str, Metrics]:
        """Return the compact test scores of every site."""
        return {
            site: metrics_of(values)
            for site, values in as_mapping(self.result.get("test")).items()
        }

    @property
    def test_overall(self) -> Metrics:
        """Return the compact test scores of all frames."""
        return metrics_of(self.result.get("global"))

    @property
    def edges(self) -> list[Edge]:
        """Return the edges of all rounds, in order."""
        return [edge for one in self.rounds for edge in one.edges]

    @property
    def times(self) -> tuple[float | None, float | None]:
        """Return the Unix times of the first and the last event."""
        known = [as_number(event.get("time")) for event in self.events]
        found = [time for time in known if time is not None]
        return (found[0], found[-1]) if found else (None, None)


def is_event(event: Mapping[str, Any], kind: str) -> bool:
    """Say whether an event is of a kind, such as "round"."""
    return event.get("event") == kind


def metrics_of(values: object) -> dict[str, float | None]:
    """Return the numbers of an object of JSON; None where one is missing."""
    return {name: as_number(value) for name, value in as_mapping(values).items()}
