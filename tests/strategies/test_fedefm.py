"""FedEFM's choreography on hospitals that do arithmetic instead of training.

A model is one number. Training abroad adds the host's step, distilling moves the
student by its own step and to the mean of its teachers, so every weight can be
followed by hand.
"""

import dataclasses

import pytest
import torch
from flwr.app import ArrayRecord, Context, Message
from flwr.clientapp import ClientApp

from strategies import messages
from strategies.fedefm import FedEFM
from strategies.settings import FedEFMSettings, RunSettings
from tests.federation import Fault, InProcessGrid

NAMES = ("alpha", "beta", "gamma")
STEP = {"alpha": 1.0, "beta": 10.0, "gamma": 100.0}


def make_app(calls: list[tuple[str, str, str, float]]) -> ClientApp:
    app = ClientApp()

    def answer(message: Message, context: Context, value: float) -> Message:
        site = NAMES[int(context.node_config["partition-id"])]
        job = messages.unpack_job(message)
        content = messages.pack_reply(
            site, {}, state={"w": torch.tensor([value])}, owner=job.owner
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

    @app.train("distil")
    def distil(message: Message, context: Context) -> Message:
        site, job, value = read(message, context)
        taught = [teacher["w"].item() for teacher in job.teachers.values()]
        calls.append(("teachers", site, ",".join(job.teachers), sum(taught)))
        mean = sum(taught) / len(taught) if taught else value
        return answer(message, context, (value + mean) / 2)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        site, _, _ = read(message, context)
        return Message(messages.pack_reply(site, {}), reply_to=message)

    return app


@dataclasses.dataclass
class Played:
    calls: list[tuple[str, str, str, float]]
    thetas: dict[int, float]
    strategy: FedEFM

    def of(self, kind: str) -> list[tuple[str, str, float]]:
        return [call[1:] for call in self.calls if call[0] == kind]


def play(
    settings: FedEFMSettings, rounds: int, faults: dict[int, Fault] | None = None
) -> Played:
    calls: list[tuple[str, str, str, float]] = []
    grid = InProcessGrid(make_app(calls), {}, 3, faults=faults)
    roster = {name: 1000 - index for index, name in enumerate(NAMES)}
    strategy = FedEFM(settings, roster)
    thetas: dict[int, float] = {}

    def note(round_number: int, theta: ArrayRecord) -> None:
        thetas[round_number] = messages.to_state(theta)["w"].item()

    start = messages.from_state({"w": torch.tensor([0.0])})
    strategy.start(grid, start, num_rounds=rounds, evaluate_fn=note)
    return Played(calls, thetas, strategy)


@pytest.fixture
def fedefm(run_settings: RunSettings) -> FedEFMSettings:
    return run_settings.fedefm


def test_round_zero_is_local_and_ends_in_the_mean(fedefm: FedEFMSettings) -> None:
    played = play(fedefm, 0)
    assert played.of(messages.TRAIN) == [(name, "", 0.0) for name in NAMES]
    assert played.thetas == {0: pytest.approx((1 + 10 + 100) / 3)}  # 37


def test_models_travel_round_the_ring_and_return_as_teachers(
    fedefm: FedEFMSettings,
) -> None:
    played = play(fedefm, 1)
    # All copies come from theta(1) = 37, before anybody has learnt anything new.
    assert sorted(played.of(messages.OVERSEAS)) == [
        ("alpha", "beta", 37.0),
        ("beta", "gamma", 37.0),
        ("gamma", "alpha", 37.0),
    ]
    assert sorted(played.of("teachers")) == [
        ("alpha", "gamma", 137.0),
        ("beta", "alpha", 38.0),
        ("gamma", "beta", 47.0),
    ]
    students = [(37 + 137) / 2, (37 + 38) / 2, (37 + 47) / 2]
    assert played.thetas[1] == pytest.approx(sum(students) / 3)


def test_everyone_measures_the_accumulated_model(fedefm: FedEFMSettings) -> None:
    played = play(fedefm, 1)
    measured = [value for _, _, value in played.of(messages.EVALUATE)]
    assert measured == [played.thetas[0]] * 3 + [pytest.approx(played.thetas[1])] * 3


def test_without_feedback_every_silo_goes_on_from_its_own_model(
    fedefm: FedEFMSettings,
) -> None:
    played = play(dataclasses.replace(fedefm, feedback="none"), 1)
    assert sorted(played.of(messages.OVERSEAS)) == [
        ("alpha", "beta", 10.0),
        ("beta", "gamma", 100.0),
        ("gamma", "alpha", 1.0),
    ]
    # alpha: 1 and its copy from gamma 1 + 100; beta: 10, 10 + 1; gamma: 100, 100 + 10.
    students = [(1 + 101) / 2, (10 + 11) / 2, (100 + 110) / 2]
    assert played.thetas[1] == pytest.approx(sum(students) / 3)


def test_in_the_complete_graph_everyone_has_two_teachers(
    fedefm: FedEFMSettings,
) -> None:
    played = play(dataclasses.replace(fedefm, topology="complete"), 1)
    assert sorted(played.of("teachers")) == [
        ("alpha", "beta,gamma", (37 + 10) + (37 + 100)),
        ("beta", "alpha,gamma", (37 + 1) + (37 + 100)),
        ("gamma", "alpha,beta", (37 + 1) + (37 + 10)),
    ]


def test_a_silo_that_fails_is_left_out_and_its_student_has_no_teacher(
    fedefm: FedEFMSettings,
) -> None:
    def fault(message: Message) -> Message:
        return messages.error_reply(message, "gone")

    played = play(fedefm, 1, faults={2: fault})  # gamma
    assert played.thetas[0] == pytest.approx((1 + 10) / 2)
    theta = 5.5
    assert sorted(played.of("teachers")) == [
        ("alpha", "", 0.0),
        ("beta", "alpha", theta + 1),
    ]
    assert played.thetas[1] == pytest.approx((theta + (theta + theta + 1) / 2) / 2)


def test_a_round_in_which_nobody_answers_keeps_theta(fedefm: FedEFMSettings) -> None:
    def fault(message: Message) -> Message:
        return messages.error_reply(message, "gone")

    played = play(fedefm, 1, faults={0: fault, 1: fault, 2: fault})
    assert played.thetas == {0: 0.0, 1: 0.0}


def test_an_empty_roster_is_refused(fedefm: FedEFMSettings) -> None:
    with pytest.raises(ValueError, match="at least one hospital"):
        FedEFM(fedefm, {})
