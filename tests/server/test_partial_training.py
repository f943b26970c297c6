"""Federations in which only a part of the network trains and travels."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clients.app import app as client_app
from models.assembly import Recipe, assemble_model
from models.registry import build_model
from models.sam_checkpoint import save_official
from server.attendance import TooFewSites
from server.checkpoints import load_foundation, recipe_of
from server.rounds import run_federation
from strategies import messages
from strategies.settings import SettingValue
from tests.federation import InProcessGrid

Config = dict[str, SettingValue]


def trained_numbers(grid: InProcessGrid) -> int:
    """Numbers that one training request carried."""
    request = next(one for one in grid.sent if one.metadata.message_type == "train")
    arrays = request.content.array_records[messages.ARRAYS]
    return sum(tensor.numel() for tensor in messages.to_state(arrays).values())


@pytest.mark.parametrize("mode", ["lora", "lora-decoder", "decoder", "linear-probe"])
def test_only_what_trains_travels_and_the_foundation_is_whole(
    mode: str, tiny_run: Config
) -> None:
    config = {**tiny_run, "model.training": mode, "model.lora-rank": 2}
    grid = InProcessGrid(client_app, config, 2)
    folder = run_federation(grid, config)
    recipe = Recipe("sam-tiny", 32, 0, training=mode, lora_rank=2)
    travels = assemble_model(recipe).trainable_state()
    whole = assemble_model(replace(recipe, training="full")).trainable_state()
    assert trained_numbers(grid) == sum(one.numel() for one in travels.values())
    assert trained_numbers(grid) < 0.8 * sum(one.numel() for one in whole.values())
    state, card = load_foundation(folder / "checkpoints" / "foundation.safetensors")
    assert replace(recipe_of(card)) == recipe
    assert not any("lora" in name for name in state)


def test_a_federation_starts_from_an_official_file_without_naming_its_path(
    tiny_run: Config, tmp_path: Path
) -> None:
    path = tmp_path / "official.pth"
    official = build_model("sam-tiny", image_size=64, seed=77)
    save_official(official, path)
    config = {**tiny_run, "model.training": "decoder", "model.checkpoint": str(path)}
    folder = run_federation(InProcessGrid(client_app, config, 2), config)
    state, card = load_foundation(folder / "checkpoints" / "foundation.safetensors")
    name = "image_encoder.blocks.0.mlp.lin1.weight"
    assert torch.equal(state[name], official.state_dict()[name])
    assert card["settings"]["model.checkpoint"] == "custom"
    assert all(
        str(path).encode() not in file.read_bytes()
        for file in folder.rglob("*.json*")
        if file.name != "settings.json"
    )


def test_a_site_with_other_frozen_weights_cannot_take_part(
    tiny_run: Config, tmp_path: Path
) -> None:
    for name, seed in (("ours", 1), ("theirs", 2)):
        model = build_model("sam-tiny", image_size=32, seed=seed)
        save_official(model, tmp_path / f"{name}.pth")
    config = {
        **tiny_run,
        "model.training": "lora",
        "model.checkpoint": str(tmp_path / "ours.pth"),
    }
    grid = InProcessGrid(client_app, config, 2)
    grid.contexts[1000].node_config["checkpoint"] = str(tmp_path / "theirs.pth")
    with pytest.raises(TooFewSites, match=r"differ between .*-site' and the server"):
        run_federation(grid, config)


def test_a_missing_checkpoint_is_told_without_its_path(
    tiny_run: Config, tmp_path: Path
) -> None:
    config = {**tiny_run, "model.checkpoint": str(tmp_path / "secret-name.pth")}
    with pytest.raises(ValueError, match=r"checkpoint .* was wanted") as caught:
        run_federation(InProcessGrid(client_app, config, 2), config)
    assert "secret-name" not in str(caught.value)
    result = (tmp_path / "run" / "result.json").read_text()
    assert "cannot be read as one" in result
    assert "secret-name" not in result


def test_theta_is_refused_by_a_site_that_trains_another_part(tiny_run: Config) -> None:
    config = {**tiny_run, "model.training": "lora"}
    grid = InProcessGrid(client_app, config, 2)
    grid.contexts[1000].run_config["model.training"] = "decoder"
    with pytest.raises(TooFewSites):
        run_federation(grid, config)
