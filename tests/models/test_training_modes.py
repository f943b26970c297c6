import pytest
import torch

from models.linear_probe import LinearProbe
from models.prompt_layers import PromptedEncoderNetwork
from models.registry import build_model
from models.sam_sizes import build_sam
from models.training_modes import TRAINING_MODES, choose_trainable


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))


def trained_names(network: torch.nn.Module) -> set[str]:
    return {name for name, one in network.named_parameters() if one.requires_grad}


@pytest.mark.parametrize("mode", TRAINING_MODES)
def test_what_is_said_to_train_gets_gradients_and_nothing_else(
    mode: str, images: torch.Tensor
) -> None:
    network = choose_trainable(build_model("sam-tiny", image_size=64, seed=0), mode)
    network(images).square().mean().backward()
    moved = {name for name, one in network.named_parameters() if one.grad is not None}
    assert moved == trained_names(network) != set()
    assert network(images).shape == (2, 2, 64, 64)


def test_each_mode_trains_its_part() -> None:
    full = trained_names(build_model("sam-tiny", image_size=64, seed=0))
    parts = {
        mode: trained_names(
            choose_trainable(build_model("sam-tiny", image_size=64, seed=0), mode)
        )
        for mode in TRAINING_MODES
    }
    decoder = {name for name in full if not name.startswith("image_encoder.")}
    assert parts["full"] == full
    assert parts["decoder"] == decoder
    assert all(".lora_" in name for name in parts["lora"])
    assert parts["lora-decoder"] == parts["lora"] | decoder
    assert parts["linear-probe"] == {"probe.weight", "probe.bias"}


def test_only_what_trains_travels() -> None:
    network = choose_trainable(build_model("sam-tiny", image_size=64, seed=0), "lora")
    assert set(network.trainable_state()) == trained_names(network)


def test_unknown_modes_and_other_networks_are_refused() -> None:
    sam = build_model("sam-tiny", image_size=64, seed=0)
    with pytest.raises(ValueError, match="one of full, lora"):
        choose_trainable(sam, "half")
    with pytest.raises(ValueError, match="for the SAM family"):
        choose_trainable(build_model("fga-net-small", image_size=64, seed=0), "lora")


def test_the_coarse_network_trains_the_papers_number_of_parameters() -> None:
    with torch.device("meta"):
        sam = build_sam("sam-vit-b", image_size=1024, num_classes=2)
        network = PromptedEncoderNetwork(sam)
    trained = [one for one in network.parameters() if one.requires_grad]
    assert sum(one.numel() for one in trained) == 3_764_274
    assert sum(one.numel() for one in network.prompts[0].parameters()) == 299_904


def test_silent_prompt_layers_leave_the_encoder_as_it_was(images: torch.Tensor) -> None:
    sam = build_model("sam-tiny", image_size=64, seed=0).eval()
    with torch.no_grad():
        expected = sam.encode(images)
        silent = PromptedEncoderNetwork(sam, zero_init=True).eval()
        loud = PromptedEncoderNetwork(sam).eval()
        assert torch.equal(silent.forward_with_features(images).features, expected)
        heard = loud.forward_with_features(images).features
    assert not torch.allclose(heard, expected, atol=1e-3)


def test_a_probe_sees_the_features_and_leaves_them_alone(images: torch.Tensor) -> None:
    sam = build_model("sam-tiny", image_size=64, seed=0)
    probe = LinearProbe(sam)
    output = probe.forward_with_features(images)
    assert output.logits.shape == (2, 2, 64, 64)
    torch.testing.assert_close(output.features, sam.encode(images))
