import json
from pathlib import Path

import pytest
import torch

from experiments.finetuning.finetuned import save_finetuned
from experiments.model_source import ModelSource, open_model
from models.network import SegmentationNetwork
from models.training_modes import choose_trainable
from server.checkpoints import CheckpointError

SIZE = 32
IMAGES = torch.rand(2, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def changed(source: ModelSource, method: str) -> SegmentationNetwork:
    """The network with everything that trains moved a little."""
    torch.manual_seed(3)
    network = choose_trainable(source.network, method, rank=2)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return network.eval()


@pytest.mark.parametrize("method", ["full", "lora", "decoder", "linear-probe"])
def test_a_finetuned_network_predicts_the_same_when_it_is_opened_again(
    tmp_path: Path, method: str
) -> None:
    source = open_model("random", name="sam-tiny", image_size=SIZE, seed=1)
    network = changed(source, method)
    path = save_finetuned(
        tmp_path / "new",
        network,
        source=source,
        task={"domain": "neuro", "data-seed": 4},
        metrics={"test/dice": 0.5},
        training=method,
    )
    opened = open_model(str(path))
    with torch.no_grad():
        assert torch.allclose(opened.network.eval()(IMAGES), network(IMAGES), atol=1e-4)
    assert opened.kind == "finetuned"
    assert opened.data == source.data
    assert opened.card["domains"] == ["neuro"]
    assert opened.card["seed"] == 4
    assert opened.card["training"] == method


def test_the_card_names_the_parent_and_no_path(tmp_path: Path) -> None:
    source = open_model("random", name="unet", image_size=SIZE, seed=1)
    first = save_finetuned(
        tmp_path, source.network, source=source, task={}, metrics={}, training="full"
    )
    parent = open_model(str(first))
    second = save_finetuned(
        tmp_path / "child",
        parent.network,
        source=parent,
        task={},
        metrics={},
        training="full",
    )
    text = second.with_suffix(".json").read_text("utf-8")
    card = json.loads(text)
    assert card["parent"] == {
        "kind": "finetuned",
        "weights-digest": parent.card["weights-digest"],
    }
    assert str(tmp_path) not in text


def test_weights_of_another_run_beside_a_card_are_refused(tmp_path: Path) -> None:
    paths = []
    for seed in (1, 2):
        source = open_model("random", name="unet", image_size=SIZE, seed=seed)
        paths.append(
            save_finetuned(
                tmp_path / str(seed),
                source.network,
                source=source,
                task={},
                metrics={},
                training="full",
            )
        )
    paths[0].write_bytes(paths[1].read_bytes())
    with pytest.raises(CheckpointError, match="digests differ"):
        open_model(str(paths[0]))
