"""What a foundation that tells data types apart is good for: its encoder."""

from pathlib import Path

import pytest
import torch

from experiments.finetuning.fewshot import FinetuneSettings, FinetuneTask
from experiments.finetuning.methods import starting_point
from experiments.model_source import ModelSource, open_model
from models.assembly import Recipe, assemble_model, foundation_state
from models.sam import Sam
from server.checkpoints import FoundationCard, save_foundation

RECIPE = Recipe("sam-tiny", image_size=32, seed=3, num_labels=2)
NAME = "image_encoder.blocks.0.mlp.lin1.weight"


@pytest.fixture
def pretext(tmp_path: Path) -> ModelSource:
    model = assemble_model(RECIPE)
    card = FoundationCard(
        model_name="sam-tiny",
        image_size=32,
        seed=3,
        rounds=1,
        sites=(),
        settings={
            "model.task": "source-classification",
            "model.data-types": "human, animal",
        },
    )
    path = save_foundation(
        tmp_path, foundation_state(RECIPE, model.trainable_state()), card
    )
    return open_model(str(path))


def test_it_is_opened_as_the_classifier_that_it_is(pretext: ModelSource) -> None:
    assert pretext.labels == ("animal", "human")
    expected = assemble_model(RECIPE).eval()
    images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = pretext.network.eval()(images)
        assert torch.equal(found, expected(images))
    assert found.shape == (2, 2)


def test_a_network_that_segments_starts_from_its_whole_encoder(
    pretext: ModelSource,
) -> None:
    settings = FinetuneSettings(shots=(1,), seeds=(0,))
    task = FinetuneTask(1, "full", "foundation", seed=0)
    start = starting_point(pretext, settings, task)
    assert isinstance(start.network, Sam)
    assert start.transfer is not None
    assert start.transfer.parameters == start.transfer.encoder_parameters
    learnt = pretext.network.state_dict()[f"network.{NAME}"]
    assert torch.equal(start.network.state_dict()[NAME], learnt)
    assert start.network(torch.zeros(1, 1, 32, 32)).shape == (1, 2, 32, 32)
    assert NAME in start.learnt
