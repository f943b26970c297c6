"""Facts of FedEFM's foundation model, which pin it down, and TransUNet around it."""

import pytest
import torch
from torch import nn

from models.cost import count_parameters
from models.hybrid_vit import FoundationClassifier, HybridViT
from models.trans_unet import TransUNet, build_trans_unet, build_trans_unet_fedefm


def test_the_foundation_model_has_the_parameters_that_were_counted() -> None:
    with torch.device("meta"):
        model = FoundationClassifier()
    encoder = model.encoder
    layer = 4 * (768 * 768 + 768) + (2 * 768 * 1024 + 768 + 1024) + 4 * 768
    transformer = count_parameters(encoder.blocks) + count_parameters(encoder.norm)
    assert transformer == 8 * layer + 2 * 768  # 31.5 M
    assert count_parameters(encoder.stem) / 1e6 == pytest.approx(11.9, abs=0.05)
    embeddings = count_parameters(encoder.embed) + encoder.positions.numel()
    assert embeddings == (1024 * 768 + 768) + 16 * 16 * 768  # 1.0 M
    assert count_parameters(model.head) == 768 * 6 + 6
    assert count_parameters(model) / 1e6 == pytest.approx(44.4, abs=0.05)


def test_the_encoder_drops_out_as_published() -> None:
    with torch.device("meta"):
        encoder = HybridViT(image_size=256)
    assert encoder.dropout.p == 0.1
    for block in encoder.blocks:
        assert block.mlp.drop1.p == block.mlp.drop2.p == 0.1
        assert block.attn.attn_drop.p == 0
        assert block.attn.num_heads == 8
    groups = {
        one.num_groups for one in encoder.modules() if isinstance(one, nn.GroupNorm)
    }
    assert groups == {32}


def test_tokens_lie_on_a_grid_and_skips_grow_towards_the_frame() -> None:
    encoder = HybridViT(image_size=64, depth=1).eval()
    found = encoder(torch.rand(2, 3, 64, 64))
    assert found.tokens.shape == (2, 768, 4, 4)
    shapes = [tuple(one.shape[1:]) for one in found.skips]
    assert shapes == [(512, 8, 8), (256, 16, 16), (64, 32, 32)]


def test_a_token_keeps_its_place_on_the_grid() -> None:
    encoder = HybridViT(image_size=64, depth=0).eval()
    with torch.no_grad():
        nn.init.zeros_(encoder.embed.weight)
        nn.init.zeros_(encoder.embed.bias)
        encoder.positions.zero_()
        encoder.positions[0, 6, 0] = 1  # row 1, column 2 of a grid of four
        tokens = encoder(torch.zeros(1, 3, 64, 64)).tokens[0, 0]
    assert tokens.argmax() == 6
    assert tokens[1, 2] > 0
    assert tokens.count_nonzero() == 1


def test_the_released_code_classifies_by_the_top_left_token_alone() -> None:
    torch.manual_seed(0)
    model = FoundationClassifier(image_size=32, first_token=True).eval()
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        tokens = model.encoder(images.expand(-1, 3, -1, -1)).tokens
        by_one = model(images)
        assert by_one.shape == (2, 6)
        torch.testing.assert_close(by_one, model.head(tokens[:, :, 0, 0]))
        model.first_token = False
        torch.testing.assert_close(model(images), model.head(tokens.mean(dim=(2, 3))))


def test_the_encoder_of_the_foundation_model_fits_into_the_downstream_network() -> None:
    with torch.device("meta"):
        foundation = FoundationClassifier(image_size=256)
        downstream = build_trans_unet_fedefm(image_size=256, num_classes=3)
    shapes = [
        {name: one.shape for name, one in network.encoder.state_dict().items()}
        for network in (foundation, downstream)
    ]
    assert shapes[0] == shapes[1]


def test_trans_unet_has_the_size_of_its_vision_transformer_base() -> None:
    with torch.device("meta"):
        network = build_trans_unet(image_size=224, num_classes=9)
    layer = 4 * (768 * 768 + 768) + (2 * 768 * 3072 + 768 + 3072) + 4 * 768
    assert count_parameters(network.encoder.blocks) == 12 * layer
    assert count_parameters(network) / 1e6 == pytest.approx(105.28, abs=0.01)


@pytest.mark.parametrize("num_skips", [0, 1, 2, 3])
def test_each_skip_makes_the_decoder_wider(num_skips: int) -> None:
    encoder = HybridViT(image_size=32, depth=1)
    network = TransUNet(encoder=encoder, num_skips=num_skips)
    joined = [one[0][0].in_channels for one in network.up]
    expected = [512, 256, 128, 64]
    for stage, skip in enumerate((512, 256, 64)[:num_skips]):
        expected[stage] += skip
    assert joined == expected
    assert network(torch.rand(2, 1, 32, 32)).shape == (2, 1, 32, 32)


def test_skips_and_widths_that_do_not_exist_are_refused() -> None:
    encoder = HybridViT(image_size=32, depth=0)
    with pytest.raises(ValueError, match="0 to 3, got 4"):
        TransUNet(encoder=encoder, num_skips=4)
    with pytest.raises(ValueError, match="four numbers"):
        TransUNet(encoder=encoder, widths=(8, 8))
    with pytest.raises(ValueError, match="multiple of 16, at least 32, got 40"):
        HybridViT(image_size=40)
