"""What is measured of a run's models: as the federation does, and by the row's kind."""

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import pytest
import torch

from clients.app import app as client_app
from clients.data.simulator import simulate_frames
from experiments.in_process import InProcessGrid
from experiments.study import testing, transfer
from experiments.study.ensemble import Ensemble
from experiments.study.testing import mean_of, measure, open_bench
from models.network import SegmentationNetwork, SegmentationOutput
from models.registry import build_model
from server.journal import EVENTS_FILE, RESULT_FILE, read_events
from server.rounds import run_federation
from server.state_files import load_federation
from strategies.settings import RunSettings, SettingsError, SettingValue
from tests.experiments.study.small_federation import (
    SITES,
    Config,
    Ended,
    ended,
    job_of,
    small_config,
)


@pytest.fixture
def config(run_config: dict[str, SettingValue], tmp_path: Path) -> Config:
    return small_config(run_config, tmp_path)


@pytest.fixture(autouse=True)
def small_sets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, number in {"TEST_PATIENTS": 2, "POOL_PATIENTS": 2}.items():
        monkeypatch.setattr(transfer, name, number)
    transfer.unseen_frames.cache_clear()
    transfer.shot_pool.cache_clear()
    yield
    transfer.unseen_frames.cache_clear()
    transfer.shot_pool.cache_clear()


