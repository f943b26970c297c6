"""Rounds of a rival over Flower, on hospitals that do arithmetic.

A model is one number; a local step adds the hospital's number and reports it as an aid
where an aid came along.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from flwr.clientapp import ClientApp

from server.state_files import load_federation, save_federation
from strategies import messages
from strategies.accumulation import State
from strategies.federation_state import FederationState, equal_states
from strategies.replies import error_reply, pack_reply
from strategies.rivals.averaging import weighted_mean
from strategies.rivals.gossip import Gossip
from strategies.rivals.matcha import Matcha
from strategies.rivals.method import Ask, Memory, Method, SiloAnswer, SiloTask, Terms
from strategies.rivals.player import RivalStrategy, recall, remember
from strategies.rivals.relay import Relay
from strategies.settings import RunSettings
from tests.federation import WORKS, Fault, InProcessGrid

NAMES = ("alpha", "beta", "gamma")
STEP = {"alpha": 0.1, "beta": 10.0, "gamma": 100.0}


class Diary(Method):
    """Two phases a round; remembers what all share and what is each silo's own."""

    def play(self, memory: Memory, number: int, ask: Ask) -> Memory:
        silos = self.terms.silos
        total = memory.shared.get("total", {"w": torch.zeros(1)})
        ask([SiloTask(silo, memory.theta, owner="gamma") for silo in silos])
        answers = ask(
            [SiloTask(silo, memory.theta, {"total": total}) for silo in silos]
        )
        own = dict(memory.own.get("step", {}))
        own |= {one.silo: one.aids["step"] for one in answers}
        told = sum(float(one.aids["step"]["w"]) for one in answers)
        theta = weighted_mean(answers) if answers else memory.theta
        return Memory(theta, {"total": {"w": total["w"] + told}}, {"step": own})

    def personal(self, memory: Memory, silo: str) -> State:
        return memory.of("step", silo, memory.theta)


def make_app(calls: list[tuple[str, str, str, float]]) -> ClientApp:
    app = ClientApp()

    def read(message: Message, context: Context) -> tuple[str, messages.Job, float]:
        site = NAMES[int(context.node_config["partition-id"])]
        job = messages.unpack_job(message)
        assert job.weights is not None
        value = job.weights["w"].item()
        calls.append((message.metadata.message_type, site, job.owner, value))
        return site, job, value

    @app.train()
    def local(message: Message, context: Context) -> Message:
        site, job, value = read(message, context)
        aids = {"step": {"w": torch.tensor([STEP[site]])}} if job.aids else {}
        content = pack_reply(
            site,
            {messages.NUM_EXAMPLES: 1 + NAMES.index(site)},
            state={"w": torch.tensor([value + STEP[site]])},
            owner=job.owner,
            aids=aids,
        )
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        site, _, _ = read(message, context)
        return Message(pack_reply(site, {}), reply_to=message)

    return app


@dataclass
class Played:
    strategy: RivalStrategy
    theta: float
    calls: list[tuple[str, str, str, float]]
    told: list[tuple[int, float]]  # round and theta, as `evaluate_fn` hears them
    kept: dict[tuple[str, int], float] = field(default_factory=dict)
    states: list[FederationState] = field(default_factory=list)  # of every round

    @property
    def tasks(self) -> list[tuple[str, str]]:
        return [call[1:3] for call in self.calls if call[0] == messages.TRAIN]


