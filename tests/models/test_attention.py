import copy

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from models import block_attention
from models.attention import FusedAttention, fuse_attention
from models.block_attention import attend_in_blocks
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


def gradients_of(module: torch.nn.Module, tokens: torch.Tensor) -> list[torch.Tensor]:
    inputs = tokens.clone().requires_grad_()
    output = module(inputs)
    output.square().sum().backward()
    weights = [one.grad for one in module.parameters()]
    return [output.detach(), inputs.grad, *weights]


@pytest.mark.parametrize("block_bytes", [1, 1000, 2000, 4000, 10**6])
def test_the_size_of_a_block_changes_nothing(
    block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 15 tokens: a row of the matrix has 60 bytes, one head 900, all six 5400.
    layer = original((3, 5))
    fused = FusedAttention(copy.deepcopy(layer))
    tokens = torch.randn(2, 3, 5, 24)
    expected = gradients_of(layer, tokens)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(block_attention, "BLOCK_BYTES", block_bytes)
    found = gradients_of(fused, tokens)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_widths_of_vit_b_agree_with_the_original() -> None:
    torch.manual_seed(0)
    layer = Attention(768, num_heads=12, use_rel_pos=True, input_size=(16, 16))
    torch.nn.init.normal_(layer.rel_pos_h, std=0.1)
    torch.nn.init.normal_(layer.rel_pos_w, std=0.1)
    fused = FusedAttention(copy.deepcopy(layer))
    tokens = torch.randn(1, 24, 24, 768)  # another size: the tables are resized
    expected, found = gradients_of(layer, tokens), gradients_of(fused, tokens)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_huge_logits_stay_finite_and_equal() -> None:
    layer = original((4, 4))
    torch.nn.init.normal_(layer.rel_pos_h, std=300.0)
    fused = FusedAttention(copy.deepcopy(layer))
    tokens = torch.randn(2, 4, 4, 24)
    with torch.no_grad():
        torch.testing.assert_close(fused(tokens), layer(tokens), atol=1e-4, rtol=1e-4)
    assert all(one.isfinite().all() for one in gradients_of(fused, tokens))


def parts(dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 6, 4)] * 3 + [(2, 6, 2), (2, 6, 3)]
    return [
        torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()
        for shape in shapes
    ]


def test_gradients_are_those_of_finite_differences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(block_attention, "BLOCK_BYTES", 200)  # 4 of 6 queries
    assert torch.autograd.gradcheck(
        lambda *inputs: attend_in_blocks(*inputs, 0.5)[0], parts(torch.float64)
    )


def test_the_operator_keeps_the_rules_of_pytorch() -> None:
    torch.library.opcheck(attend_in_blocks, (*parts(torch.float32), 0.5))


def test_compiled_attention_is_the_same_in_one_graph() -> None:
    fused = FusedAttention(original((3, 5)))
    tokens = torch.randn(2, 3, 5, 24)
    expected = gradients_of(fused, tokens)
    fused.zero_grad()
    # aot_eager traces forward and backward as usual, and needs no compiler of C++.
    compiled = torch.compile(fused, backend="aot_eager", fullgraph=True)
    found = gradients_of(compiled, tokens)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_checkpointing_changes_no_gradient() -> None:
    fused = FusedAttention(original((3, 5)))
    tokens = torch.randn(2, 3, 5, 24, requires_grad=True)
    found = []
    for output in (fused(tokens), checkpoint(fused, tokens, use_reentrant=False)):
        output.square().sum().backward()
        found.append([tokens.grad, *(one.grad for one in fused.parameters())])
        tokens.grad = None
        fused.zero_grad()
    torch.testing.assert_close(found[1], found[0])


def test_autocast_stays_near_the_original() -> None:
    layer = original((3, 5))
    fused = FusedAttention(copy.deepcopy(layer))
    tokens = torch.randn(2, 3, 5, 24)
    expected = gradients_of(layer, tokens)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fused(tokens).dtype == torch.bfloat16
        found = gradients_of(fused, tokens)
    for one, other in zip(found, expected, strict=True):
        assert (one.float() - other).norm() < 0.05 * other.norm()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_inference_needs_no_gradients(context: type[torch.no_grad]) -> None:
    layer = original((3, 5))
    tokens = torch.randn(2, 3, 5, 24)
    with context():
        found, expected = FusedAttention(layer)(tokens), layer(tokens)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_agrees_with_the_original() -> None:
    layer = original((3, 5)).cuda()
    fused = FusedAttention(copy.deepcopy(layer))
    tokens = torch.randn(2, 3, 5, 24, device="cuda")
    expected, found = gradients_of(layer, tokens), gradients_of(fused, tokens)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_other_precisions_than_float32_agree_with_the_original() -> None:
    layer = original((3, 5)).double()  # takes the way that GPUs take
    fused = FusedAttention(copy.deepcopy(layer))
    tokens = torch.randn(2, 3, 5, 24, dtype=torch.float64)
    expected, found = gradients_of(layer, tokens), gradients_of(fused, tokens)
    torch.testing.assert_close(found, expected)