class Certain(SegmentationNetwork):
    """Says the same logit everywhere, and knows no image."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.image_size, self.num_classes, self.logit = 4, 2, logit

    def forward_with_features(self, images: torch.Tensor) -> SegmentationOutput:
        logits = torch.full((len(images), 2, 4, 4), self.logit)
        return SegmentationOutput(logits, torch.zeros(len(images), 3, 1, 1))


def test_the_scores_are_those_that_the_federation_reports(config: Config) -> None:
    config |= {"train.steps": 8, "train.learning-rate": 3e-2, "train.warmup-steps": 0}
    folder = run_federation(InProcessGrid(client_app, config, 2), config)
    result = json.loads((folder / RESULT_FILE).read_text())
    theta = load_federation(folder).theta
    models = Ended(theta, RunSettings.from_run_config(config))
    found = measure(models, job_of(config))
    test, overall = found["test"], result["global"]
    assert 0 < test["dice"] == overall["test/dice"]
    assert test["cldice"] == overall["test/cldice"]
    assert test["worst_site_dice"] == overall["test/fair/worst_site_dice"]
    assert test["sd_sites_dice"] == overall["test/fair/std"]
    for site in SITES:
        assert test["sites"][site]["dice"] == result["test"][site]["test/dice"]
    rounds = [one for one in read_events(folder / EVENTS_FILE) if "global" in one]
    assert found["validation"]["dice"] == rounds[-1]["global"]["val/dice"]
    assert found["validation"]["cldice"] == rounds[-1]["global"]["val/cldice"]
    assert (found["cross"], found["unseen"], found["few_shot"]) == ({}, {}, {})


def test_the_spread_over_sites_is_the_populations(config: Config) -> None:
    test = measure(ended(config), job_of(config))["test"]
    dice = [test["sites"][site]["dice"] for site in SITES]
    assert test["worst_site_dice"] == min(dice)
    assert test["sd_sites_dice"] == pytest.approx(pstdev(dice))


def test_tuning_sees_no_test_frame(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, job = ended(config, human_site=1), job_of(config, unseen=("neuro",))
    final = measure(models, job)

    def refuse(*_: Any, **__: Any) -> None:  # noqa: ANN401
        raise AssertionError("a test frame was looked at")

    monkeypatch.setattr("experiments.study.testing.measures_of", refuse)
    monkeypatch.setattr("experiments.study.testing.unseen_frames", refuse)
    found = measure(models, job_of(config, purpose="tune", unseen=("neuro",)))
    assert found["validation"] == final["validation"]
    assert not any(found[part] for part in ("test", "cross", "unseen", "few_shot"))


def test_silos_are_judged_one_by_one_on_all_frames_and_averaged(
    config: Config,
) -> None:
    models = ended(config, human_site=1, phantom_site=2)
    found = measure(models, job_of(config, model_of="silos", unseen=("neuro",)))
    alone = [
        measure(Ended(state, models.settings), job_of(config, unseen=("neuro",)))
        for state in models.silos.values()
    ]
    for part in (("test", "dice"), ("test", "worst_site_dice"), ("validation", "dice")):
        values = [one[part[0]][part[1]] for one in alone]
        assert values[0] != values[1]
        assert found[part[0]][part[1]] == pytest.approx(fmean(values))
    unseen = [one["unseen"]["neuro"]["dice"] for one in alone]
    assert found["unseen"]["neuro"]["dice"] == pytest.approx(fmean(unseen))


def test_the_cross_site_matrix_has_every_silos_model_on_every_site(
    config: Config,
) -> None:
    models = ended(config, human_site=1, phantom_site=2)
    found = measure(models, job_of(config))["cross"]
    assert found.keys() == set(SITES)
    for owner, state in models.silos.items():
        alone = measure(Ended(state, models.settings), job_of(config))["test"]["sites"]
        wanted = {site: {"dice": alone[site]["dice"]} for site in SITES}
        assert found[owner] == wanted


def test_a_personal_model_is_judged_at_home(config: Config) -> None:
    models = ended(config, human_site=1, phantom_site=2)
    found = measure(models, job_of(config, model_of="personal", unseen=("neuro",)))
    for site in SITES:
        home = found["cross"][site][site]["dice"]
        assert found["test"]["sites"][site]["dice"] == home
    # A hospital that was not there gets the accumulated model.
    theta = measure(models, job_of(config, unseen=("neuro",)))
    assert found["unseen"] == theta["unseen"]


def test_an_ensemble_of_equal_models_is_the_model(config: Config) -> None:
    models = ended(config, human_site=0, phantom_site=0)
    job = job_of(config, unseen=("neuro",))
    alone = measure(models, job)
    found = measure(models, job_of(config, model_of="ensemble", unseen=("neuro",)))
    for part in ("validation", "test", "unseen"):
        assert found[part] == alone[part]


def test_an_ensemble_is_the_mean_of_probabilities() -> None:
    network = Ensemble([Certain(2.0), Certain(-1.0)])
    logits = network(torch.zeros(1, 1, 4, 4))
    p, q = (1 / (1 + 2.718281828459045**-one) for one in (2.0, -1.0))
    assert logits.sigmoid()[0, 0, 0, 0].item() == pytest.approx((p + q) / 2)
    # Two that are certain and differ leave a half, not no number.
    undecided = Ensemble([Certain(200.0), Certain(-200.0)])
    assert undecided(torch.zeros(1, 1, 4, 4))[0, 0, 0, 0].item() == 0
    sure = Ensemble([Certain(200.0)] * 2)(torch.zeros(1, 1, 4, 4))
    assert sure[0, 0, 0, 0].item() == pytest.approx(200.0)


def test_an_ensemble_of_equal_networks_predicts_as_one() -> None:
    network = build_model("sam-tiny", image_size=32, seed=0).eval()
    images = simulate_frames(
        "human", patients=2, frames_per_patient=1, image_size=32, seed=0
    ).images
    with torch.no_grad():
        alone, both = network(images), Ensemble([network] * 3)(images)
    assert torch.equal(alone > 0, both > 0)
    torch.testing.assert_close(alone, both)


def test_an_ensemble_needs_networks_of_one_size() -> None:
    other = Certain(0.0)
    other.image_size = 8
    for wrong in ([], [Certain(0.0), other]):
        with pytest.raises(ValueError, match="one image size"):
            Ensemble(wrong)


def test_a_class_that_a_site_does_not_annotate_disturbs_nothing(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of real frames nobody knows more than their site has annotated.
    monkeypatch.setattr(testing, "with_truth", lambda hospital, _: hospital)
    sites = Path(str(config["sites"]))
    alone = measure(ended(config), job_of(config))["test"]
    text = sites.read_text()
    sites.write_text(text + 'classes = ["catheter"]\n')  # the second site
    partly = measure(ended(config), job_of(config))["test"]
    assert partly["sites"][SITES[0]] == alone["sites"][SITES[0]]
    assert partly["sites"][SITES[1]] != alone["sites"][SITES[1]]
    assert 0 <= partly["dice"] <= 1
    sites.write_text(text + 'labels = "none"\n')
    unknown = measure(ended(config), job_of(config))["test"]
    assert unknown["sites"][SITES[1]]["dice"] is None
    assert unknown["dice"] == unknown["sites"][SITES[0]]["dice"]
    assert unknown["worst_site_dice"] == unknown["dice"]
    assert unknown["sd_sites_dice"] == 0


def test_few_shot_starts_from_the_models_of_the_row(config: Config) -> None:
    models = ended(config, human_site=1, phantom_site=2)
    silos = [models.silos[site] for site in SITES]
    for kind, wanted in {
        "global": [models.theta],
        "silos": silos,
        "ensemble": silos,
        "personal": [models.theta],  # a hospital that was not there has no own model
    }.items():
        found = open_bench(models, job_of(config, model_of=kind)).starts()
        assert [id(one) for one in found] == [id(one) for one in wanted]


def test_a_measured_job_has_few_shot_scores_by_domain_and_shots(
    config: Config,
) -> None:
    shots = {"shots": (1, 2), "shot_domains": ("neuro",), "shot_steps": 1}
    job = job_of(config, **shots, shot_repeats=2)
    found = measure(ended(config), job)["few_shot"]
    assert found.keys() == {"neuro"}
    assert found["neuro"].keys() == {"1", "2"}
    assert [len(one["dice"]) for one in found["neuro"].values()] == [2, 2]


@pytest.mark.parametrize(
    ("kind", "silos", "wanted"),
    [
        ("global", {}, "an accumulated model"),
        ("silos", {}, "models of its silos"),
        ("ensemble", {}, "models of its silos"),
        ("personal", {"human_site": 1}, "a model of site 'phantom-site'"),
    ],
)
def test_a_row_without_the_models_it_is_judged_by_is_refused(
    config: Config, kind: str, silos: dict[str, int], wanted: str
) -> None:
    found = ended(config, **silos)
    models = Ended(None, found.settings, found.silos)
    with pytest.raises(SettingsError, match=wanted):
        measure(models, job_of(config, model_of=kind))


def test_a_domain_that_a_site_holds_is_not_unseen(config: Config) -> None:
    for facts in ({"unseen": ("human",)}, {"shot_domains": ("human",)}):
        with pytest.raises(SettingsError, match="sites have some of human"):
            measure(ended(config), job_of(config, **facts))


def test_means_leave_out_what_nobody_measured() -> None:
    first = {"dice": 0.2, "hd95_px": None, "sites": {"a": {"dice": None}}}
    second = {"dice": 0.4, "hd95_px": 3.0, "sites": {"a": {"dice": None}}}
    assert mean_of([first, second]) == {
        "dice": pytest.approx(0.3),
        "hd95_px": 3.0,
        "sites": {"a": {"dice": None}},
    }
