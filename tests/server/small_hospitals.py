"""Hospitals whose model is three numbers, and a federation of them that is recorded."""

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from models.metrics import SegmentationCounts
from server.attendance import Site
from server.exchange import AttendedGrid, Exchange
from server.journal import Journal, read_events
from server.recorder import RoundRecorder
from server.tracking import NoTracker
from strategies import messages
from strategies.audit import AuditLog
from strategies.evaluation import Evaluation
from strategies.fedefm import FedEFM
from strategies.fedefm_settings import FedEFMSettings
from strategies.replies import pack_reply
from strategies.settings import RunSettings
from strategies.unannotated import UnannotatedCounts
from tests.federation import Fault, InProcessGrid

WEIGHTS = {"w": torch.tensor([1.0, 2.0, 3.0])}
UNANNOTATED = UnannotatedCounts((2, 0), (1, 0), (5, 0), (50, 0))

Numbers = Mapping[str, float]


def make_app(sites: tuple[str, ...], distilled: Mapping[str, Numbers]) -> ClientApp:
    """Hospitals that add their place in the list and say what they are told to."""
    app = ClientApp()

    def answer(message: Message, context: Context, **numbers: float) -> Message:
        place = int(context.node_config["partition-id"])
        job = messages.unpack_job(message)
        assert job.weights is not None
        state = {name: tensor + place for name, tensor in job.weights.items()}
        metrics = {messages.LOSS: 1.0, **numbers}
        content = pack_reply(sites[place], metrics, state=state, owner=job.owner)
        return Message(content, reply_to=message)

    @app.train()
    def local(message: Message, context: Context) -> Message:
        return answer(message, context)

    @app.train("overseas")
    def overseas(message: Message, context: Context) -> Message:
        return answer(message, context)

    @app.train("distil")
    def distil(message: Message, context: Context) -> Message:
        place = int(context.node_config["partition-id"])
        return answer(message, context, **distilled.get(sites[place], {}))

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        site = sites[int(context.node_config["partition-id"])]
        found = Evaluation(
            4, 0.5, SegmentationCounts.zero(), unannotated=UNANNOTATED
        ).to_metrics()
        return Message(pack_reply(site, found), reply_to=message)

    return app


class Recorded(RoundRecorder):
    """A recorder that keeps the phases it saw and, by round, what edges cost."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal.create(str(folder), {}, datetime(2026, 11, 21))
        super().__init__(
            self.journal, NoTracker(), AuditLog(self.journal.folder / "audit.jsonl")
        )
        self.phases: list[Exchange] = []

    def phase_ended(self, exchange: Exchange) -> None:
        super().phase_ended(exchange)
        self.phases.append(exchange)

    def rounds(self) -> list[dict[str, Any]]:
        events = read_events(self.journal.events_path)
        return [event for event in events if event["event"] == "round"]


def play(
    folder: Path,
    settings: RunSettings,
    *,
    sites: tuple[str, ...] = ("alpha", "beta", "gamma"),
    distilled: Mapping[str, Numbers] | None = None,
    faults: Mapping[int, Fault] | None = None,
    num_rounds: int = 1,
    **decisions: Any,  # noqa: ANN401 - settings of FedEFM
) -> Recorded:
    """Run the warm-up and some rounds and return what was recorded."""
    inner = InProcessGrid(
        make_app(sites, distilled or {}), {}, len(sites), faults=faults
    )
    recorder = Recorded(folder)
    grid = AttendedGrid(
        inner,
        [Site(name, 1000 - place, {}) for place, name in enumerate(sites)],
        min_sites=1,
        timeout_s=0.2,
        expected=WEIGHTS,
        observer=recorder,
    )
    chosen: FedEFMSettings = dataclasses.replace(settings.fedefm, **decisions)
    strategy = FedEFM(chosen, grid.roster)
    strategy.start(
        grid,
        messages.from_state(WEIGHTS),
        num_rounds=num_rounds,
        evaluate_fn=lambda number, _: recorder.finish(number) and None,
    )
    return recorder
