"""Flower's own strategies on hospitals that do arithmetic: one number, two rounds."""

import math
from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
from flwr.app import ArrayRecord, Context, Message
from flwr.clientapp import ClientApp
from torch import Tensor, nn

from models.network import SegmentationNetwork, SegmentationOutput
from server.exchange import unpacked
from strategies import messages
from strategies.accumulation import State
from strategies.federation_state import FederationState
from strategies.flower_rules import make_flower_strategy
from strategies.replies import pack_reply
from strategies.rival_settings import RivalSettings
from strategies.rivals.fedprox import ProximalTerm
from strategies.rivals.method import Step, Visit
from strategies.rivals.registry import FLOWERS
from strategies.settings import RunSettings, SettingsError
from tests.federation import InProcessGrid

FRAMES = (1, 3)
STATISTIC = "norm.running_var"


class Number(SegmentationNetwork):
    """A network of one weight."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(value.clone())

    def forward_with_features(self, images: Tensor) -> SegmentationOutput:
        raise NotImplementedError


class OpenGrid(InProcessGrid):
    """Hands Flower's strategies arrays that they can average, as a run's grid does."""

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return [unpacked(reply) for reply in super().pull_messages(message_ids)]


def local_steps(weights: State, target: float, settings: RivalSettings) -> State:
    """Take two steps of rate 1/2 on (w - target)^2 / 2 beside FedProx's term."""
    model = Number(weights["w"])
    term = ProximalTerm.of(Visit(settings, weights, {}, ""))
    for _ in range(2):
        label_loss = (model.w - target).square().sum() / 2
        loss = term.loss(Step(model, None, {}, None, label_loss))  # type: ignore[arg-type]
        (slope,) = torch.autograd.grad(loss, model.w)
        with torch.no_grad():
            model.w -= 0.5 * slope
    return {"w": model.w.detach()}


