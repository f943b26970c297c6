"""FedBN: everything is averaged, and normalisation stays where it is."""

from strategies.accumulation import State
from strategies.rivals.fedbn import FedBN
from strategies.rivals.method import Memory, SiloTask
from strategies.settings import RunSettings
from tests.strategies.rivals.toy_federation import (
    Silos,
    by_silo,
    listed,
    play,
    state,
    terms,
)


def train(task: SiloTask) -> State:
    gain = {"a": 1.0, "b": 3.0}[task.silo]
    return {name: tensor + gain for name, tensor in task.weights.items()}


def method(settings: RunSettings) -> FedBN:
    return FedBN(terms(settings, local_names=["norm"]))


def test_a_silo_starts_from_the_mean_with_its_own_normalisation(
    run_settings: RunSettings,
) -> None:
    first = play(
        method(run_settings), Memory(state(0.0, norm=[10.0])), ask := Silos(train)
    )
    assert all(
        listed(task.weights) == {"w": [0.0], "norm": [10.0]} for task in ask.asked[0]
    )
    assert listed(first.theta) == {"w": [2.0], "norm": [12.0]}

    ask = Silos(train, frames={"a": 1, "b": 3})
    second = play(method(run_settings), first, ask, 2)
    assert listed(ask.tasks()["a"].weights) == {"w": [2.0], "norm": [11.0]}
    assert listed(ask.tasks()["b"].weights) == {"w": [2.0], "norm": [13.0]}
    # w: (1 * 3 + 3 * 5) / 4; the mean of all normalisation is for those who have none.
    assert listed(second.theta) == {"w": [4.5], "norm": [(1 * 12 + 3 * 16) / 4]}
    assert listed(method(run_settings).personal(second, "b")) == {
        "w": [4.5],
        "norm": [16.0],
    }


def test_a_missing_silo_keeps_its_normalisation(run_settings: RunSettings) -> None:
    own = {"norms": {"a": {"norm": state(1.0)["w"]}, "b": {"norm": state(2.0)["w"]}}}
    memory = Memory(state(0.0, norm=[10.0]), own=own)
    ask = Silos(lambda task: None if task.silo == "b" else train(task))
    after = play(method(run_settings), memory, ask)
    assert listed(after.own["norms"]["b"]) == {"norm": [2.0]}
    assert listed(after.own["norms"]["a"]) == {"norm": [2.0]}
    assert listed(method(run_settings).personal(after, "b")) == {
        "w": [1.0],
        "norm": [2.0],
    }


def test_a_silo_that_never_took_part_gets_the_mean_of_all(
    run_settings: RunSettings,
) -> None:
    memory = Memory(state(1.0, norm=[10.0]))
    assert listed(method(run_settings).personal(memory, "a")) == {
        "w": [1.0],
        "norm": [10.0],
    }


def test_without_normalisation_layers_it_is_fedavg(run_settings: RunSettings) -> None:
    ask = Silos(by_silo(a=2.0, b=4.0), frames={"a": 1, "b": 3})
    plain = FedBN(terms(run_settings))
    after = play(plain, Memory(state(1.0)), ask)
    assert listed(after.theta) == {"w": [3.5]}
    assert listed(plain.personal(after, "a")) == {"w": [3.5]}


def test_a_round_in_which_nobody_answers_changes_nothing(
    run_settings: RunSettings,
) -> None:
    memory = Memory(state(1.0, norm=[2.0]))
    assert play(method(run_settings), memory, Silos(by_silo())) is memory
