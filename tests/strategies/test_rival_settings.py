import math
from dataclasses import fields, replace

import pytest

from strategies.rival_settings import RivalSettings
from strategies.settings import RunSettings, SettingsError, SettingValue

Config = dict[str, SettingValue]


def test_the_defaults_of_the_project_are_valid(run_settings: RunSettings) -> None:
    assert run_settings.rival.problems() == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("proximal-mu", -0.1),
        ("server-learning-rate", 0.0),
        ("server-momentum", 1.0),
        ("server-momentum", -0.1),
        ("server-second-moment", 1.0),
        ("server-second-moment", -0.1),
        ("server-tau", 0.0),
        ("dyn-alpha", 0.0),
        ("control-rate", 0.0),
        ("contrast-weight", -1.0),
        ("contrast-temperature", 0.0),
        ("not-true-weight", -1.0),
        ("former-weight", -0.1),
        ("former-models", 0),
        ("temperature", 0.0),
        ("retention", -0.1),
        ("retention", 1.1),
        ("gossip-share", -0.1),
        ("gossip-share", 1.1),
        ("visit-steps", -1),
        ("activation", 0.0),
        ("activation", 1.1),
        ("activation", math.nan),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_name(
    run_config: Config, key: str, value: float
) -> None:
    with pytest.raises(SettingsError, match=rf"rival\.{key}.*{value}"):
        RunSettings.from_run_config({**run_config, f"rival.{key}": value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("proximal-mu", 0.0),
        ("server-momentum", 0.0),
        ("server-second-moment", 0.0),
        ("contrast-weight", 0.0),
        ("not-true-weight", 0.0),
        ("former-weight", 0.0),
        ("former-models", 1),
        ("retention", 0.0),
        ("retention", 1.0),
        ("gossip-share", 0.0),
        ("gossip-share", 1.0),
        ("visit-steps", 0),
        ("activation", 1.0),
    ],
)
def test_the_ends_of_a_range_belong_to_it(
    run_config: Config, key: str, value: float
) -> None:
    settings = RunSettings.from_run_config({**run_config, f"rival.{key}": value})
    assert getattr(settings.rival, key.replace("-", "_")) == value


def test_all_mistakes_are_reported_together(run_config: Config) -> None:
    wrong = {"rival.retention": 2.0, "rival.activation": 0.0, "rival.visit-step": 1}
    with pytest.raises(SettingsError, match=r"^3 setting\(s\) are wrong") as caught:
        RunSettings.from_run_config({**run_config, **wrong})
    assert "did you mean rival.visit-steps?" in str(caught.value)


def test_every_number_is_bounded(run_settings: RunSettings) -> None:
    numbers = [field.name for field in fields(RivalSettings) if field.type is not str]
    wrong = replace(run_settings.rival, **dict.fromkeys(numbers, -7))
    assert len(wrong.problems()) == len(numbers)


def test_an_unknown_strategy_is_told_the_known_ones(run_config: Config) -> None:
    with pytest.raises(
        SettingsError, match=r"strategy must be one of .*fedprox.*fedbn"
    ):
        RunSettings.from_run_config({**run_config, "strategy": "fedsgd"})
