"""Turns what the hospitals answered into the records of a round.

Sees every exchange before the strategy does, so the numbers of a round are written
down by site whatever strategy runs, and even if the run stops in that round.
"""

import logging
import time

from flwr.app import Message

from server.drift import DriftWatch
from server.edge_bytes import EdgeBytes
from server.edge_numbers import (
    add_bytes,
    describe_edges,
    edge_numbers,
    mean,
    read_edges,
)
from server.exchange import Exchange
from server.journal import Journal
from server.records import EdgeRecord, PhaseRecord, RoundRecord
from server.score_names import name_scores, summarise
from server.tracking import Tracker
from strategies import messages
from strategies.accumulation import Accumulator
from strategies.audit import AuditEntry, AuditLog
from strategies.contents import Contents
from strategies.evaluation import Evaluation, join_evaluations
from strategies.replies import (
    reply_evaluation,
    reply_metrics,
    reply_owner,
    reply_state,
    reply_states,
)

log = logging.getLogger(__name__)


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
        self._drift = DriftWatch()  # over the rounds of the run
        self._begin()

    def phase_began(self, exchange: Exchange) -> None:
        """Note what was sent to whom."""
        self._costs.phase_began(exchange)
        for request in exchange.requests:
            if request.pushed_id:
                self._audit_message(exchange, request.site, "in", request.contents)

    def reply_arrived(self, exchange: Exchange, site: str, reply: Message) -> None:
        """Note what left a hospital, and what it says."""
        self._costs.reply_arrived(exchange, site, reply)
        contents = Contents.of(reply.content, reply_states(reply))
        self._audit_message(exchange, site, "out", contents)
        self._note_reply(exchange.phase, site, reply)

    def phase_ended(self, exchange: Exchange) -> None:
        """Note how a phase went and who failed or refused, with the reason."""
        self._costs.phase_ended(exchange)
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
        self._bytes_up += exchange.bytes_up
        self._bytes_down += exchange.bytes_down
        for site, reason in exchange.failed.items():
            self._failed.setdefault(site, f"{exchange.phase}: {reason}")
            self._audit.record(
                AuditEntry(
                    round=exchange.round_number,
                    phase=exchange.phase,
                    site=site,
                    direction="out",
                    num_bytes=0,  # of weights that anybody could use
                    num_tensors=0,
                    note=reason,
                )
            )

    def finish(self, round_number: int) -> RoundRecord | None:
        """Close a round: write its record.

        Args:
            round_number: 0 is the warm-up.

        Returns:
            The record, or None if nothing was exchanged since the last one.
        """
        if not self._sites:
            return None
        overall = self._overall()
        warning = self._drift.note(overall.get("drift/consensus_distance"))
        if self._models.count:
            overall["drift/growing_rounds"] = self._drift.growing_rounds
        record = RoundRecord(
            round=round_number,
            seconds=time.monotonic() - self._started,
            sites=self._sites,
            overall=overall,
            edges=add_bytes(self._edges, self._costs.by_edge()),
            failed=self._failed,
            warnings=(warning,) if warning else (),
        )
        self._journal.round(record)
        self._tracker.log_round(record)
        self._begin()
        log.info("Round %d ends: %s", round_number, describe(record))
        for line in describe_edges(record.edges):
            log.info("Round %d: %s", round_number, line)
        for line in record.warnings:
            log.warning("Round %d: %s", round_number, line)
        return record

    def _begin(self) -> None:
        self._started = time.monotonic()
        self._sites: dict[str, dict[str, float | None]] = {}
        self._evaluations: dict[str, Evaluation] = {}
        self._models = Accumulator()  # of the silos, for their distance
        self._edges: list[EdgeRecord] = []
        self._costs = EdgeBytes()
        self._failed: dict[str, str] = {}
        self._bytes_up = 0
        self._bytes_down = 0
        self._wire_error = 0.0

    def _note_reply(self, phase: str, site: str, reply: Message) -> None:
        metrics = reply_metrics(reply)
        own = self._sites.setdefault(site, {})
        if phase == "evaluate":
            evaluation = reply_evaluation(reply)
            self._evaluations[site] = evaluation
            own["val/loss"] = evaluation.loss if evaluation.scored_frames else None
            own.update(name_scores("val", evaluation))
            own.update(evaluation.unannotated.scores("val"))
        elif phase == "overseas":
            owner = reply_owner(reply) or "everybody"
            own[f"overseas/{owner}/loss"] = metrics[messages.LOSS]
        elif phase == "proxy":
            own["proxy/loss"] = metrics[messages.LOSS]
            for edge in read_edges(site, metrics):
                own[f"proxy/{edge.teacher}/score"] = edge.score
                own[f"proxy/{edge.teacher}/weight"] = edge.weight
        elif owner := reply_owner(reply):  # of a rival: no model of theirs
            name = "personal" if owner == site else f"visit/{owner}"
            own[f"{name}/loss"] = metrics[messages.LOSS]
        elif phase in ("local", "distil"):
            own["train/loss"] = metrics[messages.LOSS]
            self._models.add(reply_state(reply))
            edges = read_edges(site, metrics)
            own.update(edge_numbers(edges))
            if "teacher/loss" in own:  # beside it: on the same frames
                own["student/loss"] = metrics[messages.LOSS]
            self._edges += edges
        if error := metrics.get(messages.WIRE_ERROR, 0.0):
            self._wire_error = max(self._wire_error, error)

    def _overall(self) -> dict[str, float | None]:
        overall: dict[str, float | None] = {
            "train/loss": mean(site.get("train/loss") for site in self._sites.values()),
            "comm/bytes_up": self._bytes_up,
            "comm/bytes_down": self._bytes_down,
            "time/round_s": time.monotonic() - self._started,
        }
        if self._evaluations:
            overall.update(summarise("val", self._evaluations))
            union = join_evaluations(list(self._evaluations.values()))
            overall.update(union.unannotated.scores("val"))
        overall.update(edge_numbers(self._edges))
        if "teacher/loss" in overall:
            overall["student/loss"] = mean(
                site.get("student/loss") for site in self._sites.values()
            )
        if costs := self._costs.by_edge():
            overall["comm/bytes_edges"] = sum(costs.values())
        if self._models.count:
            overall["drift/consensus_distance"] = self._models.consensus_distance()
        if self._wire_error:
            overall["comm/wire_error"] = self._wire_error
        return overall

    def _audit_message(
        self, exchange: Exchange, site: str, direction: str, contents: Contents
    ) -> None:
        self._audit.record(
            AuditEntry(
                round=exchange.round_number,
                phase=exchange.phase,
                site=site,
                direction="in" if direction == "in" else "out",
                num_bytes=contents.num_bytes,
                num_tensors=contents.num_tensors,
                digest=contents.digest,
            )
        )


def describe(record: RoundRecord) -> str:
    """Say in a line how a round went."""
    names = ("train/loss", "val/dice", "val/cldice", "val/accuracy", "emd/score")
    known = {name: record.overall.get(name) for name in names}
    parts = [f"{name} {v:.3f}" for name, v in known.items() if v is not None]
    return ", ".join([*parts, f"{record.seconds:.1f} s"])
