"""Ditto: one global model that knows nothing of the personal ones."""

import torch

from strategies.accumulation import State
from strategies.rivals.ditto import Ditto, personal_steps
from strategies.rivals.method import Memory, Objective, SiloTask
from strategies.settings import RunSettings
from tests.strategies.rivals.toy_federation import (
    Scales,
    Silos,
    listed,
    play,
    state,
    step,
    terms,
    visit,
)


def train(task: SiloTask) -> State:
    """Silo a adds 1 and b 3 to the global model; to personal ones 10 and 30."""
    gain = {"a": 1.0, "b": 3.0}[task.silo] * (10 if task.owner else 1)
    return {"w": task.weights["w"] + gain}


def test_the_global_model_is_fedavg_and_the_personal_ones_are_the_silos_own(
    run_settings: RunSettings,
) -> None:
    memory = Memory(state(1.0), own={"personal": {"a": state(5.0), "b": state(7.0)}})
    ask = Silos(train, frames={"a": 1, "b": 3})
    method = Ditto(terms(run_settings))
    after = play(method, memory, ask)
    assert listed(after.theta) == {"w": [(1 * 2 + 3 * 4) / 4]}
    assert listed(method.personal(after, "a")) == {"w": [15.0]}
    assert listed(method.personal(after, "b")) == {"w": [37.0]}


def test_personal_models_are_anchored_at_the_global_one_of_the_rounds_start(
    run_settings: RunSettings,
) -> None:
    memory = Memory(state(1.0), own={"personal": {"a": state(5.0)}})
    ask = Silos(train)
    play(Ditto(terms(run_settings)), memory, ask)
    globally, personally = ask.tasks(0), ask.tasks(1)
    assert all(not task.aids and task.owner == "" for task in globally.values())
    assert {task.owner for task in personally.values()} == {"a", "b"}
    assert all(listed(t.aids["anchor"]) == {"w": [1.0]} for t in personally.values())
    assert listed(personally["a"].weights) == {"w": [5.0]}
    assert listed(personally["b"].weights) == {"w": [1.0]}  # has none yet


def test_a_silo_without_a_personal_model_uses_the_global_one(
    run_settings: RunSettings,
) -> None:
    memory = Memory(state(2.0))
    assert Ditto(terms(run_settings)).personal(memory, "a") is memory.theta


def test_a_missing_silos_personal_model_stays(run_settings: RunSettings) -> None:
    memory = Memory(state(1.0), own={"personal": {"a": state(5.0), "b": state(7.0)}})
    ask = Silos(lambda task: None if task.silo == "b" else train(task))
    after = play(Ditto(terms(run_settings)), memory, ask)
    assert listed(after.theta) == {"w": [2.0]}
    assert listed(after.own["personal"]["a"]) == {"w": [15.0]}
    assert listed(after.own["personal"]["b"]) == {"w": [7.0]}


def test_a_phase_that_nobody_answers_leaves_its_models(
    run_settings: RunSettings,
) -> None:
    memory = Memory(state(1.0), own={"personal": {"a": state(5.0)}})
    method = Ditto(terms(run_settings))
    ask = Silos(lambda task: train(task) if task.owner else None)
    after = play(method, memory, ask)
    assert listed(after.theta) == {"w": [1.0]}
    assert listed(after.own["personal"]["a"]) == {"w": [15.0]}
    assert play(method, memory, Silos(lambda task: None)) is memory


def test_a_personal_step_is_pulled_towards_the_anchor_and_not_to_its_start(
    run_settings: RunSettings,
) -> None:
    received = {"weight": torch.tensor([3.0])}
    aids = {"anchor": {"weight": torch.tensor([1.0])}}
    told = visit(run_settings, received, aids, owner="a", proximal_mu=0.5)
    # 10 + 0.5 / 2 * (4 - 1)^2
    found = personal_steps(told).loss(step(Scales(4.0), label_loss=10.0))
    assert found.item() == 10 + 0.25 * 9


def test_the_global_model_trains_on_labels_alone(run_settings: RunSettings) -> None:
    told = visit(run_settings, {"weight": torch.tensor([3.0])}, proximal_mu=0.5)
    objective = personal_steps(told)
    assert type(objective) is Objective
    assert objective.loss(step(Scales(4.0), label_loss=10.0)).item() == 10.0


def test_without_strength_a_personal_model_is_trained_as_if_alone(
    run_settings: RunSettings,
) -> None:
    aids = {"anchor": {"weight": torch.tensor([1.0])}}
    objective = personal_steps(visit(run_settings, {}, aids, "a", proximal_mu=0.0))
    model = Scales(4.0)
    found = objective.loss(step(model, label_loss=10.0))
    found.backward()
    assert found.item() == 10.0
    assert model.weight.grad is not None
    assert model.weight.grad.item() == 0.0
