"""Hospitals that do arithmetic instead of training, for FedEFM's choreography.

A model is one number. Training abroad adds the host's step, distilling moves the
student by its own step and to the mean of its teachers, so every weight can be
followed by hand.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from flwr.app import ArrayRecord, Context, Message
from flwr.clientapp import ClientApp

from strategies import messages
from strategies.fedefm import FedEFM
from strategies.fedefm_settings import FedEFMSettings
from strategies.federation_state import FederationState
from strategies.moments import ADAMW, Moments
from strategies.replies import pack_reply
from tests.federation import Fault, InProcessGrid

NAMES = ("alpha", "beta", "gamma")
STEP = {"alpha": 1.0, "beta": 10.0, "gamma": 100.0}


def make_app(calls: list[tuple[str, str, str, float]]) -> ClientApp:
    app = ClientApp()

    def answer(message: Message, context: Context, value: float) -> Message:
        site = NAMES[int(context.node_config["partition-id"])]
        job = messages.unpack_job(message)
        aids = {}
        if ADAMW in job.aids:  # what came, and one step more
            carried = Moments.from_state(job.aids[ADAMW])
            calls.append(("moments", site, "", float(carried.steps)))
            squares = {"w": torch.tensor([value**2])}
            grown = Moments(carried.steps + 1, dict(job.weights or {}), squares)
            aids = {ADAMW: grown.to_state()}
        content = pack_reply(
            site, {}, state={"w": torch.tensor([value])}, owner=job.owner, aids=aids
        )
        return Message(content, reply_to=message)

    def read(message: Message, context: Context) -> tuple[str, messages.Job, float]:
        site = NAMES[int(context.node_config["partition-id"])]
        job = messages.unpack_job(message)
        value = job.weights["w"].item()
        calls.append((message.metadata.message_type, site, job.owner, value))
        return site, job, value

    @app.train()
    def local(message: Message, context: Context) -> Message:
        site, _, value = read(message, context)
        return answer(message, context, value + STEP[site])

    @app.train("overseas")
    def overseas(message: Message, context: Context) -> Message:
        site, _, value = read(message, context)
        return answer(message, context, value + STEP[site])

    @app.train("proxy")
    def proxy(message: Message, context: Context) -> Message:
        site, job, value = read(message, context)
        taught = [teacher["w"].item() for teacher in job.teachers.values()]
        calls.append(("teachers", site, ",".join(job.teachers), sum(taught)))
        for name, classes in job.teaches.items():
            calls.append(("teaches", site, name, float(len(classes))))
        return answer(message, context, value + 1000.0)

    @app.query("prototypes")
    def prototypes(message: Message, context: Context) -> Message:
        site, _, value = read(message, context)
        content = pack_reply(
            site, {}, state={messages.TOKENS: torch.full((2, 3), value + STEP[site])}
        )
        return Message(content, reply_to=message)

    @app.train("distil")
    def distil(message: Message, context: Context) -> Message:
        site, job, value = read(message, context)
        taught = [teacher["w"].item() for teacher in job.teachers.values()]
        calls.append(("teachers", site, ",".join(job.teachers), sum(taught)))
        for name, classes in job.teaches.items():
            calls.append(("teaches", site, name, float(len(classes))))
        for host, tokens in job.prototypes.items():
            calls.append(("tokens", site, host, tokens.sum().item() / tokens.numel()))
        if job.common is not None:
            calls.append(("common", site, "", job.common["w"].item()))
        mean = sum(taught) / len(taught) if taught else value
        return answer(message, context, (value + mean) / 2)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        site, _, _ = read(message, context)
        return Message(pack_reply(site, {}), reply_to=message)

    return app


@dataclasses.dataclass
class Played:
    calls: list[tuple[str, str, str, float]]
    thetas: dict[int, float]
    strategy: FedEFM

    def of(self, kind: str) -> list[tuple[str, str, float]]:
        return [call[1:] for call in self.calls if call[0] == kind]


def play(
    settings: FedEFMSettings,
    rounds: int,
    faults: dict[int, Fault] | None = None,
    state: FederationState | None = None,
    annotated: Mapping[str, Sequence[str]] | None = None,
) -> Played:
    calls: list[tuple[str, str, str, float]] = []
    grid = InProcessGrid(make_app(calls), {}, 3, faults=faults)
    roster = {name: 1000 - index for index, name in enumerate(NAMES)}
    strategy = FedEFM(settings, roster, state=state, annotated=annotated)
    thetas: dict[int, float] = {}

    def note(round_number: int, theta: ArrayRecord) -> None:
        thetas[round_number] = messages.to_state(theta)["w"].item()

    start = messages.from_state({"w": torch.tensor([0.0])})
    strategy.start(grid, start, num_rounds=rounds, evaluate_fn=note)
    return Played(calls, thetas, strategy)
