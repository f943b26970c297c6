"""Whole federations of FedEFM's rivals inside one process, of next to nothing."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from clients.app import app as client_app
from models.assembly import assemble_model
from models.normalisation import normalisation_names
from server.checkpoints import load_foundation
from server.journal import read_events
from server.rounds import run_federation
from server.state_files import kept_silos, load_federation
from strategies.accumulation import State, accumulate
from strategies.federation_state import equal_states
from strategies.settings import RunSettings, SettingValue
from tests.federation import InProcessGrid

Config = dict[str, SettingValue]
SITES = ["human-site", "phantom-site"]


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.rounds.draw_all", lambda *_, **__: [])


def run(config: Config, folder: Path, **more: SettingValue) -> Path:
    config = {**config, "output": str(folder), **more}
    return run_federation(InProcessGrid(client_app, config, 2), config)


def start_and_norms(config: Config) -> tuple[State, frozenset[str]]:
    settings = RunSettings.from_run_config(config)
    model = assemble_model(settings.model.recipe(settings.seed))
    return model.trainable_state(), normalisation_names(model)


def all_the_same(
    theta: State, silos: Mapping[str, State], norms: frozenset[str]
) -> bool:
    return all(equal_states(silo, theta) for silo in silos.values())


def all_different(
    theta: State, silos: Mapping[str, State], norms: frozenset[str]
) -> bool:
    first, second = silos.values()
    pairs = [(first, second), (first, theta), (second, theta)]
    return not any(equal_states(one, other) for one, other in pairs)


def theta_is_their_mean(
    theta: State, silos: Mapping[str, State], norms: frozenset[str]
) -> bool:
    return equal_states(theta, accumulate(silos))


def norms_alone_differ(
    theta: State, silos: Mapping[str, State], norms: frozenset[str]
) -> bool:
    first, second = silos.values()
    other = {name for name in first if not torch.equal(first[name], second[name])}
    return bool(other) and other <= norms


def nobody_has_one(
    theta: State, silos: Mapping[str, State], norms: frozenset[str]
) -> bool:
    return not silos


Relation = Callable[[State, Mapping[str, State], frozenset[str]], bool]


@pytest.mark.parametrize(
    ("strategy", "training_phases", "relation"),
    [
        ("fedprox", 1, nobody_has_one),
        ("fedavgm", 1, nobody_has_one),
        ("fedadam", 1, nobody_has_one),
        ("fedbn", 1, norms_alone_differ),
        ("gossip", 2, all_different),  # at home, then visits
        ("matcha", 1, theta_is_their_mean),
        ("relay", 2, all_the_same),  # one visit after the other
    ],
)
def test_a_rival_plays_a_federation_to_its_end(
    tiny_run: Config,
    tmp_path: Path,
    strategy: str,
    training_phases: int,
    relation: Relation,
) -> None:
    config = {
        **tiny_run,
        "strategy": strategy,
        "rival.retention": 0.5,
        "rival.server-learning-rate": 0.1,
    }
    folder = run(config, tmp_path / "run")
    result = json.loads((folder / "result.json").read_text())
    assert (result["status"], result["sites"]) == ("completed", SITES)
    events = read_events(folder / "metrics.jsonl")
    phases = [event["phase"] for event in events if "phase" in event]
    assert phases == [*["local"] * training_phases, "evaluate", "evaluate"]
    theta, _ = load_foundation(folder / "checkpoints" / "foundation.safetensors")
    start, norms = start_and_norms(tiny_run)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in theta.values())
    assert not equal_states(theta, start)
    assert relation(theta, dict(kept_silos(folder)), norms)


def test_a_rival_goes_on_after_a_stop_to_the_same_bits(
    tiny_run: Config, tmp_path: Path
) -> None:
    # Of the relay, whose second round begins at another silo.
    config = {**tiny_run, "strategy": "relay"}
    whole = run(config, tmp_path / "whole", **{"num-rounds": 2})
    begun = run(config, tmp_path / "begun")
    more: Config = {"num-rounds": 2, "resume": str(begun)}
    resumed = run(config, tmp_path / "resumed", **more)
    assert load_federation(begun).round_number == 1
    assert load_federation(resumed).equals(load_federation(whole))
