"""SCAFFOLD: the controls of the silos, and what the centre makes of them."""

import pytest
import torch

from strategies.rivals.method import Memory, SiloTask
from strategies.rivals.scaffold import ControlledSteps, Scaffold
from strategies.settings import RunSettings
from tests.strategies.rivals.toy_federation import (
    Scales,
    Silos,
    by_silo,
    listed,
    play,
    state,
    terms,
    visit,
)


def descend(
    objective: ControlledSteps, model: Scales, target: float, rate: float, steps: int
) -> None:
    """Take steps of plain SGD on 1/2 (w - target)^2."""
    for _ in range(steps):
        model.zero_grad()
        (0.5 * (model.weight - target).square().sum()).backward()
        objective.correct_gradients(model)
        assert model.weight.grad is not None
        model.weight.data -= rate * model.weight.grad


def test_a_step_descends_on_the_gradient_corrected_by_the_controls() -> None:
    # Gradient 2 - 1 = 1, c - c_i = 0.5 - 0.25: the step is 0.5 * 1.25.
    model = Scales(2.0)
    objective = ControlledSteps(
        {"weight": torch.tensor([0.5])}, {"weight": torch.tensor([0.25])}
    )
    descend(objective, model, target=1.0, rate=0.5, steps=1)
    assert model.weight.item() == 2.0 - 0.5 * 1.25


def test_the_new_control_is_the_mean_raw_gradient_of_the_local_steps() -> None:
    # By hand, c - c_i = 0.25, rate 0.5: y = 2, g = 1; y = 1.375, g = 0.375.
    model = Scales(2.0)
    objective = ControlledSteps(
        {"weight": torch.tensor([0.5])}, {"weight": torch.tensor([0.25])}
    )
    descend(objective, model, target=1.0, rate=0.5, steps=2)
    assert model.weight.item() == 1.375 - 0.5 * 0.625
    assert listed(objective.report()["gradient"]) == {"weight": [(1 + 0.375) / 2]}


def test_under_plain_sgd_the_new_control_is_option_ii_of_the_paper() -> None:
    start, rate, steps, control, own = 2.0, 0.125, 3, -0.5, 0.75
    model = Scales(start)
    objective = ControlledSteps(
        {"weight": torch.tensor([control])}, {"weight": torch.tensor([own])}
    )
    descend(objective, model, target=-1.0, rate=rate, steps=steps)
    option_ii = own - control + (start - model.weight.item()) / (steps * rate)
    found = objective.report()["gradient"]["weight"].item()
    assert found == pytest.approx(option_ii, rel=1e-6)


def test_without_controls_the_gradients_stay_as_they_are() -> None:
    model = Scales(3.0)
    descend(ControlledSteps({}, {}), model, target=1.0, rate=1.0, steps=1)
    assert model.weight.item() == 1.0


def test_a_silo_that_was_absent_so_far_has_a_control_of_zero(
    run_settings: RunSettings,
) -> None:
    aids = {"control": {"weight": torch.tensor([0.5])}}
    model = Scales(2.0)
    objective = ControlledSteps.of(visit(run_settings, {}, aids))
    descend(objective, model, target=2.0, rate=1.0, steps=1)
    assert model.weight.item() == 1.5


def test_the_received_controls_are_not_changed() -> None:
    control, own = torch.tensor([0.5]), torch.tensor([0.25])
    objective = ControlledSteps({"weight": control}, {"weight": own})
    descend(objective, Scales(2.0), target=1.0, rate=0.5, steps=2)
    assert (control.item(), own.item()) == (0.5, 0.25)


def test_a_weight_that_no_loss_reaches_reports_zero_and_stands_still() -> None:
    model = Scales(2.0)
    objective = ControlledSteps({"weight": torch.tensor([0.5])}, {})
    objective.correct_gradients(model)
    assert model.weight.grad is None
    assert listed(objective.report()["gradient"]) == {"weight": [0.0]}


def test_a_frozen_weight_has_no_control() -> None:
    model = Scales(2.0)
    model.weight.requires_grad_(requires_grad=False)
    objective = ControlledSteps({}, {})
    objective.correct_gradients(model)
    assert objective.report() == {"gradient": {}}


