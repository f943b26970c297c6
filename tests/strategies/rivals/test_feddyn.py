"""FedDyn: linear terms that follow the silos, and the centre's correction."""

import pytest
import torch

from strategies.accumulation import State
from strategies.rivals.feddyn import DynamicRegulariser, FedDyn
from strategies.rivals.method import Memory, SiloTask
from strategies.settings import RunSettings
from tests.strategies.rivals.toy_federation import (
    Scales,
    Silos,
    by_silo,
    listed,
    play,
    state,
    step,
    terms,
    visit,
)

RECEIVED = {"weight": torch.tensor([1.0, 1.0])}
GRADIENT = {"weight": torch.tensor([4.0, -2.0])}


def test_the_loss_has_a_linear_term_and_a_pull() -> None:
    # 10 - (4 * 3 - 2 * 2) + 0.5 / 2 * (2^2 + 1^2)
    objective = DynamicRegulariser(RECEIVED, GRADIENT, alpha=0.5)
    found = objective.loss(step(Scales(3.0, 2.0), label_loss=10.0))
    assert found.item() == 10 - 8 + 0.25 * 5


def test_its_gradient_is_the_pull_less_the_linear_term() -> None:
    model = Scales(3.0, 2.0)
    DynamicRegulariser(RECEIVED, GRADIENT, alpha=0.5).loss(step(model)).backward()
    assert model.weight.grad is not None
    # alpha (theta - theta_t) - g_i
    assert model.weight.grad.tolist() == [0.5 * 2 - 4, 0.5 * 1 + 2]


def test_before_the_first_round_the_linear_term_is_zero(
    run_settings: RunSettings,
) -> None:
    objective = DynamicRegulariser.of(visit(run_settings, RECEIVED, dyn_alpha=2.0))
    assert objective.loss(step(Scales(2.0, 1.0), label_loss=1.0)).item() == 1 + 1.0


def test_a_frozen_weight_has_no_term() -> None:
    model = Scales(3.0, 2.0)
    model.weight.requires_grad_(requires_grad=False)
    objective = DynamicRegulariser({}, GRADIENT, alpha=0.5)
    assert objective.loss(step(model, label_loss=7.0)).item() == 7.0


def test_a_round_by_hand(run_settings: RunSettings) -> None:
    # alpha 1/2, theta_t = 1, g_a = 1, h = 1; a moves by 2, b by 4.
    memory = Memory(state(1.0), {"h": state(1.0)}, {"gradient": {"a": state(1.0)}})
    ask = Silos(by_silo(a=3.0, b=5.0), frames={"a": 1, "b": 99})
    after = play(FedDyn(terms(run_settings, dyn_alpha=0.5)), memory, ask)
    assert listed(after.own["gradient"]["a"]) == {"w": [1 - 0.5 * 2]}
    assert listed(after.own["gradient"]["b"]) == {"w": [0 - 0.5 * 4]}
    h = 1 - 0.5 / 2 * (2 + 4)
    assert listed(after.shared["h"]) == {"w": [h]}
    assert listed(after.theta) == {"w": [(3 + 5) / 2 - h / 0.5]}
    assert listed(ask.tasks()["a"].aids["gradient"]) == {"w": [1.0]}
    assert ask.tasks()["b"].aids == {}


def test_an_absent_silo_keeps_its_gradient_and_counts_in_h(
    run_settings: RunSettings,
) -> None:
    own = {"a": state(1.0), "b": state(-3.0)}
    memory = Memory(state(1.0), {"h": state(1.0)}, {"gradient": own})
    after = play(
        FedDyn(terms(run_settings, dyn_alpha=0.5)), memory, Silos(by_silo(a=3.0))
    )
    assert listed(after.own["gradient"]["b"]) == {"w": [-3.0]}
    h = 1 - 0.5 / 2 * 2  # of two silos
    assert listed(after.shared["h"]) == {"w": [h]}
    assert listed(after.theta) == {"w": [3 - h / 0.5]}  # of one that is present


def test_where_all_losses_together_are_least_the_model_stays(
    run_settings: RunSettings,
) -> None:
    # Losses 1/2 (w + 1)^2 and 1/2 (w - 3)^2: the sum is least at 1, where the silos'
    # gradients are 2 and -2. The exact minimum of a silo's objective is theta itself.
    memory = Memory(
        state(1.0),
        {"h": state(0.0)},
        {"gradient": {"a": state(2.0), "b": state(-2.0)}},
    )
    target = {"a": -1.0, "b": 3.0}

    def minimum(task: SiloTask) -> State:
        # 0 = w - target - g + alpha (w - theta)
        own = task.aids["gradient"]["w"].item()
        theta = task.weights["w"].item()
        return state((target[task.silo] + own + 0.5 * theta) / 1.5)

    after = play(FedDyn(terms(run_settings, dyn_alpha=0.5)), memory, Silos(minimum))
    assert after.theta["w"].item() == pytest.approx(1.0)
    assert after.own["gradient"]["a"]["w"].item() == pytest.approx(2.0)


def test_exact_silos_reach_the_minimum_of_the_sum(run_settings: RunSettings) -> None:
    # 1/2 (w + 1)^2 and 3/2 (w - 3)^2: FedAvg of exact minima would stay at 1, the sum
    # is least where w + 1 + 3 (w - 3) = 0, at 2.
    method = FedDyn(terms(run_settings, dyn_alpha=0.5))
    curve, target = {"a": 1.0, "b": 3.0}, {"a": -1.0, "b": 3.0}

    def minimum(task: SiloTask) -> State:
        own = task.aids["gradient"]["w"].item() if task.aids else 0.0
        pull = 0.5 * task.weights["w"].item()
        bend = curve[task.silo]
        return state((bend * target[task.silo] + own + pull) / (bend + 0.5))

    memory = Memory(state(0.0))
    for number in range(1, 80):
        memory = play(method, memory, Silos(minimum), number)
    assert memory.theta["w"].item() == pytest.approx(2.0, abs=1e-3)


def test_running_statistics_are_averaged_and_never_extrapolated(
    run_settings: RunSettings,
) -> None:
    name = "norm.running_var"

    def train(task: SiloTask) -> State:
        return state(2.0, **{name: [1.0]})

    memory = Memory(state(0.0, **{name: [9.0]}))
    after = play(FedDyn(terms(run_settings)), memory, Silos(train))
    assert after.theta[name].item() == 1.0
    assert after.shared["h"].keys() == {"w"}
    assert after.own["gradient"]["a"].keys() == {"w"}


def test_a_round_in_which_nobody_answers_changes_nothing(
    run_settings: RunSettings,
) -> None:
    memory = Memory(state(1.0), {"h": state(2.0)})
    assert play(FedDyn(terms(run_settings)), memory, Silos(by_silo())) is memory