def play(
    kind: Callable[[Terms], Method],
    settings: RunSettings,
    rounds: int,
    *,
    state: FederationState | None = None,
    faults: dict[int, Fault] | None = None,
) -> Played:
    calls: list[tuple[str, str, str, float]] = []
    grid = InProcessGrid(make_app(calls), {}, 3, faults=faults)
    kept: dict[tuple[str, int], float] = {}
    method = kind(Terms(settings.rival, NAMES, steps=1, seed=5))
    strategy = RivalStrategy(
        "trial",
        method,
        {name: 1000 - index for index, name in reversed([*enumerate(NAMES)])},
        state=state,
        seed=5,
        keep=lambda silo, number, own: kept.update({(silo, number): own["w"].item()}),
    )
    played = Played(strategy, 0.0, calls, [], kept)

    def note(number: int, theta: ArrayRecord) -> None:
        assert strategy.state is not None
        played.told.append((number, messages.to_state(theta)["w"].item()))
        played.states.append(strategy.state)

    start = messages.from_state({"w": torch.tensor([0.0])})
    result = strategy.start(grid, start, num_rounds=rounds, evaluate_fn=note)
    played.theta = messages.to_state(result.arrays)["w"].item()
    return played


def test_every_phase_asks_in_the_methods_order(run_settings: RunSettings) -> None:
    played = play(Diary, run_settings, 2)
    phases = [(name, "gamma") for name in NAMES] + [(name, "") for name in NAMES]
    assert played.tasks == phases * 2
    # Frames weigh 1, 2 and 3.
    gain = (0.1 * 1 + 10 * 2 + 100 * 3) / 6
    assert played.told == [(1, pytest.approx(gain)), (2, pytest.approx(2 * gain))]
    assert played.theta == pytest.approx(2 * gain)


def test_everybody_measures_the_global_model_of_every_round(
    run_settings: RunSettings,
) -> None:
    played = play(Diary, run_settings, 2)
    measured = [call[1:] for call in played.calls if call[0] == messages.EVALUATE]
    thetas = [theta for _, theta in played.told for _ in NAMES]
    assert [value for *_, value in measured] == pytest.approx(thetas)
    assert [site for site, *_ in measured] == [*NAMES, *NAMES]


def test_a_relay_visits_one_after_the_other(run_settings: RunSettings) -> None:
    played = play(Relay, run_settings, 2)
    visits = [call[1:] for call in played.calls if call[0] == messages.TRAIN]
    order = ["alpha", "beta", "gamma", "beta", "gamma", "alpha"]
    assert [site for site, *_ in visits] == order
    arrived = [0, 0.1, 10.1, 110.1, 120.1, 220.1]
    assert [value for *_, value in visits] == pytest.approx(arrived)


def failing(message: Message) -> Message:
    return error_reply(message, "The disk is full.")


@pytest.mark.parametrize("fault", [failing, lambda message: None])
def test_a_missing_silo_is_left_out(run_settings: RunSettings, fault: Fault) -> None:
    played = play(Diary, run_settings, 1, faults={1: fault})
    assert played.theta == pytest.approx((0.1 * 1 + 100 * 3) / 4)
    assert played.strategy.state is not None
    memory = recall(played.strategy.state)
    assert memory.own["step"].keys() == {"alpha", "gamma"}


def test_a_silo_that_fails_once_is_back_in_the_next_round(
    run_settings: RunSettings,
) -> None:
    def first_time(message: Message) -> Message | str:
        return failing(message) if messages.unpack_round(message) == 1 else WORKS

    played = play(Gossip, run_settings, 2, faults={1: first_time})
    sent = [call[1:] for call in played.calls if call[0] == messages.TRAIN]
    assert ("beta", "", 0.0) in sent  # from where it stood, not from the mean
    assert played.kept["beta", 1] == 0


def test_whoever_keeps_models_is_told_the_silos_own(run_settings: RunSettings) -> None:
    played = play(Diary, run_settings, 2)
    assert played.kept == {
        (name, number): pytest.approx(STEP[name]) for name in NAMES for number in (1, 2)
    }
    shared = play(Relay, run_settings, 1)
    assert set(shared.kept.values()) == {shared.theta}


@pytest.mark.parametrize("kind", [Diary, Gossip, Matcha, Relay])
def test_a_federation_that_stopped_goes_on_as_if_it_had_not(
    run_settings: RunSettings, tmp_path: Path, kind: type[Method]
) -> None:
    whole = play(kind, run_settings, 4)
    begun = play(kind, run_settings, 2)
    save_federation(tmp_path, begun.states[-1])
    for state in (begun.states[-1], load_federation(tmp_path)):
        resumed = play(kind, run_settings, 4, state=state)
        assert resumed.told == whole.told[2:]
        assert resumed.states[-1].equals(whole.states[-1])
        assert resumed.calls == whole.calls[len(begun.calls) :]
        assert resumed.kept.items() <= whole.kept.items()


