"""sam-mini: convolutions make its tokens, and all it sees goes through its encoder."""

import pytest
import torch
from torch.nn import functional

from models.registry import build_model
from models.sam import Sam
from models.sam_prompts import Prompts
from models.stem import ConvolutionalStem


@pytest.mark.parametrize("patch_size", [2, 8, 16])
def test_a_stem_makes_as_many_tokens_as_patches_would(patch_size: int) -> None:
    stem = ConvolutionalStem(patch_size=patch_size, width=32)
    tokens = stem(torch.rand(2, 3, 64, 32))
    assert tokens.shape == (2, 64 // patch_size, 32 // patch_size, 32)


@pytest.mark.parametrize("patch_size", [0, 1, 12])
def test_patches_that_no_halving_gives_are_refused(patch_size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        ConvolutionalStem(patch_size=patch_size, width=32)


@pytest.fixture
def mini() -> Sam:
    model = build_model("sam-mini", image_size=64, seed=0).eval()
    assert isinstance(model, Sam)
    return model


@torch.no_grad()
def test_without_its_features_sam_mini_sees_nothing(mini: Sam) -> None:
    """Of sam-tiny the detail branch looks at the image itself."""
    first, second = torch.rand(2, 1, 1, 64, 64)
    features = mini.encode(first)
    same = mini.decode(features, second)
    assert torch.equal(mini.decode(features, first), same)
    assert not torch.equal(mini.decode(mini.encode(second), second), same)


@torch.no_grad()
def test_logits_have_half_the_frames_side_before_they_are_enlarged(mini: Sam) -> None:
    image = torch.rand(1, 1, 64, 64)
    low = mini.decode(mini.encode(image), image)
    assert low.shape == (1, 2, 32, 32)
    large = functional.interpolate(low, size=(64, 64), mode="bilinear")
    torch.testing.assert_close(mini(image), large)


@torch.no_grad()
def test_boxes_and_points_change_what_it_answers(mini: Sam) -> None:
    image = torch.rand(1, 1, 64, 64)
    plain = mini(image)
    box = Prompts(boxes=torch.tensor([[8.0, 8.0, 40.0, 40.0]]))
    point = Prompts(
        points=torch.tensor([[[20.0, 20.0]]]), point_labels=torch.tensor([[1]])
    )
    for prompts in (box, point):
        found = mini.forward_with_features(image, prompts).logits
        assert not torch.allclose(found, plain)


def test_the_stem_learns_at_the_full_rate(mini: Sam) -> None:
    slow = {id(one) for part in mini.transformer_parts() for one in part.parameters()}
    stem = {id(one) for one in mini.image_encoder.patch_embed.parameters()}
    blocks = {id(one) for one in mini.image_encoder.blocks.parameters()}
    assert not stem & slow
    assert blocks <= slow
