"""FedEFM's choreography on hospitals that do arithmetic instead of training.

The hospitals are those of `arithmetic_hospitals.py`.
"""

import dataclasses

import pytest
import torch
from flwr.app import Message

from strategies import messages
from strategies.fedefm import FedEFM
from strategies.fedefm_settings import FedEFMSettings
from strategies.federation_state import FederationState
from strategies.replies import error_reply
from strategies.settings import RunSettings
from tests.federation import WORKS
from tests.strategies.arithmetic_hospitals import NAMES, play


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
        return error_reply(message, "gone")

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
        return error_reply(message, "gone")

    played = play(fedefm, 1, faults={0: fault, 1: fault, 2: fault})
    assert played.thetas == {0: 0.0, 1: 0.0}


def test_an_empty_roster_is_refused(fedefm: FedEFMSettings) -> None:
    with pytest.raises(ValueError, match="at least one hospital"):
        FedEFM(fedefm, {})


def test_a_host_trains_one_copy_for_all_visitors_that_start_from_theta(
    fedefm: FedEFMSettings,
) -> None:
    played = play(dataclasses.replace(fedefm, topology="complete"), 1)
    assert sorted(played.of(messages.OVERSEAS)) == [
        ("alpha", "", 37.0),
        ("beta", "", 37.0),
        ("gamma", "", 37.0),
    ]
    apart = dataclasses.replace(fedefm, topology="complete", feedback="none")
    assert len(play(apart, 1).of(messages.OVERSEAS)) == 6


def test_without_overseas_the_neighbours_own_models_teach(
    fedefm: FedEFMSettings,
) -> None:
    played = play(dataclasses.replace(fedefm, teachers="neighbour", feedback="none"), 1)
    assert played.of(messages.OVERSEAS) == []
    assert sorted(played.of("teachers")) == [
        ("alpha", "gamma", 100.0),
        ("beta", "alpha", 1.0),
        ("gamma", "beta", 10.0),
    ]


def test_the_accumulated_model_can_be_the_only_teacher(fedefm: FedEFMSettings) -> None:
    played = play(dataclasses.replace(fedefm, teachers="global", feedback="none"), 1)
    assert sorted(played.of("teachers")) == [(name, "global", 37.0) for name in NAMES]


def test_without_teachers_silos_train_on_their_labels(fedefm: FedEFMSettings) -> None:
    played = play(dataclasses.replace(fedefm, teachers="none"), 1)
    assert played.of("teachers") == played.of(messages.DISTIL) == []
    assert played.thetas[1] == pytest.approx(37 + 37)  # FedAvg


def test_taught_overseas_by_its_former_self_a_silo_trains_on_labels_at_home(
    fedefm: FedEFMSettings,
) -> None:
    settings = dataclasses.replace(
        fedefm, teach_on="host", accumulate="students+experts"
    )
    played = play(settings, 1)
    assert len(played.of(messages.OVERSEAS)) == 3
    assert played.of(messages.DISTIL) == []
    # Students 38, 47, 137; experts came home as 137, 38, 47.
    assert played.thetas[1] == pytest.approx((38 + 47 + 137) * 2 / 6)


def test_all_silos_teach_the_accumulated_model_on_proxies_each_site_in_turn(
    fedefm: FedEFMSettings,
) -> None:
    played = play(dataclasses.replace(fedefm, teach_on="proxy"), 2)
    assert played.of(messages.OVERSEAS) == []
    first, second = played.of(messages.PROXY)
    assert first == ("alpha", "", pytest.approx(74.0))
    assert second[0] == "beta"
    assert played.of("teachers")[0] == ("alpha", "alpha,beta,gamma", 38 + 47 + 137)
    assert played.thetas[1] == pytest.approx(74 + 1000)


def test_a_silo_that_was_absent_does_not_teach_on_proxies(
    fedefm: FedEFMSettings,
) -> None:
    def fault(message: Message) -> Message | str:
        is_training = message.metadata.message_type == messages.TRAIN
        is_lost = is_training and messages.unpack_round(message) == 1
        return error_reply(message, "gone") if is_lost else WORKS

    played = play(dataclasses.replace(fedefm, teach_on="proxy"), 2, faults={2: fault})
    taught = [names for _, names, _ in played.of("teachers")]
    assert taught == ["alpha,beta", "alpha,beta,gamma"]


def test_experts_can_be_accumulated_beside_students(fedefm: FedEFMSettings) -> None:
    played = play(dataclasses.replace(fedefm, accumulate="students+experts"), 1)
    students = [(37 + 137) / 2, (37 + 38) / 2, (37 + 47) / 2]
    assert played.thetas[1] == pytest.approx((sum(students) + 137 + 38 + 47) / 6)


