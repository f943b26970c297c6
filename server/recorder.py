"""Turns what the hospitals answered into the records of a round.

Sees every exchange before the strategy does, so the numbers of a round are written
down by site whatever strategy runs, and even if the run stops in that round.
"""

import logging
import math
import time
from collections.abc import Iterable
from statistics import fmean, pstdev

from flwr.app import ArrayRecord, Message

from models.metrics import SegmentationCounts
from models.weights import weights_digest
from server.audit import AuditEntry, AuditLog
from server.checkpoints import save_round
from server.exchange import AttendedGrid, Exchange, count_bytes
from server.journal import Journal
from server.records import EdgeRecord, PhaseRecord, RoundRecord
from server.tracking import Tracker
from strategies import messages
from strategies.accumulation import State, consensus_distance

log = logging.getLogger(__name__)

SCORE_NAMES = ("dice", "cldice", "dice.catheter", "dice.guidewire", "dice-per-image")
"""The scores that are followed over the rounds, out of all that could be."""


class RoundRecorder:
    """Collects a round's exchanges and closes the round."""

    def __init__(self, journal: Journal, tracker: Tracker, audit: AuditLog) -> None:
        """Write to these three.

        Args:
            journal: The run folder.
            tracker: MLflow, or nothing.
            audit: What left which site when.
        """
        self._journal = journal
        self._tracker = tracker
        self._audit = audit
        self._begin()

    def observe(self, exchange: Exchange, grid: AttendedGrid) -> None:
        """Note an exchange: phase, audit entries, metrics, edges, who failed.

        Args:
            exchange: A finished phase.
            grid: Knows the senders' names.
        """
        self._journal.phase(
            PhaseRecord(
                round=exchange.round_number,
                phase=exchange.phase,
                seconds=exchange.seconds,
                replied=tuple(exchange.replied),
                failed=exchange.failed,
                bytes_up=exchange.bytes_up,
                bytes_down=exchange.bytes_down,
            )
        )
        self._audit_exchange(exchange, grid)
        self._bytes_up += exchange.bytes_up
        self._bytes_down += exchange.bytes_down
        for site, reason in exchange.failed.items():
            self._failed.setdefault(site, f"{exchange.phase}: {reason}")
        for reply in exchange.replies:
            self._note_reply(exchange.phase, grid.name_of(reply), reply)

    def finish(self, round_number: int, theta: ArrayRecord) -> RoundRecord | None:
        """Close a round: keep its model, write its record.

        Args:
            round_number: 0 is the warm-up.
            theta: The accumulated model at the end of the round.

        Returns:
            The record, or None if nothing was exchanged since the last one.
        """
        if not self._sites:
            return None
        save_round(self._journal.folder, round_number, messages.to_state(theta))
        record = RoundRecord(
            round=round_number,
            seconds=time.monotonic() - self._started,
            sites=self._sites,
            overall=self._overall(),
            edges=tuple(self._edges),
            failed=self._failed,
        )
        self._journal.round(record)
        self._tracker.log_round(record)
        self._begin()
        log.info("Round %d ends: %s", round_number, describe(record))
        return record

    def _begin(self) -> None:
        self._started = time.monotonic()
        self._sites: dict[str, dict[str, float | None]] = {}
        self._counts: dict[str, SegmentationCounts] = {}
        self._states: dict[str, State] = {}
        self._edges: list[EdgeRecord] = []
        self._failed: dict[str, str] = {}
        self._bytes_up = 0
        self._bytes_down = 0

    def _note_reply(self, phase: str, site: str, reply: Message) -> None:
        metrics = messages.reply_metrics(reply)
        own = self._sites.setdefault(site, {})
        if phase == "evaluate":
            counts = read_counts(metrics)
            self._counts[site] = counts
            own["val/loss"] = metrics[messages.LOSS]
            own.update(name_scores("val", counts))
        elif phase == "overseas":
            own[f"overseas/{messages.reply_owner(reply)}/loss"] = metrics[messages.LOSS]
        else:
            own["train/loss"] = metrics[messages.LOSS]
            self._states[site] = messages.to_state(
                reply.content.array_records[messages.ARRAYS]
            )
            self._edges += read_edges(site, metrics)

    def _overall(self) -> dict[str, float | None]:
        overall: dict[str, float | None] = {
            "train/loss": _mean(
                site.get("train/loss") for site in self._sites.values()
            ),
            "comm/bytes_up": self._bytes_up,
            "comm/bytes_down": self._bytes_down,
            "time/round_s": time.monotonic() - self._started,
        }
        if self._counts:
            overall.update(summarise("val", self._counts))
        if self._edges:
            overall["emd/score"] = _mean(edge.score for edge in self._edges)
            overall["emd/weight"] = _mean(edge.weight for edge in self._edges)
        if self._states:
            overall["drift/consensus_distance"] = consensus_distance(self._states)
        return overall

    def _audit_exchange(self, exchange: Exchange, grid: AttendedGrid) -> None:
        for request in exchange.requests:
            if request.pushed_id:
                self._audit_message(exchange, request.site, "in", request.message)
        for reply in exchange.replies:
            self._audit_message(exchange, grid.name_of(reply), "out", reply)

    def _audit_message(
        self, exchange: Exchange, site: str, direction: str, message: Message
    ) -> None:
        records = message.content.array_records
        weights = {
            f"{key}/{name}": tensor
            for key, record in records.items()
            for name, tensor in record.to_torch_state_dict().items()
        }
        self._audit.record(
            AuditEntry(
                round=exchange.round_number,
                phase=exchange.phase,
                site=site,
                direction="in" if direction == "in" else "out",
                num_bytes=count_bytes(message.content),
                num_tensors=len(weights),
                digest=weights_digest(weights) if weights else "",
            )
        )


