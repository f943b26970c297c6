"""Plays the rounds of a strategy without training, to count what it asks for.

Silos answer at once with a model of one number that no other answer has, as training
would make it; see `experiments/study/budget.py`.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence

import torch
from flwr.app import Message

from clients.rival_steps import steps_of
from experiments.in_process import name_message, take_identity
from experiments.study.steps import CENTRE, CONTROLS, OWN, VISITORS, RoundSteps
from models.assembly import assemble_model
from server.exchange import unpacked
from server.method import make_topology
from strategies import messages
from strategies.accumulation import State
from strategies.fedefm import FedEFM
from strategies.federation_state import FederationState
from strategies.model_settings import ModelSettings
from strategies.replies import pack_reply
from strategies.rivals.method import Memory, SiloAnswer, SiloTask, Terms
from strategies.rivals.registry import RIVALS
from strategies.settings import RunSettings


class _Weights:
    """Gives every answer weights that no other has, as training would."""

    def __init__(self) -> None:
        self._number = 0

    def next(self) -> State:
        self._number += 1
        return {"weight": torch.full((1,), float(self._number), dtype=torch.float64)}


class _AnyAid(dict[str, State]):
    """Whatever a method wants back beside the weights."""

    def __init__(self, weights: State) -> None:
        super().__init__()
        self._zeros = {name: torch.zeros_like(one) for name, one in weights.items()}

    def __missing__(self, name: str) -> State:
        return self._zeros

    def get(self, name: str, default: object = None) -> State:  # type: ignore[override]
        return self._zeros


def rehearse_rival(settings: RunSettings, silos: Sequence[str]) -> Iterator[RoundSteps]:
    """Yield the steps of every round of a rival of FedEFM.

    Args:
        settings: Of the run.
        silos: Names, sorted.
    """
    kind = RIVALS[settings.strategy].method
    assert kind is not None, "Flower's own strategies are counted without a rehearsal"
    terms = Terms(settings.rival, tuple(silos), settings.train.steps, settings.seed)
    weights, method = _Weights(), kind(terms)
    memory: Memory = method.begin(weights.next())
    for number in range(1, settings.num_rounds + 1):
        found = RoundSteps(number)

        def ask(
            tasks: Sequence[SiloTask], found: RoundSteps = found
        ) -> list[SiloAnswer]:
            found.add_phase(_rival_task(settings, task) for task in tasks)
            answers = [
                SiloAnswer(one.silo, one.owner, state, 1, _AnyAid(state))
                for one in tasks
                for state in (weights.next(),)
            ]
            return sorted(answers, key=lambda answer: (answer.owner, answer.silo))

        memory = method.play(memory, number, ask)
        yield found


def _rival_task(settings: RunSettings, task: SiloTask) -> tuple[str, str, int]:
    kind = OWN if task.owner in ("", task.silo) else VISITORS
    return kind, task.silo, steps_of(settings, task.silo, task.owner)


def rehearse_fedefm(
    settings: RunSettings, silos: Sequence[str]
) -> Iterator[RoundSteps]:
    """Yield the steps of the warm-up and of every round of FedEFM.

    Args:
        settings: Of the run.
        silos: Names, sorted.

    Raises:
        SettingsError: If the silos do not fit the topology.
    """
    take_identity()
    weights = _Weights()
    theta = weights.next()
    # Only designs over a network look at the model, for its size.
    sized = _shapes(settings.model) if settings.fedefm.underlay else theta
    strategy = FedEFM(
        settings.fedefm,
        {silo: number for number, silo in enumerate(silos, start=1)},
        topology=make_topology(settings, list(silos), sized),
        seed=settings.seed,
    )
    state = FederationState.begin(theta, list(silos), seed=settings.seed)
    for number in range(settings.num_rounds + 1):
        found = RoundSteps(number)

        def send(
            requests: Iterable[Message], found: RoundSteps = found
        ) -> list[Message]:
            named = [
                (messages.unpack_owner(one), silos[one.metadata.dst_node_id - 1], one)
                for one in requests
            ]
            asked = sorted(named, key=lambda one: one[:2])  # as replies arrive
            found.add_phase(
                task
                for _, site, one in asked
                for task in _fedefm_tasks(settings, site, one)
            )
            return [
                _reply(site, owner, one, weights.next()) for owner, site, one in asked
            ]

        state = strategy.play_round(state, send)
        yield found


# A large network takes seconds to build, and a study asks for every row and trial.
@functools.lru_cache(maxsize=4)
def _shapes(settings: ModelSettings) -> State:
    """Return what travels of a network, without numbers."""
    state = assemble_model(settings.recipe(seed=0)).trainable_state()
    return {name: tensor.to("meta") for name, tensor in state.items()}


def _fedefm_tasks(
    settings: RunSettings, site: str, request: Message
) -> list[tuple[str, str, int]]:
    """Count a request as `clients/app.py` answers it."""
    fedefm, kind = settings.fedefm, request.metadata.message_type
    if kind == messages.OVERSEAS:
        return [(VISITORS, site, fedefm.overseas_steps)]
    if kind == messages.PROXY:
        kind = CENTRE if fedefm.proxy_frames == "simulated" else VISITORS
        return [(kind, site, fedefm.proxy_steps)]
    if kind == messages.DISTIL:
        controls = [(CONTROLS, site, fedefm.overseas_steps)] if fedefm.diagonal else []
        return [(OWN, site, settings.train.steps), *controls]
    if kind == messages.TRAIN:
        is_warmup = messages.unpack_round(request) == 0
        steps = fedefm.warmup_steps if is_warmup else settings.train.steps
        return [(OWN, site, steps)]
    return []


def _reply(site: str, owner: str, request: Message, state: State) -> Message:
    name_message(request)
    content = pack_reply(site, {messages.NUM_EXAMPLES: 1}, state=state)
    content[messages.CONFIG][messages.OWNER] = owner
    return unpacked(Message(content, reply_to=request))
