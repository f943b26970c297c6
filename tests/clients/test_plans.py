"""What a phase is told of earlier ones, and when it is told nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clients.data.errors import DataError
from clients.hospital import Hospital
from clients.plans import plan_phase
from clients.site_file import Privacy
from models.weights import WeightsError
from strategies.messages import Job
from strategies.moments import ADAMW, Moments
from strategies.settings import RunSettings, SettingValue

Config = dict[str, SettingValue]
Ground = tuple[RunSettings, Hospital]
SITE = """
[[site]]
name = "ward"
domain = "phantom"
patients = 3
frames-per-patient = 1
"""
ON_TOUR: Config = {
    "fedefm.route": "tour",
    "fedefm.teachers": "none",
    "fedefm.moments": "carried",
}


@pytest.fixture
def ground(run_config: Config, tmp_path: Path) -> Ground:
    (tmp_path / "sites.toml").write_text(SITE)
    config = {**run_config, "sites": str(tmp_path / "sites.toml"), **ON_TOUR}
    settings = RunSettings.from_run_config(config)
    place = {"partition-id": 0, "num-partitions": 1}
    return settings, Hospital.from_node_config(place, settings)


def job(moments: Moments | None = None) -> Job:
    weights = {"w": torch.zeros(2)}
    aids = {} if moments is None else {ADAMW: moments.to_state()}
    return Job(1, "", "train", weights, {}, aids=aids)


def test_the_first_of_a_tour_has_nothing_to_remember(ground: Ground) -> None:
    settings, hospital = ground
    plan = plan_phase(settings, job(), "local", hospital, 3)
    assert (plan.steps, plan.moments) == (3, Moments())


def test_what_the_traveller_carries_is_in_the_plan(ground: Ground) -> None:
    settings, hospital = ground
    ones = {"w": torch.ones(2)}
    for phase in ("local", "distil"):
        plan = plan_phase(settings, job(Moments(4, ones, ones)), phase, hospital, 3)
        assert plan.moments is not None
        assert plan.moments.steps == 4
        assert torch.equal(plan.moments.second["w"], ones["w"])
    # Another loss, another optimiser.
    assert plan_phase(settings, job(), "proxy", hospital, 3).moments is None
    fresh = replace(settings, fedefm=replace(settings.fedefm, moments="fresh"))
    assert plan_phase(fresh, job(), "local", hospital, 3).moments is None


def test_moments_of_another_model_are_refused(ground: Ground) -> None:
    settings, hospital = ground
    other = {"v": torch.ones(2)}
    with pytest.raises(WeightsError, match=r"the traveller.*trains no v"):
        plan_phase(settings, job(Moments(4, other, other)), "local", hospital, 3)


def test_moments_stay_at_a_site_that_clips_what_leaves(ground: Ground) -> None:
    settings, hospital = ground
    strict = replace(hospital, privacy=Privacy(clip_norm=1.0))
    with pytest.raises(DataError, match="privacy of hospital 'ward' does not cover"):
        plan_phase(settings, job(), "local", strict, 3)
