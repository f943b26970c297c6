from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.assembly import (
    Recipe,
    assemble_model,
    foundation_state,
    frozen_digest,
    merged,
    restore_model,
)
from models.registry import build_model
from models.sam_checkpoint import save_official
from models.training_modes import TRAINING_MODES
from models.weights import WeightsError

SAM = Recipe("sam-tiny", image_size=64, seed=3)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))


def trained(recipe: Recipe) -> dict[str, torch.Tensor]:
    """Weights that travelled, moved away from where they started."""
    generator = torch.Generator().manual_seed(5)
    state = assemble_model(recipe).trainable_state()
    return {
        name: tensor + 0.05 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in state.items()
    }


@pytest.mark.parametrize("mode", TRAINING_MODES)
def test_two_ends_assemble_the_same_network_down_to_its_adapters(mode: str) -> None:
    recipe = replace(SAM, training=mode)
    one, other = (
        assemble_model(recipe).state_dict(),
        assemble_model(recipe).state_dict(),
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("mode", TRAINING_MODES)
def test_a_foundation_model_predicts_what_the_federation_trained(
    mode: str, images: torch.Tensor
) -> None:
    recipe = replace(SAM, training=mode)
    theta = trained(recipe)
    federated = assemble_model(recipe)
    federated.load_trainable_state(theta)
    restored = restore_model(foundation_state(recipe, theta), recipe)
    with torch.no_grad():
        expected, found = federated.eval()(images), restored.eval()(images)
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_merging_leaves_no_adapter_and_does_not_touch_the_original(
    images: torch.Tensor,
) -> None:
    adapted = assemble_model(replace(SAM, training="lora"))
    adapted.load_trainable_state(trained(replace(SAM, training="lora")))
    before = adapted.state_dict().keys()
    plain = merged(adapted)
    assert (
        plain.state_dict().keys()
        == build_model("sam-tiny", image_size=64, seed=0).state_dict().keys()
    )
    assert adapted.state_dict().keys() == before


def test_a_checkpoint_is_where_the_weights_start_and_needs_not_travel(
    tmp_path: Path, images: torch.Tensor
) -> None:
    official = build_model("sam-tiny", image_size=64, seed=77)
    save_official(official, tmp_path / "official.pth")
    recipe = replace(
        SAM, training="lora-decoder", checkpoint=str(tmp_path / "official.pth")
    )
    model = assemble_model(recipe)
    started = official.state_dict()["image_encoder.patch_embed.proj.weight"]
    found = model.state_dict()["image_encoder.patch_embed.proj.weight"]
    assert torch.equal(found, started)

    theta = trained(recipe)
    state = foundation_state(recipe, theta)
    model.load_trainable_state(theta)
    restored = restore_model(state, replace(recipe, checkpoint=""))
    with torch.no_grad():
        torch.testing.assert_close(
            restored.eval()(images), model.eval()(images), atol=1e-5, rtol=1e-5
        )


def test_other_frozen_weights_have_another_fingerprint() -> None:
    lora = replace(SAM, training="lora")
    assert frozen_digest(assemble_model(lora)) == frozen_digest(assemble_model(lora))
    assert frozen_digest(assemble_model(lora)) != frozen_digest(
        assemble_model(replace(lora, seed=4))
    )


def test_what_trains_does_not_belong_to_the_fingerprint() -> None:
    model = assemble_model(replace(SAM, training="decoder"))
    before = frozen_digest(model)
    model.load_trainable_state(trained(replace(SAM, training="decoder")))
    assert frozen_digest(model) == before


def test_auxiliary_heads_are_built_travel_and_come_back() -> None:
    recipe = Recipe("fga-net-small", image_size=64, seed=0, deep_supervision=True)
    theta = trained(recipe)
    assert sum("auxiliary" in name for name in theta) == 10
    restored = restore_model(foundation_state(recipe, theta), recipe)
    assert torch.equal(
        restored.trainable_state()["auxiliary.0.bias"], theta["auxiliary.0.bias"]
    )


def test_what_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="for fga-net-small and fga-net, got"):
        assemble_model(replace(SAM, deep_supervision=True))
    with pytest.raises(ValueError, match="is an official SAM file, but"):
        assemble_model(Recipe("unet", 64, 0, checkpoint=str(tmp_path / "none.pth")))
    with pytest.raises(WeightsError, match="cannot be read") as caught:
        assemble_model(replace(SAM, checkpoint=str(tmp_path / "none.pth")))
    assert str(tmp_path) not in str(caught.value)


def test_weights_of_another_mode_are_refused() -> None:
    lora = replace(SAM, training="lora")
    with pytest.raises(WeightsError, match="were refused"):
        foundation_state(lora, trained(SAM))
    with pytest.raises(WeightsError, match="were refused"):
        restore_model(trained(lora), SAM)