def make_app(
    settings: RivalSettings, rounds: list[int], *, proximal: bool
) -> ClientApp:
    """Hospital 0 adds 1, hospital 1 adds 3, or both go to 8 and 16 with FedProx."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        place = int(context.node_config["partition-id"])
        job = messages.unpack_job(message)
        rounds.append(job.round_number)
        assert job.weights is not None
        weights = dict(job.weights)
        if proximal:
            state = local_steps(weights, (8.0, 16.0)[place], settings)
        else:
            state = {"w": weights["w"] + (1.0, 3.0)[place]}
        if STATISTIC in weights:  # shrinks fast
            state[STATISTIC] = weights[STATISTIC] * 0.1
        metrics = {messages.NUM_EXAMPLES: FRAMES[place]}
        content = pack_reply(f"site-{place}", metrics, state=state)
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        metrics = {messages.NUM_EXAMPLES: 1}
        return Message(pack_reply("site", metrics), reply_to=message)

    return app


def play(
    name: str,
    settings: RivalSettings,
    rounds: int = 2,
    *,
    start: State | None = None,
    state: FederationState | None = None,
) -> tuple[dict[int, State], list[int]]:
    """Return theta by round, and the rounds that hospitals were asked for."""
    asked: list[int] = []
    app = make_app(settings, asked, proximal=name == "fedprox")
    strategy = make_flower_strategy(
        name, settings, {"site-0": 1000, "site-1": 999}, state
    )
    thetas: dict[int, State] = {}

    def note(number: int, theta: ArrayRecord) -> None:
        thetas[number] = messages.to_state(theta)

    strategy.start(
        OpenGrid(app, {}, 2),
        messages.from_state(start or {"w": torch.zeros(1)}),
        num_rounds=rounds,
        evaluate_fn=note,
    )
    return thetas, asked


def numbers(thetas: dict[int, State]) -> dict[int, float]:
    return {number: theta["w"].item() for number, theta in thetas.items()}


@pytest.fixture
def rival(run_settings: RunSettings) -> RivalSettings:
    return run_settings.rival


def test_fedavg_goes_to_the_mean_by_frames(rival: RivalSettings) -> None:
    thetas, asked = play("fedavg", rival)
    assert numbers(thetas) == {0: 0, 1: 2.5, 2: 5}  # (1 * 1 + 3 * 3) / 4
    assert asked == [1, 1, 2, 2]


def test_fedprox_pulls_every_silo_back_to_where_it_began(rival: RivalSettings) -> None:
    thetas, _ = play("fedprox", replace(rival, proximal_mu=0.5))
    # First round, from 0: the first step goes half the way to the target t, where the
    # slopes are -t/2 of the labels and mu t/2 = t/4 of the term: t/2 + t/8.
    first = (1 * 8 * 5 / 8 + 3 * 16 * 5 / 8) / 4
    # Second, from 8.75: the same share of what is left to the targets.
    second = (1 * (8 - first) * 5 / 8 + 3 * (16 - first) * 5 / 8) / 4
    assert numbers(thetas) == {0: 0, 1: 8.75, 2: first + second}
    free, _ = play("fedprox", replace(rival, proximal_mu=0.0), 1)
    assert numbers(free)[1] == (1 * 8 + 3 * 16) * 0.75 / 4


def test_fedavgm_keeps_half_of_its_last_step(rival: RivalSettings) -> None:
    settings = replace(rival, server_learning_rate=0.8, server_momentum=0.5)
    thetas, _ = play("fedavgm", settings)
    first = 0.8 * 2.5
    second = first + 0.8 * (0.5 * 2.5 + 2.5)
    assert numbers(thetas) == pytest.approx({0: 0, 1: first, 2: second})


def test_fedadam_divides_by_the_root_of_its_second_moment(rival: RivalSettings) -> None:
    settings = replace(
        rival,
        server_learning_rate=0.1,
        server_momentum=0.5,
        server_second_moment=0.75,
        server_tau=0.5,
    )
    thetas, _ = play("fedadam", settings)
    # Flower corrects for the bias of the moments as Adam does, with t + 1 in round t;
    # Reddi et al. (alg. 2) leave the correction out.
    m, v = 0.5 * 2.5, 0.25 * 2.5**2
    rate = 0.1 * math.sqrt(1 - 0.75**2) / (1 - 0.5**2)
    first = rate * m / (math.sqrt(v) + 0.5)
    m, v = 0.5 * m + 0.5 * 2.5, 0.75 * v + 0.25 * 2.5**2
    rate = 0.1 * math.sqrt(1 - 0.75**3) / (1 - 0.5**3)
    second = first + rate * m / (math.sqrt(v) + 0.5)
    assert numbers(thetas) == pytest.approx({0: 0, 1: first, 2: second}, rel=1e-5)


@pytest.mark.parametrize("name", FLOWERS)
def test_running_statistics_are_averaged_and_types_stay(
    rival: RivalSettings, name: str
) -> None:
    settings = replace(rival, server_learning_rate=1.0, server_momentum=0.9)
    start = {"w": torch.zeros(1), STATISTIC: torch.ones(1)}
    thetas, _ = play(name, settings, 3, start=start)
    assert {tensor.dtype for theta in thetas.values() for tensor in theta.values()} == {
        torch.float32
    }
    found = [theta[STATISTIC].item() for theta in thetas.values()]
    assert found == pytest.approx([1, 0.1, 0.01, 0.001])


@pytest.mark.parametrize("name", ["fedavg", "fedprox"])
def test_a_run_without_moments_goes_on_where_it_ended(
    rival: RivalSettings, name: str
) -> None:
    whole, _ = play(name, rival, 3)
    state = FederationState(1, whole[1], {}, seed=0, strategy=name)
    resumed, asked = play(name, rival, 3, state=state)
    assert asked == [2, 2, 3, 3]
    assert numbers(resumed) == {number: numbers(whole)[number] for number in (1, 2, 3)}


@pytest.mark.parametrize("name", ["fedavgm", "fedadam"])
def test_a_run_with_moments_cannot_be_gone_on_from(
    rival: RivalSettings, name: str
) -> None:
    state = FederationState(1, {"w": torch.zeros(1)}, {}, seed=0, strategy=name)
    with pytest.raises(SettingsError, match=f"{name} keeps its moments.*resume empty"):
        make_flower_strategy(name, rival, {"site-0": 1000}, state)
