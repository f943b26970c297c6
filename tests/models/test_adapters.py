import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.adapters import add_lora, fuse_qkv, load_lora, merge_lora, split_qkv
from models.registry import build_model
from models.sam import Sam


@pytest.fixture
def model() -> Sam:
    return build_model("sam-tiny", image_size=64, seed=0).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))


def shake_adapters(model: Sam) -> None:
    """Stand in for training: B starts at zero, where an adapter does nothing."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data += 0.1 * noise


def test_rank_four_on_q_and_v_of_vit_b_has_the_papers_number_of_parameters() -> None:
    network = build_model("sam-vit-b", image_size=64, seed=0)
    add_lora(network, rank=4)
    trained = [one for one in network.parameters() if one.requires_grad]
    assert sum(one.numel() for one in trained) == 147_456


def test_splitting_and_fusing_change_no_output(
    model: Sam, images: torch.Tensor
) -> None:
    keys = list(model.state_dict())
    with torch.no_grad():
        before = model(images)
        split_qkv(model)
        torch.testing.assert_close(model(images), before, atol=1e-5, rtol=1e-5)
        fuse_qkv(model)
        assert torch.equal(model(images), before)
    assert list(model.state_dict()) == keys


def test_a_new_adapter_changes_nothing_and_a_trained_one_does(
    model: Sam, images: torch.Tensor
) -> None:
    with torch.no_grad():
        before = model(images)
        add_lora(model)
        torch.testing.assert_close(model(images), before, atol=1e-5, rtol=1e-5)
        shake_adapters(model)
        assert not torch.allclose(model(images), before, atol=1e-2)


def test_only_adapters_get_gradients(model: Sam, images: torch.Tensor) -> None:
    add_lora(model)
    shake_adapters(model)
    model(images).square().mean().backward()
    trained = {name for name, one in model.named_parameters() if one.grad is not None}
    assert trained
    assert all(
        ".lora_" in name and (".q." in name or ".v." in name) for name in trained
    )


def test_merging_keeps_the_outputs_and_the_original_keys(
    model: Sam, images: torch.Tensor
) -> None:
    keys = list(model.state_dict())
    adapted = add_lora(model)
    shake_adapters(model)
    with torch.no_grad():
        before = model(images)
        merged = merge_lora(adapted)
        torch.testing.assert_close(merged(images), before, atol=1e-5, rtol=1e-5)
    assert list(merged.state_dict()) == keys


def test_an_adapter_is_saved_and_loaded_as_peft_does_it(
    model: Sam, images: torch.Tensor, tmp_path: Path
) -> None:
    plain = copy.deepcopy(model)
    adapted = add_lora(model)
    shake_adapters(model)
    adapted.save_pretrained(str(tmp_path))
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 4)
    assert len(saved) == 2 * 2 * len(model.image_encoder.blocks)
    load_lora(plain, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(plain(images), model(images))


def test_adapters_are_not_thrown_away_by_fusing(model: Sam) -> None:
    add_lora(model)
    with pytest.raises(ValueError, match="call merge_lora"):
        fuse_qkv(model)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        add_lora(model, rank=0)