def test_a_run_that_had_ended_asks_for_nothing(run_settings: RunSettings) -> None:
    begun = play(Diary, run_settings, 2)
    again = play(Diary, run_settings, 2, state=begun.states[-1])
    assert again.calls == []
    assert again.theta == begun.theta


def test_a_memory_is_read_back_as_it_was() -> None:
    def model(value: float) -> State:
        return {"w": torch.tensor([value])}

    own = {"model": {"a/b": model(1), "c": model(2)}, "step": {"c": model(3)}}
    memory = Memory(model(0), {"control": model(4)}, own)
    state = remember(memory, "trial", 7, ["a/b", "c"], seed=5)
    assert (state.round_number, state.strategy, state.seed) == (7, "trial", 5)
    found = recall(state)
    assert equal_states(found.theta, memory.theta)
    assert found.shared.keys() == {"control"}
    assert equal_states(found.shared["control"], model(4))
    assert {kind: set(states) for kind, states in found.own.items()} == {
        "model": {"a/b", "c"},
        "step": {"c"},
    }
    assert equal_states(found.of("model", "a/b", model(9)), model(1))
    assert equal_states(found.of("step", "a/b", model(9)), model(9))


def test_a_memory_without_a_tensor_is_written_and_read(tmp_path: Path) -> None:
    own = {"norms": {"alpha": {}, "beta": {"w": torch.ones(1)}}}
    memory = Memory({"w": torch.zeros(1)}, own=own)
    state = remember(memory, "trial", 1, ["alpha", "beta"], seed=0)
    save_federation(tmp_path, state)
    loaded = load_federation(tmp_path)
    assert loaded.equals(state)
    assert recall(loaded).of("norms", "alpha", {}) == {}


def test_federations_that_remember_different_things_differ() -> None:
    theta = {"w": torch.zeros(1)}
    one, other = (
        remember(Memory(theta, {"c": {"w": torch.tensor([value])}}), "trial", 1, [], 0)
        for value in (0.0, 1.0)
    )
    assert one.equals(one)
    assert not one.equals(other)
    assert not one.equals(replace(one, memory={}))


def test_a_federation_of_other_hospitals_is_refused(run_settings: RunSettings) -> None:
    state = remember(Memory({"w": torch.zeros(1)}), "trial", 1, ["alpha", "delta"], 5)
    with pytest.raises(ValueError, match="alpha, delta, but alpha, beta, gamma"):
        play(Diary, run_settings, 2, state=state)


def test_an_answer_without_its_aid_is_an_error_and_no_guess(
    run_settings: RunSettings,
) -> None:
    class Forgetful(Diary):
        def play(self, memory: Memory, number: int, ask: Ask) -> Memory:
            def without(tasks: Sequence[SiloTask]) -> list[SiloAnswer]:
                return ask([replace(task, aids={}) for task in tasks])

            return super().play(memory, number, without)

    with pytest.raises(KeyError, match="step"):
        play(Forgetful, run_settings, 1)


def test_flowers_own_loop_is_not_used(run_settings: RunSettings) -> None:
    method = Diary(Terms(run_settings.rival, NAMES, steps=1, seed=5))
    strategy = RivalStrategy("trial", method, {"alpha": 1})
    nothing = (1, ArrayRecord(), ConfigRecord(), None)
    for hook in (strategy.configure_train, strategy.configure_evaluate):
        with pytest.raises(NotImplementedError, match="its own rounds"):
            hook(*nothing)
    for hook in (strategy.aggregate_train, strategy.aggregate_evaluate):
        with pytest.raises(NotImplementedError, match="its own rounds"):
            hook(1, [])
