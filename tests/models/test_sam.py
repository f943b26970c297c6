import pytest
import torch

from models.registry import build_model
from models.sam import Sam


@pytest.fixture(scope="module")
def model() -> Sam:
    return build_model("sam-tiny", image_size=64, seed=0).eval()


@pytest.fixture(scope="module")
def plain_model() -> Sam:
    """The original architecture: no detail branch."""
    model = build_model("sam-tiny", image_size=64, seed=0).eval()
    model.detail = None
    model.logit_bias = None
    return model


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(1))


def test_the_tiny_sam_has_about_three_million_parameters() -> None:
    model = build_model("sam-tiny", image_size=128, seed=0)
    total = sum(parameter.numel() for parameter in model.parameters())
    assert 2.5e6 < total < 3.5e6


def test_one_logit_map_comes_out_for_each_class(
    model: Sam, images: torch.Tensor
) -> None:
    output = model.forward_with_features(images)
    assert output.logits.shape == (3, 2, 64, 64)
    assert output.features.shape == (3, 128, 4, 4)
    assert torch.equal(output.logits, model(images))


def test_the_batched_decoder_equals_the_original_image_by_image(
    plain_model: Sam, images: torch.Tensor
) -> None:
    model = plain_model
    with torch.no_grad():
        features = model.encode(images)
        ours = model.decode(features, images)
        assert ours.shape == (3, 2, 16, 16)
        sparse, dense = model.prompt_encoder(points=None, boxes=None, masks=None)
        for index in range(len(images)):
            # With no prompt the encoder returns an empty batch of tokens.
            masks, _ = model.mask_decoder(
                image_embeddings=features[index : index + 1],
                image_pe=model.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=True,
            )
            torch.testing.assert_close(ours[index], masks[0], atol=1e-4, rtol=1e-4)


def test_an_image_is_segmented_alike_alone_and_in_a_batch(
    model: Sam, images: torch.Tensor
) -> None:
    with torch.no_grad():
        torch.testing.assert_close(
            model(images)[1:2], model(images[1:2]), atol=1e-4, rtol=1e-4
        )


def test_the_detail_branch_decides_at_half_the_image_size(
    model: Sam, images: torch.Tensor
) -> None:
    with torch.no_grad():
        assert model.decode(model.encode(images), images).shape == (3, 2, 32, 32)


def test_the_detail_branch_sees_what_patches_average_away(
    model: Sam, plain_model: Sam
) -> None:
    # The encoder is made blind, so that only the detail branch can tell them apart.
    features = torch.zeros(1, 128, 4, 4)
    empty = torch.full((1, 1, 64, 64), 0.5)
    wire = empty.clone()
    wire[..., 31] = 0.0
    with torch.no_grad():
        blind = plain_model.decode(features, empty) - plain_model.decode(features, wire)
        seen = (model.decode(features, empty) - model.decode(features, wire)).abs()
    assert not bool(blind.any())
    column = seen.amax((0, 1, 2))  # by column, at half size
    assert int(column.argmax()) in range(12, 20)
    assert column.max() > 2 * column[:8].max()


def test_before_training_little_is_taken_for_a_device() -> None:
    model = build_model("sam-tiny", image_size=64, seed=0)
    assert model.logit_bias is not None
    assert model.logit_bias.flatten().sigmoid().tolist() == pytest.approx([0.02, 0.02])
    assert "logit_bias" in model.trainable_state()
    with torch.no_grad():
        probabilities = model(torch.rand(2, 1, 64, 64)).sigmoid()
    assert probabilities.mean() < 0.1


@pytest.mark.parametrize("prior", [0.0, 1.0, -1.0])
def test_a_prior_that_is_no_share_is_refused(model: Sam, prior: float) -> None:
    with pytest.raises(ValueError, match="foreground_prior must be between 0 and 1"):
        Sam(
            image_encoder=model.image_encoder,
            prompt_encoder=model.prompt_encoder,
            mask_decoder=model.mask_decoder,
            num_classes=2,
            foreground_prior=prior,
        )


def test_every_trainable_parameter_receives_a_gradient_and_no_other() -> None:
    model = build_model("sam-tiny", image_size=64, seed=0)
    model(torch.rand(2, 1, 64, 64)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_grey_pixels_get_the_normalisation_of_sam(model: Sam) -> None:
    seen: list[torch.Tensor] = []
    hook = model.image_encoder.patch_embed.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0])
    )
    with torch.no_grad():
        model.encode(torch.full((1, 1, 64, 64), 0.5))
    hook.remove()
    red, green, blue = seen[0][0, :, 0, 0].tolist()
    assert red == pytest.approx((127.5 - 123.675) / 58.395, abs=1e-5)
    assert green == pytest.approx((127.5 - 116.28) / 57.12, abs=1e-5)
    assert blue == pytest.approx((127.5 - 103.53) / 57.375, abs=1e-5)


def test_the_same_seed_gives_the_same_weights_and_leaves_torch_alone() -> None:
    before = torch.random.get_rng_state()
    first = build_model("sam-tiny", image_size=64, seed=7).state_dict()
    second = build_model("sam-tiny", image_size=64, seed=7).state_dict()
    other = build_model("sam-tiny", image_size=64, seed=8).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_weights_move_from_one_model_to_another(images: torch.Tensor) -> None:
    source = build_model("sam-tiny", image_size=64, seed=1).eval()
    target = build_model("sam-tiny", image_size=64, seed=2).eval()
    # The random position code does not train: it must come with the seed.
    target.prompt_encoder.load_state_dict(source.prompt_encoder.state_dict())
    target.load_trainable_state(source.trainable_state())
    with torch.no_grad():
        assert torch.equal(source(images), target(images))


def test_weights_of_another_network_are_refused() -> None:
    model = build_model("sam-tiny", image_size=64, seed=0)
    state = model.trainable_state()
    state.pop(next(iter(state)))
    with pytest.raises(KeyError, match="differ from the model in 1 names"):
        model.load_trainable_state(state)


def test_images_of_another_size_are_refused(model: Sam) -> None:
    with pytest.raises(ValueError, match=r"\(batch, 1, 64, 64\), got \(1, 1, 32, 32\)"):
        model(torch.zeros(1, 1, 32, 32))


@pytest.mark.parametrize("size", [0, 100, -16])
def test_a_size_that_patches_cannot_tile_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        build_model("sam-tiny", image_size=size, seed=0)


def test_an_unknown_model_is_refused_with_the_list_of_known_ones() -> None:
    with pytest.raises(ValueError, match=r"one of sam-tiny, .*, got 'u-net'"):
        build_model("u-net", image_size=64, seed=0)
