"""The pretext of FedEFM's released code as a federation: of which source is a frame?"""

import json
import tomllib
from pathlib import Path

import pytest
import torch

from clients.app import app as client_app
from models.registry import build_model
from models.transfer import encoder_parameters, transfer_encoder
from server.attendance import TooFewSites
from server.checkpoints import load_foundation, recipe_of
from server.journal import read_events
from server.rounds import run_federation
from strategies.settings import RunSettings, SettingsError, SettingValue
from strategies.wire import decode
from tests.conftest import ROOT
from tests.federation import InProcessGrid

Config = dict[str, SettingValue]


@pytest.fixture
def pretext(tiny_run: Config) -> Config:
    return {
        **tiny_run,
        "model.task": "source-classification",
        "model.data-types": "human, phantom",
        "fedefm.diagonal": True,
        "join-timeout-s": 30.0,
    }


def test_a_federation_tells_sources_apart_and_leaves_an_encoder(
    pretext: Config,
) -> None:
    folder = run_federation(InProcessGrid(client_app, pretext, 2), pretext)
    result = json.loads((folder / "result.json").read_text())
    assert result["status"] == "completed"
    by_site = {site: one["test/accuracy"] for site, one in result["test"].items()}
    assert by_site.keys() == {"human-site", "phantom-site"}
    # Each has one frame to test: together the accuracy is their mean.
    assert result["global"]["test/accuracy"] == sum(by_site.values()) / 2
    assert result["global"]["test/fair/worst_site_accuracy"] == min(by_site.values())
    assert "test/dice" not in result["global"]
    table = json.loads((folder / "test_metrics.json").read_text())["rows"]
    (whole,) = (
        one
        for one in table
        if (one["hospital"], one["score"]) == ("all frames", "accuracy")
    )
    assert whole["all labels"] == result["global"]["test/accuracy"]
    guesses = [one for one in table if one["score"].startswith("taken-for-")]
    assert sum(g["human"] for g in guesses if g["hospital"] == "human-site") == 1
    assert (folder / "test_metrics.csv").read_text().startswith("hospital,score,all")
    events = read_events(folder / "metrics.jsonl")
    last = [one for one in events if one["event"] == "round"][-1]
    assert 0 <= last["global"]["val/accuracy"] <= 1
    assert last["global"]["emd/score"] is not None  # teachers were weighed

    state, card = load_foundation(folder / result["checkpoint"])
    assert recipe_of(card).num_labels == 2
    target = build_model("sam-tiny", image_size=32, seed=7)
    found = transfer_encoder(target, state)
    assert encoder_parameters(target) <= found.names
    name = "image_encoder.blocks.0.mlp.lin1.weight"
    assert torch.equal(target.state_dict()[name], state[f"network.{name}"])


def test_only_encoder_and_head_travel(pretext: Config) -> None:
    grid = InProcessGrid(client_app, pretext, 2)
    run_federation(grid, pretext)
    names = {
        name
        for message in grid.sent
        for record in message.content.array_records.values()
        for name in decode(record)
    }
    own = {name for name in names if "." in name}
    assert any("head.weight" in name for name in own)
    assert not any("mask_decoder" in name for name in own)


def test_a_site_with_an_unknown_data_type_stops_the_run_with_a_reason(
    pretext: Config,
) -> None:
    config = {**pretext, "model.data-types": "human, animal"}
    with pytest.raises(TooFewSites, match="phantom"):
        run_federation(InProcessGrid(client_app, config, 2), config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.data-types": "human"}, "at least two"),
        ({"model.data-types": "human, a b"}, "letters"),
        ({"model.task": "segmentation"}, "model.data-types is for"),
        ({"model.task": "detection"}, "model.task must be one of"),
        ({"model.training": "lora"}, "whole encoder"),
        ({"data.frame-size": 64}, "whole frames"),
        ({"fedefm.distil-classes": "unannotated"}, "whole frames"),
    ],
)
def test_settings_that_do_not_fit_the_pretext_are_named(
    changes: Config, message: str, pretext: Config
) -> None:
    with pytest.raises(SettingsError, match=message):
        RunSettings.from_run_config({**pretext, **changes})


def test_the_study_config_is_one_of_source_classification(run_config: Config) -> None:
    path = Path(ROOT / "experiments" / "configs" / "pretext.toml")
    told = tomllib.loads(path.read_text())
    flat = {
        f"{group}.{key}" if isinstance(value, dict) else group: inner
        for group, value in told.items()
        for key, inner in (value.items() if isinstance(value, dict) else [("", value)])
    }
    settings = RunSettings.from_run_config({**run_config, **flat})
    assert settings.model.labels == ("animal", "human", "phantom", "simulation")
    assert settings.model.recipe(0).num_labels == 4
