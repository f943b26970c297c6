"""One model visits hospitals that do arithmetic; every snapshot followed by hand."""

import dataclasses

import pytest
from flwr.app import Message

from strategies import messages
from strategies.fedefm_settings import FedEFMSettings
from strategies.moments import ADAMW, Moments
from strategies.settings import RunSettings, SettingsError, SettingValue
from strategies.topology import tour_order
from tests.strategies.arithmetic_hospitals import NAMES, play


@pytest.fixture
def tour(run_settings: RunSettings) -> FedEFMSettings:
    return dataclasses.replace(
        run_settings.fedefm, route="tour", teachers="none", feedback="none"
    )


def test_the_start_moves_on_by_one_every_round() -> None:
    orders = ["".join(tour_order("abc", number)) for number in range(5)]
    assert orders == ["cab", "abc", "bca", "cab", "abc"]


def test_one_model_visits_all_and_its_snapshots_are_averaged(
    tour: FedEFMSettings,
) -> None:
    played = play(tour, 1)
    assert played.of(messages.TRAIN) == [
        # The warm-up is a tour, too, and starts with the last silo.
        ("gamma", "", 0.0),
        ("alpha", "", 100.0),
        ("beta", "", 101.0),
        # Nothing was fed back: it goes on as it was, and not from the mean.
        ("alpha", "", 111.0),
        ("beta", "", 112.0),
        ("gamma", "", 122.0),
    ]
    assert played.thetas == {
        0: pytest.approx((100 + 101 + 111) / 3),
        1: pytest.approx((112 + 122 + 222) / 3),
    }
    assert played.strategy.state is not None
    students = played.strategy.state.students
    left = {name: one["w"].item() for name, one in students.items()}
    assert left == {"alpha": 112.0, "beta": 122.0, "gamma": 222.0}


def test_where_it_ended_can_be_the_accumulated_model(tour: FedEFMSettings) -> None:
    played = play(dataclasses.replace(tour, accumulate="last"), 1)
    assert played.thetas == {0: 111.0, 1: 222.0}


def test_what_is_fed_back_is_where_it_sets_out(tour: FedEFMSettings) -> None:
    played = play(dataclasses.replace(tour, feedback="mean"), 1)
    mean = (100 + 101 + 111) / 3  # 104
    assert played.of(messages.TRAIN)[3:] == [
        ("alpha", "", pytest.approx(mean)),
        ("beta", "", pytest.approx(mean + 1)),
        ("gamma", "", pytest.approx(mean + 11)),
    ]


def test_the_freshest_snapshots_of_others_teach_at_a_silo(
    tour: FedEFMSettings,
) -> None:
    settings = dataclasses.replace(tour, teachers="neighbour", topology="complete")
    played = play(settings, 1)
    # After the warm-up: gamma 100, alpha 101, beta 111. Distilling goes half of the
    # way from the traveller to the mean of the teachers.
    at_alpha = (111 + (111 + 100) / 2) / 2  # 108.25
    at_beta = (at_alpha + (at_alpha + 100) / 2) / 2  # 106.1875
    assert played.of("teachers") == [
        ("alpha", "beta,gamma", 111.0 + 100.0),
        ("beta", "alpha,gamma", at_alpha + 100.0),
        ("gamma", "alpha,beta", at_alpha + at_beta),
    ]
    assert played.of(messages.DISTIL) == [
        ("alpha", "", 111.0),
        ("beta", "", at_alpha),
        ("gamma", "", at_beta),
    ]


def test_the_snapshots_teach_the_accumulated_model_on_proxies(
    tour: FedEFMSettings,
) -> None:
    settings = dataclasses.replace(
        tour, teach_on="proxy", edge_weight="softmax", score="common", prototypes=2
    )
    settings = dataclasses.replace(settings, feedback="mean", accumulate="last")
    played = play(settings, 1)
    assert played.of("teachers") == [("alpha", "alpha,beta,gamma", 112 + 122 + 222.0)]
    # It learned there (the app adds 1000) and sets out from what it became.
    assert played.thetas == {0: 111.0, 1: 1222.0}
    assert played.strategy.state is not None
    assert played.strategy.state.is_common()


def test_moments_travel_from_silo_to_silo_and_from_round_to_round(
    tour: FedEFMSettings,
) -> None:
    carried = dataclasses.replace(tour, moments="carried")
    played = play(carried, 1)
    assert played.of("moments") == [
        ("gamma", "", 0.0),
        ("alpha", "", 1.0),
        ("beta", "", 2.0),
        ("alpha", "", 3.0),
        ("beta", "", 4.0),
        ("gamma", "", 5.0),
    ]
    state = played.strategy.state
    assert state is not None
    kept = Moments.from_state(state.memory[ADAMW])
    assert (kept.steps, kept.second["w"].item()) == (6, 222.0**2)
    # A federation that goes on from there goes on with them.
    assert play(carried, 2, state=state).of("moments")[0] == ("beta", "", 6.0)
    assert play(tour, 1).of("moments") == []
    assert play(tour, 1).strategy.state.memory == {}


def test_a_silo_that_fails_is_passed_by(tour: FedEFMSettings) -> None:
    def refuse(message: Message) -> None:
        return None

    played = play(tour, 1, faults={1: refuse})
    assert played.thetas[1] == pytest.approx((102 + 202) / 2)
    assert played.strategy.state is not None
    assert played.strategy.state.students["beta"]["w"].item() == 102.0


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"fedefm.route": "tour"}, "fedefm.teachers = 'none', 'neighbour' or"),
        (
            {
                "fedefm.route": "tour",
                "fedefm.teachers": "none",
                "fedefm.accumulate": "students+experts",
            },
            "'students+experts' with 'exchange'",
        ),
        ({"fedefm.moments": "carried"}, "needs fedefm.route = 'tour'"),
        (
            {
                "fedefm.route": "tour",
                "fedefm.teachers": "none",
                "fedefm.moments": "carried",
                "wire": "float16",
            },
            "needs wire = 'float32'",
        ),
        ({"fedefm.accumulate": "last"}, "'last' goes with fedefm.route = 'tour'"),
        ({"fedefm.route": "walk"}, "fedefm.route must be"),
        ({"fedefm.edge-weight": "oracle"}, "needs fedefm.teach-on = 'proxy'"),
    ],
)
def test_what_does_not_go_together_is_refused(
    changes: dict[str, SettingValue], told: str, run_config: dict[str, SettingValue]
) -> None:
    with pytest.raises(SettingsError) as caught:
        RunSettings.from_run_config({**run_config, **changes})
    assert told in str(caught.value)


def test_every_silo_is_visited_by_name() -> None:
    assert sorted(tour_order(NAMES, 7)) == sorted(NAMES)