def test_common_scores_come_with_prototypes_of_the_hosts_and_theta(
    fedefm: FedEFMSettings,
) -> None:
    played = play(dataclasses.replace(fedefm, score="common", prototypes=2), 1)
    assert [value for _, _, value in played.of(messages.PROTOTYPES)] == [37.0] * 3
    assert sorted(played.of("tokens")) == [
        ("alpha", "alpha", 38.0),  # its own, for the diagonal
        ("alpha", "gamma", 137.0),
        ("beta", "alpha", 38.0),
        ("beta", "beta", 47.0),
        ("gamma", "beta", 47.0),
        ("gamma", "gamma", 137.0),
    ]
    assert played.of("common") == [(name, "", 37.0) for name in NAMES]


def test_gossip_mixes_a_silo_with_its_neighbours_only(fedefm: FedEFMSettings) -> None:
    settings = dataclasses.replace(fedefm, feedback="neighbours", teachers="none")
    played = play(settings, 1)
    started = sorted(value for _, _, value in played.of(messages.TRAIN)[3:])
    assert started == sorted([(1 + 100) / 2, (1 + 10) / 2, (10 + 100) / 2])


def test_feedback_has_a_share_and_a_period(fedefm: FedEFMSettings) -> None:
    half = dataclasses.replace(fedefm, feedback_share=0.5, teachers="none")
    started = [value for _, _, value in play(half, 1).of(messages.TRAIN)[3:]]
    assert started == [(1 + 37) / 2, (10 + 37) / 2, (100 + 37) / 2]
    rare = dataclasses.replace(fedefm, feedback_period=2, teachers="none")
    started = [value for _, _, value in play(rare, 3).of(messages.TRAIN)]
    # Fed back after the warm-up and after round 2, not after round 1.
    assert started[3:6] == [37.0] * 3
    assert started[6:9] == [38.0, 47.0, 137.0]
    assert started[9:12] == [pytest.approx(37 + 74)] * 3


def test_a_teacher_that_did_not_come_back_is_named(
    fedefm: FedEFMSettings, caplog: pytest.LogCaptureFixture
) -> None:
    def fault(message: Message) -> Message | str:
        is_overseas = message.metadata.message_type == messages.OVERSEAS
        return error_reply(message, "gone") if is_overseas else WORKS

    with caplog.at_level("WARNING"):
        played = play(fedefm, 1, faults={2: fault})  # gamma teaches alpha
    assert "alpha goes on without its teacher gamma" in caplog.text
    assert ("alpha", "", 0.0) in played.of("teachers")


@pytest.mark.parametrize("feedback", ["mean", "neighbours", "none"])
def test_a_federation_that_goes_on_is_the_one_that_never_stopped(
    feedback: str, fedefm: FedEFMSettings
) -> None:
    settings = dataclasses.replace(fedefm, feedback=feedback)
    whole = play(settings, 3)
    begun = play(settings, 1)
    resumed = play(settings, 3, state=begun.strategy.state)
    assert sorted(resumed.thetas) == [2, 3]
    assert resumed.strategy.state.equals(whole.strategy.state)
    assert not begun.strategy.state.equals(whole.strategy.state)


def test_a_saved_federation_of_other_hospitals_is_refused(
    fedefm: FedEFMSettings,
) -> None:
    other = FederationState.begin({"w": torch.zeros(1)}, ["delta"], seed=0)
    with pytest.raises(ValueError, match="saved federation is of the hospitals delta"):
        play(fedefm, 1, state=other)


def test_the_paper_reads_literally(fedefm: FedEFMSettings) -> None:
    paper = dataclasses.replace(fedefm, preset="paper").effective()
    assert paper.feedback == "none"
    assert (paper.reduction, paper.weight_scope) == ("sum", "loss")
    assert paper.temperature == fedefm.temperature
    played = play(dataclasses.replace(fedefm, preset="paper"), 1)
    assert sorted(played.of(messages.OVERSEAS))[0] == ("alpha", "beta", 10.0)


@pytest.mark.parametrize("teach_on", ["proxy", "student"])
def test_teachers_come_with_what_their_silos_annotate_where_it_matters(
    teach_on: str, fedefm: FedEFMSettings
) -> None:
    annotated = {"alpha": ("catheter",), "beta": (), "gamma": ("catheter", "guidewire")}
    settings = dataclasses.replace(fedefm, teach_on=teach_on)
    assert play(settings, 1, annotated=annotated).of("teaches") == []
    by_class = dataclasses.replace(settings, teacher_classes="annotated")
    told = play(by_class, 1, annotated=annotated).of("teaches")
    counts = {teacher: count for _, teacher, count in told}
    assert counts == {"alpha": 1.0, "beta": 0.0, "gamma": 2.0}
    assert len(told) == 3  # all at the proxy site, or a teacher for every student
