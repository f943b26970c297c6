import pytest
import torch

from models.registry import build_model
from models.transfer import (
    PooledClassifier,
    TransferError,
    encoder_parameters,
    transfer_encoder,
)

SIZE = 32


def test_what_the_deepest_features_depend_on_is_the_encoder() -> None:
    network = build_model("unet", image_size=SIZE, seed=0).eval()
    images = torch.rand(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    found = encoder_parameters(network)
    named = dict(network.named_parameters())
    assert 0 < len(found) < len(named)
    with torch.no_grad():
        before = network.forward_with_features(images).features.clone()
        for name in named.keys() - found:
            named[name].add_(0.5)
        assert torch.equal(network.forward_with_features(images).features, before)
        named[sorted(found)[0]].add_(0.5)
        assert not torch.equal(network.forward_with_features(images).features, before)


def test_the_encoder_of_a_sam_is_its_image_encoder() -> None:
    network = build_model("sam-tiny", image_size=SIZE, seed=0)
    found = encoder_parameters(network)
    assert all(name.startswith("image_encoder.") for name in found)
    output = network.forward_with_features(torch.zeros(1, 1, SIZE, SIZE))
    trained = [(n, one) for n, one in network.named_parameters() if one.requires_grad]
    gradients = torch.autograd.grad(
        output.features.sum(), [one for _, one in trained], allow_unused=True
    )
    reached = {
        n for (n, _), one in zip(trained, gradients, strict=True) if one is not None
    }
    assert found == reached


def test_looking_for_the_encoder_changes_no_statistics() -> None:
    network = build_model("unet", image_size=SIZE, seed=0)
    before = {name: one.clone() for name, one in network.state_dict().items()}
    encoder_parameters(network)
    assert network.training
    assert all(torch.equal(one, before[n]) for n, one in network.state_dict().items())


def test_an_encoder_under_another_name_is_found_and_only_the_encoder_is_copied() -> (
    None
):
    target = build_model("unet", image_size=SIZE, seed=0)
    other = build_model("unet", image_size=SIZE, seed=1)
    before = {name: one.clone() for name, one in target.state_dict().items()}
    source = {f"backbone.net.{name}": one for name, one in other.state_dict().items()}
    encoder = encoder_parameters(target)
    found = transfer_encoder(target, source)
    assert encoder <= found.names
    for name, one in target.state_dict().items():
        wanted = other.state_dict()[name] if name in found.names else before[name]
        assert torch.equal(one, wanted)
    assert not any(name.startswith("head") for name in found.names)
    assert found.parameters == found.encoder_parameters
    assert "100.0% of the encoder" in found.sentence()


def test_tensors_that_look_alike_in_other_places_are_not_gathered() -> None:
    target = build_model("unet", image_size=SIZE, seed=0)
    state = target.state_dict()
    deep = sorted(encoder_parameters(target), key=lambda name: state[name].numel())
    big, small = deep[-1], next(n for n in deep if state[n].numel() < 100)
    source = {f"a.{big}": torch.ones_like(state[big])}
    source[f"b.{small}"] = torch.ones_like(state[small])
    found = transfer_encoder(target, source)
    assert big in found.names
    assert small not in found.names


def test_a_network_without_anything_in_common_is_refused() -> None:
    target = build_model("unet", image_size=SIZE, seed=0)
    with pytest.raises(TransferError, match="nothing can be transferred"):
        transfer_encoder(target, {"down.0.weight": torch.zeros(7, 7)})


def test_a_label_comes_from_the_mean_of_the_features() -> None:
    network = build_model("unet", image_size=SIZE, seed=0)
    classifier = PooledClassifier(network, 3).eval()
    images = torch.rand(2, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = classifier(images)
        features = network.forward_with_features(images).features
        mean = features.flatten(2).mean(dim=2)
        wanted = mean @ classifier.head.weight.T + classifier.head.bias
    assert logits.shape == (2, 3)
    assert torch.allclose(logits, wanted, atol=1e-6)
    with pytest.raises(ValueError, match="two labels"):
        PooledClassifier(network, 1)