def silos(a: float, b: float | None = None, /, **gradients: float) -> Silos:
    answers = {"a": a} if b is None else {"a": a, "b": b}
    return Silos(
        by_silo(**answers),
        aids={silo: {"gradient": state(g)} for silo, g in gradients.items()},
    )


def test_the_first_round_sends_no_controls(run_settings: RunSettings) -> None:
    ask = silos(1.0, 3.0, a=1.0, b=3.0)
    play(Scaffold(terms(run_settings)), Memory(state(0.0)), ask)
    assert [task.aids for task in ask.asked[0]] == [{}, {}]


def test_the_model_moves_by_its_rate_along_the_mean_of_the_silos(
    run_settings: RunSettings,
) -> None:
    # From 1 to the mean 3, half of the way; frames do not count.
    ask = silos(2.0, 4.0, a=0.0, b=0.0)
    ask.frames = {"a": 1, "b": 99}
    method = Scaffold(terms(run_settings, control_rate=0.5))
    assert listed(play(method, Memory(state(1.0)), ask).theta) == {"w": [2.0]}
    method = Scaffold(terms(run_settings, control_rate=2.0))
    assert listed(play(method, Memory(state(1.0)), ask).theta) == {"w": [5.0]}


def test_at_rate_one_the_model_is_the_mean_to_the_bit(
    run_settings: RunSettings,
) -> None:
    ask = silos(0.1, 0.1, a=0.0, b=0.0)
    method = Scaffold(terms(run_settings, control_rate=1.0))
    after = play(method, Memory(state(1e8)), ask)
    assert torch.equal(after.theta["w"], torch.tensor([0.1]))


def test_the_centres_control_moves_by_the_mean_change_over_all_silos(
    run_settings: RunSettings,
) -> None:
    memory = Memory(
        state(0.0),
        {"control": state(2.0)},
        {"control": {"a": state(1.0), "b": state(3.0)}},
    )
    # a: 1 -> 5, b is absent: 2 + (5 - 1) / 2.
    ask = silos(1.0, a=5.0)
    after = play(Scaffold(terms(run_settings)), memory, ask)
    assert listed(after.shared["control"]) == {"w": [4.0]}
    assert listed(after.own["control"]["a"]) == {"w": [5.0]}
    assert listed(after.own["control"]["b"]) == {"w": [3.0]}
    sent = ask.tasks()
    assert listed(sent["a"].aids["own control"]) == {"w": [1.0]}
    assert listed(sent["b"].aids["control"]) == {"w": [2.0]}


def test_the_first_control_divides_by_all_silos_too(run_settings: RunSettings) -> None:
    ask = silos(1.0, a=5.0)
    after = play(Scaffold(terms(run_settings)), Memory(state(0.0)), ask)
    assert listed(after.shared["control"]) == {"w": [2.5]}
    assert after.own["control"].keys() == {"a"}


def test_running_statistics_are_averaged_whatever_the_rate(
    run_settings: RunSettings,
) -> None:
    def train(task: SiloTask) -> dict[str, torch.Tensor]:
        return state(2.0, running_var=[1.0])

    ask = Silos(train, aids={silo: {"gradient": state(0.0)} for silo in "ab"})
    memory = Memory(state(0.0, running_var=[9.0]))
    method = Scaffold(terms(run_settings, control_rate=4.0))
    after = play(method, memory, ask)
    assert listed(after.theta) == {"w": [8.0], "running_var": [1.0]}


def test_a_round_in_which_nobody_answers_changes_nothing(
    run_settings: RunSettings,
) -> None:
    memory = Memory(state(1.0), {"control": state(2.0)})
    ask = Silos(by_silo())
    assert play(Scaffold(terms(run_settings)), memory, ask) is memory


def test_a_silo_that_sends_no_gradient_is_named(run_settings: RunSettings) -> None:
    with pytest.raises(ValueError, match="mean gradient of silo 'b'"):
        play(Scaffold(terms(run_settings)), Memory(state(0.0)), silos(1.0, 2.0, a=1.0))
