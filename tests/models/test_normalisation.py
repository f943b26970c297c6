"""Which tensors FedBN keeps at the silos."""

import pytest
import torch
from torch import Tensor, nn

from models.network import SegmentationNetwork, SegmentationOutput
from models.normalisation import LAYERS, normalisation_names
from models.registry import build_model


class Stack(SegmentationNetwork):
    """Layers by name."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward_with_features(self, images: Tensor) -> SegmentationOutput:
        return SegmentationOutput(images, images)


def test_batch_normalisation_has_its_running_statistics_beside_its_weights() -> None:
    model = Stack(norm=nn.BatchNorm2d(2), convolution=nn.Conv2d(2, 2, 1))
    assert normalisation_names(model) == {
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
    }


@pytest.mark.parametrize("layer", [nn.LayerNorm(2), nn.GroupNorm(1, 2)])
def test_what_transformers_have_instead_counts_too(layer: nn.Module) -> None:
    model = Stack(block=nn.Sequential(nn.Linear(2, 2), layer))
    assert normalisation_names(model) == {"block.1.weight", "block.1.bias"}


def test_a_layer_without_weights_has_nothing_to_keep() -> None:
    model = Stack(
        plain=nn.LayerNorm(2, elementwise_affine=False),
        bare=nn.BatchNorm2d(2, affine=False, track_running_stats=False),
    )
    assert normalisation_names(model) == frozenset()


def test_frozen_layers_do_not_travel_and_are_not_named() -> None:
    model = Stack(norm=nn.LayerNorm(2), head=nn.Linear(2, 2))
    for parameter in model.norm.parameters():
        parameter.requires_grad_(requires_grad=False)
    assert normalisation_names(model) == frozenset()


@pytest.mark.parametrize(
    ("name", "size"), [("unet", 32), ("sam-tiny", 32), ("fga-net-small", 64)]
)
def test_our_networks_keep_every_normalisation_and_nothing_else(
    name: str, size: int
) -> None:
    model = build_model(name, image_size=size, seed=0)
    names = normalisation_names(model)
    assert names < model.trainable_state().keys()
    assert names
    for prefix, part in model.named_modules():
        own = {
            f"{prefix}.{name}"
            for name, parameter in part.named_parameters(recurse=False)
            if parameter.requires_grad
        }
        if isinstance(part, LAYERS):
            assert own <= names
        else:
            assert not own & names, type(part)
        # Whatever normalises is in the list: nobody's class may be forgotten.
        assert isinstance(part, LAYERS) == ("norm" in type(part).__name__.lower())


def test_scaling_by_a_statistic_is_local_in_a_trained_network() -> None:
    model = Stack(norm=nn.BatchNorm2d(1)).train()
    model.norm(torch.full((2, 1, 1, 1), 5.0))
    assert model.trainable_state()["norm.running_mean"].item() == pytest.approx(0.5)
    assert "norm.running_mean" in normalisation_names(model)
