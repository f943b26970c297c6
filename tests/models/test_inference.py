"""What is rewritten for prediction predicts the same."""

import pytest
import torch
from torch import nn

from models.inference import optimise_for_inference
from models.registry import build_model


def trained(name: str) -> nn.Module:
    network = build_model(name, image_size=64, seed=0).train()
    with torch.no_grad():  # statistics of their own
        network(torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)))
    return network.eval()


@pytest.mark.parametrize("name", ["unet", "fga-net-small", "ce-net"])
def test_folded_networks_give_the_same_logits(name: str) -> None:
    network = trained(name)
    images = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network(images)
        found = optimise_for_inference(network)(images)
        exact = network.double()(images.double())
        exact_found = optimise_for_inference(network)(images.double())
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    torch.testing.assert_close(exact_found, exact, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["unet", "fga-net-small"])
def test_no_batch_normalisation_is_left(name: str) -> None:
    fast = optimise_for_inference(trained(name))
    assert not any(isinstance(one, nn.BatchNorm2d) for one in fast.modules())


def test_the_original_stays_as_it_was_and_can_train_on() -> None:
    network = trained("fga-net-small").train()
    before = {name: one.clone() for name, one in network.state_dict().items()}
    fast = optimise_for_inference(network)
    assert network.training
    assert not fast.training
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], one) for name, one in before.items())
    assert all(one.requires_grad for one in network.parameters())


def test_statistics_of_the_batch_are_not_folded() -> None:
    layers = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)
    fast = optimise_for_inference(nn.Sequential(*layers))
    assert isinstance(fast[1], nn.BatchNorm2d)
