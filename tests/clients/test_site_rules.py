"""What a hospital refuses, and in which words."""

import pytest

from clients.data.errors import DataError
from clients.site_file import Bound, Limits
from clients.site_rules import Request, SiteRefusal, check_request, seconds_allowed
from strategies.settings import RunSettings, SettingValue

Config = dict[str, SettingValue]


def make_request(config: Config, phase: str = "local", rounds: int = 0) -> Request:
    return Request(phase, config, RunSettings.from_run_config(config), rounds)


def refusal_of(limits: Limits, request: Request) -> SiteRefusal:
    with pytest.raises(SiteRefusal) as caught:
        check_request("hillside", limits, request)
    return caught.value


def test_a_site_without_limits_refuses_nothing(run_config: Config) -> None:
    check_request("hillside", Limits(), make_request(run_config, rounds=10_000))


def test_a_run_within_all_limits_is_not_refused(run_config: Config) -> None:
    limits = Limits(
        strategies=("fedefm",),
        models=("sam-tiny",),
        max_rounds_per_day=1,
        max_prototypes=0,
        settings={"train.steps": Bound(most=8), "wire": Bound(allowed=("float32",))},
    )
    check_request("hillside", limits, make_request(run_config))


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (
            Limits(strategies=("fedavg",)),
            "strategies allows fedavg, this run has fedefm",
        ),
        (Limits(strategies=()), "strategies allows none"),
        (
            Limits(models=("unet", "fga-net")),
            "models allows unet, fga-net, this run has sam-tiny",
        ),
        (
            Limits(settings={"train.steps": Bound(most=5)}),
            "settings 'train.steps' allows at most 5, this run has 8",
        ),
        (
            Limits(settings={"train.learning-rate": Bound(least=0.1, most=0.5)}),
            "allows at least 0.1 and at most 0.5, this run has 0.004",
        ),
        (
            Limits(settings={"wire": Bound(allowed=("bfloat16",))}),
            "settings 'wire' allows bfloat16, this run has 'float32'",
        ),
    ],
)
def test_a_refusal_names_site_rule_limit_and_what_came(
    run_config: Config, limits: Limits, words: str
) -> None:
    refusal = refusal_of(limits, make_request(run_config, phase="introduce"))
    assert str(refusal).startswith("Site 'hillside' refuses: ")
    assert words in str(refusal)
    assert isinstance(refusal, DataError)  # so its text may leave the site


def test_all_broken_rules_are_named_at_once(run_config: Config) -> None:
    limits = Limits(strategies=("fedavg",), models=("unet",))
    broken = refusal_of(limits, make_request(run_config)).broken
    assert [rule.rule for rule in broken] == ["strategies", "models"]


def test_a_bound_on_a_setting_that_a_run_does_not_have_refuses_it(
    run_config: Config,
) -> None:
    limits = Limits(settings={"privacy.level": Bound(least=1)})
    assert "privacy.level" in str(refusal_of(limits, make_request(run_config)))


def test_a_path_of_the_centre_is_not_repeated(run_config: Config) -> None:
    config = {**run_config, "output": "/home/jane/run"}
    limits = Limits(settings={"output": Bound(allowed=("",))})
    assert "jane" not in str(refusal_of(limits, make_request(config)))


@pytest.mark.parametrize(("allowed", "refused"), [(0, 1), (4, 5)])
def test_no_more_prototypes_may_leave_than_the_floor_says(
    run_config: Config, allowed: int, refused: int
) -> None:
    limits = Limits(max_prototypes=allowed)
    check_request(
        "a", limits, make_request({**run_config, "fedefm.prototypes": allowed})
    )
    request = make_request({**run_config, "fedefm.prototypes": refused}, "introduce")
    assert f"max-prototypes allows {allowed}" in str(refusal_of(limits, request))


def test_a_request_for_prototypes_is_refused_whatever_the_strategy_is_called(
    run_config: Config,
) -> None:
    config = {**run_config, "strategy": "fedavg", "fedefm.prototypes": 3}
    limits = Limits(max_prototypes=0)
    check_request("a", limits, make_request(config, "local"))
    assert "max-prototypes" in str(
        refusal_of(limits, make_request(config, "prototypes"))
    )


def test_rounds_of_a_day_are_counted_but_introductions_are_not(
    run_config: Config,
) -> None:
    limits = Limits(max_rounds_per_day=2)
    check_request("a", limits, make_request(run_config, rounds=1))
    check_request("a", limits, make_request(run_config, "introduce", rounds=2))
    for phase in ("local", "distil", "evaluate", "prototypes"):
        refusal = refusal_of(limits, make_request(run_config, phase, rounds=2))
        assert "max-rounds-per-day allows 2, 2 were begun today" in str(refusal)


def test_a_training_ends_at_the_earlier_of_the_two_deadlines(
    run_config: Config,
) -> None:
    settings = RunSettings.from_run_config({**run_config, "phase-timeout-s": 100.0})
    assert seconds_allowed(Limits(), settings) == 90
    assert seconds_allowed(Limits(max_seconds_per_phase=30), settings) == 30
    assert seconds_allowed(Limits(max_seconds_per_phase=95), settings) == 90
