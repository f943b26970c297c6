import pytest
import torch
from torch import Tensor

from models.deformable import (
    DeformableConvolution,
    _sample_then_weigh,
    _tap_positions,
    _weigh_then_sample,
    deform_conv2d,
)
from models.torchvision_ops import compiled_operators_load


def slow_reference(
    image: Tensor, offset: Tensor, weight: Tensor, padding: int, mask: Tensor | None
) -> Tensor:
    """One output pixel and tap at a time, straight from the papers' sums."""

    def pixel(channel: Tensor, row: int, column: int) -> Tensor:
        height, width = channel.shape
        if 0 <= row < height and 0 <= column < width:
            return channel[row, column]
        return channel.new_zeros(())

    out_channels, channels, rows, columns = weight.shape
    _, height, width = offset.shape
    result = image.new_zeros(out_channels, height, width)
    for y in range(height):
        for x in range(width):
            for tap in range(rows * columns):
                py = y - padding + tap // columns + float(offset[2 * tap, y, x])
                px = x - padding + tap % columns + float(offset[2 * tap + 1, y, x])
                top, left = int(py // 1), int(px // 1)
                for channel in range(channels):
                    value = sum(
                        (1 - abs(py - row))
                        * (1 - abs(px - column))
                        * pixel(image[channel], row, column)
                        for row in (top, top + 1)
                        for column in (left, left + 1)
                    )
                    factor = 1.0 if mask is None else mask[tap, y, x]
                    by_tap = weight[:, channel].flatten(1)[:, tap]
                    result[:, y, x] += by_tap * factor * value
    return result


def draw(*shape: int, scale: float = 1.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize(("kernel", "padding"), [((3, 3), 1), ((1, 1), 0), ((3, 2), 0)])
def test_it_is_the_sum_of_the_papers(
    kernel: tuple[int, int], padding: int, modulated: bool
) -> None:
    images, weight = draw(2, 3, 5, 4), draw(2, 3, *kernel)
    taps = kernel[0] * kernel[1]
    size = [s + 2 * padding - k + 1 for s, k in zip((5, 4), kernel, strict=True)]
    offset = draw(2, 2 * taps, *size, scale=2.0)  # also far outside the image
    mask = draw(2, taps, *size).sigmoid() if modulated else None

    found = deform_conv2d(images, offset, weight, padding=padding, mask=mask)

    for index in range(2):
        one = None if mask is None else mask[index]
        expected = slow_reference(images[index], offset[index], weight, padding, one)
        torch.testing.assert_close(found[index], expected)


def test_without_offsets_it_is_a_convolution() -> None:
    layer = DeformableConvolution(3, 4).double()
    images = draw(2, 3, 6, 7)
    found = layer(images, torch.zeros(2, 18, 6, 7, dtype=torch.float64))
    expected = torch.nn.functional.conv2d(images, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(found, expected)


def test_gradients_reach_images_offsets_weights_and_masks() -> None:
    inputs = (
        draw(1, 2, 4, 4).requires_grad_(),
        # Away from whole numbers, where bilinear sampling has a kink.
        (0.3 + 0.2 * draw(1, 18, 4, 4).tanh()).requires_grad_(),
        draw(2, 2, 3, 3).requires_grad_(),
        draw(2).requires_grad_(),
        draw(1, 9, 4, 4).sigmoid().requires_grad_(),
    )
    assert torch.autograd.gradcheck(
        lambda i, o, w, b, m: deform_conv2d(i, o, w, b, padding=1, mask=m), inputs
    )


@pytest.mark.skipif(
    not compiled_operators_load(), reason="torchvision's compiled operators do not load"
)
def test_it_agrees_with_torchvision_gradients_included() -> None:
    from torchvision.ops import deform_conv2d as compiled

    values = []
    for convolve in (deform_conv2d, compiled):
        images = draw(2, 3, 6, 5).requires_grad_()
        offset = draw(2, 18, 6, 5).requires_grad_()
        result = convolve(images, offset, draw(4, 3, 3, 3), padding=1)
        result.square().sum().backward()
        values.append((result.detach(), images.grad, offset.grad))
    torch.testing.assert_close(values[0], values[1])


def test_shapes_that_do_not_fit_are_refused() -> None:
    images, weight = draw(1, 3, 5, 5), draw(2, 3, 3, 3)
    with pytest.raises(ValueError, match=r"offset must be \(1, 18, 5, 5\)"):
        deform_conv2d(images, draw(1, 9, 5, 5), weight, padding=1)
    with pytest.raises(ValueError, match=r"mask must be \(1, 9, 5, 5\)"):
        deform_conv2d(
            images, draw(1, 18, 5, 5), weight, padding=1, mask=draw(1, 1, 5, 5)
        )
    with pytest.raises(ValueError, match="were wanted"):
        deform_conv2d(images, draw(1, 18, 5, 5), draw(2, 4, 3, 3), padding=1)
    with pytest.raises(ValueError, match="odd, got 2"):
        DeformableConvolution(3, 3, kernel_size=2)


def grads(result: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(result.square().sum(), inputs)


@pytest.mark.parametrize("modulated", [False, True])
def test_both_orders_of_sampling_and_weighing_give_the_same(modulated: bool) -> None:
    images, weight = draw(2, 4, 6, 5).requires_grad_(), draw(3, 4, 3, 3)
    offset = draw(2, 18, 6, 5, scale=2.0).requires_grad_()
    weight.requires_grad_()
    mask = draw(2, 9, 6, 5).sigmoid() if modulated else None
    y, x = _tap_positions(offset, weight.shape[2:], 1)
    first, second = (
        order(images, y, x, weight, mask)
        for order in (_weigh_then_sample, _sample_then_weigh)
    )
    torch.testing.assert_close(first, second)
    inputs = images, offset, weight
    torch.testing.assert_close(grads(first, *inputs), grads(second, *inputs))


def test_float32_is_within_rounding_of_float64() -> None:
    images, offset = draw(1, 32, 12, 12), draw(1, 18, 12, 12)
    weight = draw(32, 32, 3, 3)
    exact = deform_conv2d(images, offset, weight, padding=1)
    found = deform_conv2d(images.float(), offset.float(), weight.float(), padding=1)
    assert (found - exact).abs().max() <= 1e-5 * exact.abs().max()


def test_channels_last_in_is_channels_last_out() -> None:
    layer = DeformableConvolution(4, 4)
    images, offset = draw(1, 4, 6, 6).float(), draw(1, 18, 6, 6).float()
    expected = layer(images, offset)
    found = layer(images.to(memory_format=torch.channels_last), offset)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, expected)


def test_half_precision_keeps_the_fraction_of_a_far_pixel() -> None:
    # 200.25 px has no neighbour closer than half a pixel in bfloat16.
    ramp = torch.arange(256.0).expand(1, 1, 1, 256)
    offset = torch.zeros(1, 2, 1, 256, dtype=torch.bfloat16)
    offset[:, 1] = 0.25
    weight = torch.ones(1, 1, 1, 1)
    found = deform_conv2d(ramp, offset, weight)
    torch.testing.assert_close(found[..., :255], ramp[..., :255] + 0.25)


def test_offsets_that_are_no_numbers_give_no_numbers_and_no_crash() -> None:
    offset = torch.zeros(1, 18, 6, 6)
    offset[0, :, 2, 2] = float("nan")
    found = deform_conv2d(
        torch.ones(1, 2, 6, 6), offset, torch.ones(2, 2, 3, 3), padding=1
    )
    assert found[0, :, 2, 2].isnan().all()
    assert found.isnan().sum() == 2


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("channels", [4, 64])  # more pixels than channels, and fewer
def test_it_compiles_in_one_piece_with_the_same_values_and_gradients(
    channels: int, modulated: bool
) -> None:
    torch.compiler.reset()
    layer = DeformableConvolution(channels, channels)
    images = draw(1, channels, 6, 6).float().requires_grad_()
    offset = draw(1, 18, 6, 6).float().requires_grad_()
    mask = draw(1, 9, 6, 6).float().sigmoid() if modulated else None
    expected = layer(images, offset, mask)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    found = compiled(images, offset, mask)
    torch.testing.assert_close(found, expected)
    inputs = images, offset, layer.weight
    torch.testing.assert_close(grads(found, *inputs), grads(expected, *inputs))
