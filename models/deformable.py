"""Deformable convolution, with and without modulation, on any device.

Dai et al., "Deformable Convolutional Networks", ICCV 2017 (v1), and Zhu et al.,
"Deformable ConvNets v2", CVPR 2019 (modulation). torchvision has a compiled operator;
where it does not load, the same sum is formed with bilinear sampling in PyTorch.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.torchvision_ops import compiled_operators_load


def deform_conv2d(
    images: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    padding: int = 0,
    mask: Tensor | None = None,
) -> Tensor:
    """Convolve with taps that are moved by given offsets; stride 1, one group.

    Conventions are those of `torchvision.ops.deform_conv2d`: channels 2 k and 2 k + 1
    of the offset move tap k (row by row) down and to the right; what lies outside the
    image is zero.

    Args:
        images: (batch, channels, height, width), float.
        offset: (batch, 2 * taps, out_height, out_width), px.
        weight: (out_channels, channels, kernel_height, kernel_width).
        bias: (out_channels,) or None.
        padding: Of zeros on all sides, px.
        mask: (batch, taps, out_height, out_width), factor of every tap, or None.

    Returns:
        (batch, out_channels, out_height, out_width).

    Raises:
        ValueError: If a shape does not fit.
    """
    _check_shapes(images, offset, weight, padding, mask)
    columns = _sample_taps(images, offset, weight.shape[2:], padding)
    if mask is not None:
        columns = columns * mask[:, None]
    # (batch, channels, taps, out_height, out_width) -> one matrix product
    batch, _, _, height, width = columns.shape
    product = weight.flatten(1) @ columns.reshape(batch, -1, height * width)
    result = product.view(batch, -1, height, width)
    return result if bias is None else result + bias.view(1, -1, 1, 1)


class DeformableConvolution(nn.Module):
    """A square deformable convolution that keeps height and width.

    Uses torchvision's operator where it loads, `deform_conv2d` above elsewhere.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3
    ) -> None:
        """Initialise as `torch.nn.Conv2d` does.

        Args:
            in_channels: Of the input.
            out_channels: Of the output.
            kernel_size: Odd, px.

        Raises:
            ValueError: If the kernel size is even.
        """
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}.")
        self.padding = kernel_size // 2
        shape = (out_channels, in_channels, kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(out_channels))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        bound = 1 / math.sqrt(in_channels * kernel_size**2)
        nn.init.uniform_(self.bias, -bound, bound)
        self._compiled = compiled_operators_load()

    def forward(
        self, images: Tensor, offset: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Convolve.

        Args:
            images: (batch, in_channels, height, width).
            offset: (batch, 2 * taps, height, width), px.
            mask: (batch, taps, height, width) or None.

        Returns:
            (batch, out_channels, height, width).
        """
        if self._compiled:
            from torchvision.ops import deform_conv2d as compiled

            moved: Tensor = compiled(
                images, offset, self.weight, self.bias, padding=self.padding, mask=mask
            )
            return moved
        return deform_conv2d(
            images, offset, self.weight, self.bias, padding=self.padding, mask=mask
        )


def _sample_taps(
    images: Tensor, offset: Tensor, kernel: torch.Size, padding: int
) -> Tensor:
    """Return (batch, channels, taps, out_height, out_width)."""
    batch, channels, height, width = images.shape
    rows, columns = kernel
    out_height, out_width = offset.shape[2:]
    moved = offset.view(batch, rows * columns, 2, out_height, out_width)

    def count(end: int) -> Tensor:
        return torch.arange(end, device=images.device, dtype=offset.dtype)

    tap_y = count(rows).repeat_interleave(columns) - padding
    tap_x = count(columns).repeat(rows) - padding
    y = moved[:, :, 0] + tap_y.view(1, -1, 1, 1)
    y = y + count(out_height).view(1, 1, -1, 1)
    x = moved[:, :, 1] + tap_x.view(1, -1, 1, 1)
    x = x + count(out_width).view(1, 1, 1, -1)
    # Pixel centres to grid_sample's -1 ... 1 (without align_corners, so that a side
    # of one pixel is no special case).
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    sampled = functional.grid_sample(
        images,
        grid.view(batch, rows * columns * out_height, out_width, 2).to(images.dtype),
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    return sampled.view(batch, channels, rows * columns, out_height, out_width)


def _check_shapes(
    images: Tensor, offset: Tensor, weight: Tensor, padding: int, mask: Tensor | None
) -> None:
    if images.ndim != 4 or weight.ndim != 4 or images.shape[1] != weight.shape[1]:
        raise ValueError(
            "images (batch, channels, height, width) and weight (out, channels, "
            f"kernel, kernel) were wanted, got {tuple(images.shape)} and "
            f"{tuple(weight.shape)}."
        )
    taps = weight.shape[2] * weight.shape[3]
    size = [
        side + 2 * padding - kernel + 1
        for side, kernel in zip(images.shape[2:], weight.shape[2:], strict=True)
    ]
    wanted = {"offset": (offset, 2 * taps), "mask": (mask, taps)}
    for name, (tensor, channels) in wanted.items():
        shape = (images.shape[0], channels, *size)
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must be {shape}, got {tuple(tensor.shape)}.")