def describe(record: RoundRecord) -> str:
    """Say in a line how a round went."""
    names = ("train/loss", "val/dice", "val/cldice", "emd/score")
    known = {name: record.overall.get(name) for name in names}
    parts = [f"{name} {v:.3f}" for name, v in known.items() if v is not None]
    return ", ".join([*parts, f"{record.seconds:.1f} s"])


def read_counts(metrics: dict[str, float]) -> SegmentationCounts:
    """Read the counts that a hospital sent with its evaluation."""
    known = SegmentationCounts.zero().to_dict()
    return SegmentationCounts.from_dict({key: int(metrics[key]) for key in known})


def read_edges(site: str, metrics: dict[str, float]) -> list[EdgeRecord]:
    """Read what each teacher was worth to a student."""
    return [
        EdgeRecord(
            student=site,
            teacher=key.removeprefix(messages.SCORE),
            score=score,
            weight=metrics.get(messages.WEIGHT + key.removeprefix(messages.SCORE)),
        )
        for key, score in sorted(metrics.items())
        if key.startswith(messages.SCORE)
    ]


def name_scores(split: str, counts: SegmentationCounts) -> dict[str, float | None]:
    """Compute the scores that are followed, by names such as "val/dice"."""
    scores = counts.scores()
    return {
        f"{split}/{name}": scores[name] if math.isfinite(scores[name]) else None
        for name in SCORE_NAMES
    }


def summarise(
    split: str, counts: dict[str, SegmentationCounts]
) -> dict[str, float | None]:
    """Compute the scores of all sites together and how fair they are.

    Args:
        split: "val" or "test", the first part of the names.
        counts: By site, not empty.

    Returns:
        The scores of the union of all sites' frames (counts are added, so the server
        gets what it would get from the pooled frames), the worst site's Dice and the
        standard deviation of Dice over the sites.
    """
    total = sum(counts.values(), SegmentationCounts.zero())
    by_site = [one.scores()["dice"] for one in counts.values()]
    known = [value for value in by_site if math.isfinite(value)]
    prefix = "" if split == "val" else f"{split}/"
    return {
        **name_scores(split, total),
        f"{prefix}fair/worst_site_dice": min(known) if known else None,
        f"{prefix}fair/std": pstdev(known) if known else None,
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return fmean(known) if known else None
