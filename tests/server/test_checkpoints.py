import math
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.weights import save_weights, weights_digest
from server.checkpoints import (
    CheckpointError,
    FoundationCard,
    SiteCard,
    load_foundation,
    save_foundation,
)

CREATED = datetime(2026, 11, 21, 13, 5, 1, tzinfo=UTC)


def make_state(value: float = 1.0) -> dict[str, Tensor]:
    return {"decoder.weight": torch.full((2, 3), value), "decoder.bias": torch.zeros(2)}


def make_card() -> FoundationCard:
    return FoundationCard(
        model_name="sam-tiny",
        image_size=128,
        seed=7,
        rounds=8,
        sites=(
            SiteCard("b", "d" * 64, {"train": 40, "val": 8, "test": 8}, "phantom"),
            SiteCard("a", "e" * 64, {"train": 30, "val": 6, "test": 6}, "animal"),
            SiteCard("c", "", {"train": 10}),
        ),
        settings={"output": "/home/alice/run", "sites": "", "seed": 7},
        test={"a": {"test/dice": 0.5}},
        overall={"test/dice": 0.5, "test/cldice": math.nan},
    )


def test_the_foundation_comes_back_bit_for_bit_with_its_card(tmp_path: Path) -> None:
    path = save_foundation(tmp_path, make_state(), make_card(), created=CREATED)
    state, card = load_foundation(path)
    assert path == tmp_path / "checkpoints" / "foundation.safetensors"
    assert state.keys() == make_state().keys()
    for name, tensor in make_state().items():
        assert torch.equal(state[name], tensor)
    assert card["model-name"] == "sam-tiny"
    assert card["image-size"] == 128
    assert card["seed"] == 7
    assert card["rounds"] == 8
    assert card["domains"] == ["animal", "phantom"]
    assert card["created"] == "2026-11-21T13:05:01+00:00"
    assert card["weights-digest"] == weights_digest(make_state())
    assert card["sites"][0] == {
        "name": "b",
        "data-digest": "d" * 64,
        "num-frames": {"train": 40, "val": 8, "test": 8},
        "domain": "phantom",
    }
    assert card["metrics"]["global"] == {"test/dice": 0.5, "test/cldice": None}
    versions = card["versions"]
    assert versions["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"python", "flwr", "endofed"} <= versions.keys()


def test_the_card_says_that_it_is_no_medical_device_and_names_no_path(
    tmp_path: Path,
) -> None:
    path = save_foundation(tmp_path, make_state(), make_card())
    text = path.with_suffix(".json").read_text()
    assert "Research use only" in text
    assert "Not a medical device" in text
    assert "alice" not in text
    assert str(tmp_path) not in text


def test_exchanged_weights_do_not_pass_for_those_of_the_card(tmp_path: Path) -> None:
    path = save_foundation(tmp_path, make_state(1.0), make_card())
    save_weights(path, make_state(1.0 + 2**-20))
    with pytest.raises(CheckpointError, match="digests differ"):
        load_foundation(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "got none"),
        ("{", "no JSON"),
        ("[]", "another JSON"),
        ('{"format": 99, "weights-digest": ""}', "got format 99"),
    ],
)
def test_a_card_that_cannot_be_read_is_reported_without_its_path(
    tmp_path: Path, content: str | None, message: str
) -> None:
    path = save_foundation(tmp_path, make_state(), make_card())
    card = path.with_suffix(".json")
    card.unlink()
    if content is not None:
        card.write_text(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_foundation(path)
    assert str(tmp_path) not in str(caught.value)
