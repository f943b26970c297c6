import json
from pathlib import Path

import pytest
import torch

from experiments.model_source import open_model
from models.assembly import Recipe, assemble_model
from models.registry import build_model
from models.sam_checkpoint import save_official
from server.checkpoints import CheckpointError, FoundationCard, save_foundation


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    model = build_model("sam-tiny", image_size=64, seed=3)
    card = FoundationCard(
        model_name="sam-tiny",
        image_size=64,
        seed=3,
        rounds=1,
        sites=(),
        settings={"data.normalise": "z-score", "data.frame-size": 0},
    )
    return save_foundation(tmp_path, model.trainable_state(), card)


def test_a_checkpoint_brings_its_network_and_how_frames_are_prepared(
    checkpoint: Path,
) -> None:
    source = open_model(str(checkpoint))
    expected = assemble_model(Recipe("sam-tiny", 64, 3)).state_dict()
    found = source.network.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert source.kind == "foundation"
    assert (source.data.normalise, source.data.frame_size) == ("z-score", 64)
    assert source.data.augmentation == "light"  # what the card leaves out


def test_an_official_file_and_chance_need_a_name(tmp_path: Path) -> None:
    save_official(build_model("sam-tiny", image_size=64, seed=9), tmp_path / "a.pth")
    official = open_model(str(tmp_path / "a.pth"), name="sam-tiny", image_size=32)
    assert official.kind == "official"
    assert official.network.image_size == 32
    drawn = open_model("random", name="unet", image_size=32, seed=4)
    expected = build_model("unet", image_size=32, seed=4).state_dict()
    assert all(
        torch.equal(tensor, expected[name])
        for name, tensor in drawn.network.state_dict().items()
    )


def test_pickles_and_missing_files_are_refused_without_their_path(
    tmp_path: Path,
) -> None:
    with pytest.raises(CheckpointError, match="Pickles are not read"):
        open_model(str(tmp_path / "secret.pkl"))
    for name in ("secret.safetensors", "secret.pth"):
        with pytest.raises(CheckpointError) as caught:
            open_model(str(tmp_path / name), name="sam-tiny", image_size=32)
        assert "secret" not in str(caught.value)


def test_another_network_size_or_version_is_one_clear_error(checkpoint: Path) -> None:
    path = checkpoint.with_suffix(".json")
    card = json.loads(path.read_text())
    for changes, words in (
        ({"model-name": "unet"}, "were refused"),
        ({"model-name": "sam-huge"}, "does not know"),
        ({"image-size": 128}, "were refused"),
        ({"format": 99}, "format 99"),
    ):
        path.write_text(json.dumps({**card, **changes}))
        with pytest.raises(CheckpointError, match=words):
            open_model(str(checkpoint))
    del card["seed"]
    path.write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="lacks 'seed'"):
        open_model(str(checkpoint))
