"""A federation that goes on after a stop is the one that never stopped."""

from pathlib import Path

import pytest

from clients.app import app as client_app
from models.weights import load_weights, read_metadata
from server.checkpoints import CheckpointError
from server.rounds import run_federation
from server.state_files import load_federation
from strategies.federation_state import equal_states
from strategies.settings import SettingValue
from tests.federation import InProcessGrid

Config = dict[str, SettingValue]


def run(config: Config, folder: Path, rounds: int, **more: SettingValue) -> Path:
    config = {**config, "output": str(folder), "num-rounds": rounds, **more}
    return run_federation(InProcessGrid(client_app, config, 2), config)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"fedefm.feedback": "none"},
        {"fedefm.feedback": "neighbours", "model.training": "lora-decoder"},
        {"strategy": "fedavg"},
        {
            "fedefm.route": "tour",
            "fedefm.moments": "carried",
            "fedefm.teachers": "neighbour",
            "fedefm.feedback": "none",
            "fedefm.accumulate": "last",
        },
    ],
)
def test_the_weights_are_those_of_a_run_without_a_stop(
    changes: Config, tiny_run: Config, tmp_path: Path
) -> None:
    config = {**tiny_run, **changes}
    whole = run(config, tmp_path / "whole", 2)
    begun = run(config, tmp_path / "begun", 1)
    resumed = run(config, tmp_path / "resumed", 2, resume=str(begun))
    expected, found = (
        load_weights(folder / "checkpoints" / "foundation.safetensors")
        for folder in (whole, resumed)
    )
    assert equal_states(found, expected)
    assert load_federation(resumed).equals(load_federation(whole))
    assert load_federation(begun).round_number == 1
    silos = [*(resumed / "checkpoints" / "silos").glob("*.safetensors")]
    assert sorted(read_metadata(path)["silo"] for path in silos) == (
        [] if changes.get("strategy") else ["human-site", "phantom-site"]
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 1}, "seed 0, this one 'fedefm' and 1"),
        ({"strategy": "fedavg"}, "strategy 'fedefm' and seed 0, this one 'fedavg'"),
        ({"model.training": "decoder"}, "from the earlier run were refused"),
    ],
)
def test_an_earlier_run_of_another_kind_is_refused(
    changes: Config, words: str, tiny_run: Config, tmp_path: Path
) -> None:
    begun = run(tiny_run, tmp_path / "begun", 1)
    with pytest.raises(CheckpointError, match=words):
        run({**tiny_run, **changes}, tmp_path / "other", 2, resume=str(begun))
    assert "earlier run" in (tmp_path / "other" / "result.json").read_text()


def test_a_folder_without_a_round_is_told_without_its_path(
    tiny_run: Config, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="kept no round") as caught:
        run(tiny_run, tmp_path / "run", 1, resume=str(tmp_path / "nobody"))
    assert "nobody" not in str(caught.value)
