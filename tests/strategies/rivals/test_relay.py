"""One model goes round; what it keeps of its former self, by hand."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, kl_divergence

from models.network import SegmentationOutput
from strategies.rivals.method import Ask, SiloAnswer, SiloTask, Step, Terms, Visit
from strategies.rivals.relay import FORMER, FormerSelf, Relay
from strategies.settings import RunSettings

START = {"w": torch.tensor([0.0])}
STEP = {"a": 1.0, "b": 10.0, "c": 100.0}


@pytest.fixture
def terms(run_settings: RunSettings) -> Terms:
    return Terms(run_settings.rival, ("a", "b", "c"), steps=1, seed=0)


def asker(seen: list[tuple[str, float]], absent: str = "") -> Ask:
    """Double what arrives and add the silo's number, so that the order shows."""

    def ask(tasks: Sequence[SiloTask]) -> list[SiloAnswer]:
        (task,) = tasks  # one visit a phase
        seen.append((task.silo, task.weights["w"].item()))
        if task.silo in absent:
            return []
        weights = {"w": 2 * task.weights["w"] + STEP[task.silo]}
        return [SiloAnswer(task.silo, task.owner, weights, 1)]

    return ask


def test_one_model_visits_all_silos_in_turn(terms: Terms) -> None:
    seen: list[tuple[str, float]] = []
    method = Relay(terms)
    memory = method.play(method.begin(START), 1, asker(seen))
    assert seen == [("a", 0), ("b", 1), ("c", 12)]
    assert memory.theta["w"].item() == 2 * 12 + 100
    assert method.personal(memory, "b") is memory.theta
    assert START["w"].item() == 0


def test_the_first_moves_on_every_round_so_that_nobody_is_always_last(
    terms: Terms,
) -> None:
    method = Relay(terms)
    seen: list[tuple[str, float]] = []
    method.play(method.begin(START), 2, asker(seen))
    assert [silo for silo, _ in seen] == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("absent", "expected"), [("b", 2 * 1 + 100), ("a", 2 * 10 + 100), ("abc", 0)]
)
def test_a_silo_that_fails_is_skipped(
    terms: Terms, absent: str, expected: float
) -> None:
    seen: list[tuple[str, float]] = []
    method = Relay(terms)
    memory = method.play(method.begin(START), 1, asker(seen, absent))
    assert [silo for silo, _ in seen] == ["a", "b", "c"]
    assert memory.theta["w"].item() == expected


class Frames:
    """A batch of two frames with two pixels, one of which counts in the first."""

    images = torch.zeros(2, 1, 1, 2)
    masks = torch.zeros(2, 1, 1, 2, dtype=torch.uint8)
    annotated = torch.zeros(2, 1, dtype=torch.bool)  # retention asks for all classes
    valid = torch.tensor([[[[True, False]]], [[[True, True]]]])


def step_of(now: torch.Tensor, then: torch.Tensor, label_loss: float) -> Step:
    empty = torch.zeros(0)
    return Step(
        model=None,  # type: ignore[arg-type] - not looked at
        output=SegmentationOutput(now, empty),
        answers={FORMER: SegmentationOutput(then, empty)},
        batch=Frames(),
        label_loss=torch.tensor(label_loss),
    )


def visit(run_settings: RunSettings, retention: float, temperature: float) -> Visit:
    rival = replace(run_settings.rival, retention=retention, temperature=temperature)
    return Visit(rival, START, {}, "")


def test_retention_mixes_the_former_self_into_the_loss_by_hand(
    run_settings: RunSettings,
) -> None:
    objective = FormerSelf.of(visit(run_settings, 0.25, 2.0))
    assert objective.teachers == {FORMER: START}
    now = torch.tensor([[[[1.0, 5.0]]], [[[0.0, -2.0]]]], requires_grad=True)
    then = torch.tensor([[[[3.0, -5.0]]], [[[0.0, 2.0]]]])
    loss = objective.loss(step_of(now, then, label_loss=8.0))
    divergence = kl_divergence(
        Bernoulli(logits=then / 2), Bernoulli(logits=now.detach() / 2)
    )
    counted = divergence[0, 0, 0, 0] + divergence[1].sum()  # of three pixels
    assert loss.item() == pytest.approx(0.75 * 8 + 0.25 * 4 * counted.item() / 3)
    loss.backward()
    assert now.grad is not None
    # T^2 d KL / d logit = T (sigmoid(now / T) - sigmoid(then / T)), in a mean of three.
    slope = 2 * (torch.sigmoid(torch.tensor(0.5)) - torch.sigmoid(torch.tensor(1.5)))
    assert now.grad[0, 0, 0, 0].item() == pytest.approx(0.25 * slope.item() / 3)
    assert now.grad[0, 0, 0, 1].item() == 0  # a pixel that does not count


def test_without_retention_the_labels_alone_count_and_nobody_is_asked(
    run_settings: RunSettings,
) -> None:
    objective = FormerSelf.of(visit(run_settings, 0.0, 2.0))
    assert objective.teachers == {}
    now = torch.zeros(2, 1, 1, 2)
    step = step_of(now, now, label_loss=8.0)._replace(answers={})
    assert objective.loss(step) is step.label_loss


def test_a_former_self_that_says_the_same_costs_nothing(
    run_settings: RunSettings,
) -> None:
    objective = FormerSelf.of(visit(run_settings, 1.0, 2.0))
    now = torch.tensor([[[[1.0, 5.0]]], [[[0.0, -2.0]]]])
    assert objective.loss(step_of(now, now, 8.0)).item() == pytest.approx(0, abs=1e-6)


def test_of_whole_frames_softmaxes_are_compared(run_settings: RunSettings) -> None:
    objective = FormerSelf.of(visit(run_settings, 1.0, 2.0))
    now, then = torch.tensor([[1.0, 3.0, 0.0]]), torch.tensor([[0.0, 3.0, 1.0]])
    expected = 4 * kl_divergence(
        Categorical(logits=then / 2), Categorical(logits=now / 2)
    )
    found = objective.loss(step_of(now, then, 8.0))
    assert found.item() == pytest.approx(expected.item())
