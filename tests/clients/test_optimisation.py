import pytest
import torch

from clients.optimisation import parameter_groups, take_step
from models.hybrid_vit import FoundationClassifier
from models.registry import build_model
from models.transfer import PooledClassifier

RATE = 1e-3


def first_steps(rate: float) -> dict[str, float]:
    model = build_model("sam-tiny", image_size=32, seed=0)
    optimiser = torch.optim.AdamW(parameter_groups(model, rate), weight_decay=0.0)
    for group in optimiser.param_groups:
        group["lr"] = RATE * group["scale"]
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    frames = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    take_step(optimiser, model(frames).square().mean())
    return {
        name: (one.detach() - before[name]).abs().max().item()
        for name, one in model.named_parameters()
        if one.grad is not None
    }


def test_a_transformer_takes_smaller_steps_than_convolutions() -> None:
    # Adam's first step is the learning rate, whatever the gradient.
    steps = first_steps(0.1)
    slow = ("image_encoder.patch_embed.proj.weight", "image_encoder.neck.0.weight")
    slow += ("mask_decoder.transformer.layers.0.mlp.lin1.weight",)
    for name in slow:
        assert steps[name] == pytest.approx(0.1 * RATE, rel=0.01), name
    for name in ("detail.fuse_2.0.weight", "mask_decoder.mask_tokens.weight"):
        assert steps[name] == pytest.approx(RATE, rel=0.01), name


def test_at_the_full_share_all_steps_are_equal() -> None:
    assert first_steps(1.0)["image_encoder.neck.0.weight"] == pytest.approx(
        RATE, rel=0.01
    )


@pytest.mark.parametrize("name", ["unet", "fga-net-small"])
def test_a_network_of_convolutions_has_one_group(name: str) -> None:
    (group,) = parameter_groups(build_model(name, image_size=64, seed=0), 0.1)
    assert group["scale"] == 1.0


@pytest.mark.parametrize("name", ["sam-tiny", "trans-unet-fedefm", "swin-unet"])
def test_every_parameter_is_in_one_group(name: str) -> None:
    model = build_model(name, image_size=64, seed=0)
    fast, slow = sorted(parameter_groups(model, 0.1), key=lambda one: -one["scale"])
    found = [id(one) for group in (fast, slow) for one in group["params"]]
    trained = [id(one) for one in model.parameters() if one.requires_grad]
    assert sorted(found) == sorted(trained)
    assert (fast["scale"], slow["scale"]) == (1.0, 0.1)


def test_a_classifier_knows_the_transformer_that_it_wraps() -> None:
    network = build_model("sam-tiny", image_size=32, seed=0)
    wrapped = PooledClassifier(network, num_labels=3)
    released = FoundationClassifier(image_size=32, num_classes=3)
    for model in (wrapped, released):
        groups = {one["scale"]: one["params"] for one in parameter_groups(model, 0.5)}
        assert groups.keys() == {0.5, 1.0}
        assert any(one is model.head.weight for one in groups[1.0])


def test_frozen_weights_are_in_no_group() -> None:
    model = build_model("sam-tiny", image_size=32, seed=0)
    model.image_encoder.requires_grad_(False)
    model.mask_decoder.transformer.requires_grad_(False)
    (group,) = parameter_groups(model, 0.1)
    assert group["scale"] == 1.0


def test_a_step_clips_the_gradient() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    optimiser = torch.optim.SGD([weight], lr=1.0)
    take_step(optimiser, (weight * torch.tensor([300.0, 400.0])).sum(), clip_norm=0.5)
    assert weight.detach().tolist() == pytest.approx([-0.3, -0.4], abs=1e-4)
