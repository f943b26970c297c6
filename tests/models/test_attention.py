import copy

import pytest
import torch

from models.attention import FusedAttention, fuse_attention
from models.torchvision_ops import make_torchvision_importable

make_torchvision_importable()

from segment_anything.modeling import ImageEncoderViT  # noqa: E402
from segment_anything.modeling.image_encoder import Attention  # noqa: E402


def original(size: tuple[int, int], use_rel_pos: bool = True) -> Attention:
    torch.manual_seed(0)
    layer = Attention(24, num_heads=3, use_rel_pos=use_rel_pos, input_size=size)
    if use_rel_pos:  # they start at zero, where a mistake would not show
        torch.nn.init.normal_(layer.rel_pos_h)
        torch.nn.init.normal_(layer.rel_pos_w)
    return layer


@pytest.mark.parametrize("use_rel_pos", [True, False])
@pytest.mark.parametrize("size", [(4, 4), (3, 5), (1, 6)])
def test_outputs_and_gradients_are_those_of_the_original(
    size: tuple[int, int], use_rel_pos: bool
) -> None:
    layer = original(size, use_rel_pos)
    fused = FusedAttention(copy.deepcopy(layer))
    tokens = torch.randn(2, *size, 24)
    found = []
    for module in (layer, fused):
        inputs = tokens.clone().requires_grad_()
        output = module(inputs)
        output.square().sum().backward()
        grads = {name: one.grad for name, one in module.named_parameters()}
        found.append((output.detach(), inputs.grad, grads))
    torch.testing.assert_close(found[1], found[0], atol=1e-4, rtol=1e-4)


def test_an_encoder_keeps_its_outputs_and_its_keys() -> None:
    torch.manual_seed(0)
    encoder = ImageEncoderViT(
        img_size=96,
        embed_dim=32,
        depth=3,
        num_heads=2,
        out_chans=16,
        use_rel_pos=True,
        window_size=4,  # 6 x 6 patches: windows with padding
        global_attn_indexes=(1,),
    ).eval()
    for name, parameter in encoder.named_parameters():
        if "rel_pos" in name:
            torch.nn.init.normal_(parameter)
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        before, keys = encoder(images), list(encoder.state_dict())
        fuse_attention(encoder)
        after = encoder(images)
    assert list(encoder.state_dict()) == keys
    assert all(isinstance(block.attn, FusedAttention) for block in encoder.blocks)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
