"""Deformable convolution, with and without modulation, on any device.

Dai et al., "Deformable Convolutional Networks", ICCV 2017 (v1), and Zhu et al.,
"Deformable ConvNets v2", CVPR 2019 (modulation). torchvision has a compiled operator;
where it does not load, the same sum is formed in PyTorch, in one of two orders.
Sampling is linear in the image, so weights may come before it or after it:

- sample every tap, then one matrix product: what the papers draw;
- weigh the image for every tap, then gather: each output pixel is a weighted sum of
  4 rows a tap, which `embedding_bag` adds up in one pass over whole rows of channels.
  On a CPU this saves most of the sampling's time where pixels outnumber channels.
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
        offset: (batch, 2 * taps, out_height, out_width), px. Positions are computed in
            float32 at least.
        weight: (out_channels, channels, kernel_height, kernel_width).
        bias: (out_channels,) or None.
        padding: Of zeros on all sides, px.
        mask: (batch, taps, out_height, out_width), factor of every tap, or None.

    Returns:
        (batch, out_channels, out_height, out_width), in the memory format of images.

    Raises:
        ValueError: If a shape does not fit.
    """
    _check_shapes(images, offset, weight, padding, mask)
    y, x = _tap_positions(offset, weight.shape[2:], padding)
    num_pixels = y.shape[0] * y.shape[2] * y.shape[3]
    # Exported graphs sample first: that is ONNX's GridSample, on any device. Weighing
    # first needs the weights tap by tap, a copy that few pixels do not repay.
    if (
        not torch.compiler.is_exporting()
        and images.device.type == "cpu"
        and num_pixels >= weight.shape[0]
    ):
        result = _weigh_then_sample(images, y, x, weight, mask)
    else:
        result = _sample_then_weigh(images, y, x, weight, mask)
    return result if bias is None else result + bias.view(1, -1, 1, 1)


class DeformableConvolution(nn.Module):
    """A square deformable convolution that keeps height and width.

    Uses torchvision's operator where it loads, `deform_conv2d` above elsewhere and in
    exported graphs, which need not find torchvision where they run.
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
        if self._compiled and not torch.compiler.is_exporting():
            from torchvision.ops import deform_conv2d as compiled

            moved: Tensor = compiled(
                images, offset, self.weight, self.bias, padding=self.padding, mask=mask
            )
            return moved
        return deform_conv2d(
            images, offset, self.weight, self.bias, padding=self.padding, mask=mask
        )


def _tap_positions(
    offset: Tensor, kernel: torch.Size, padding: int
) -> tuple[Tensor, Tensor]:
    """Return rows and columns, px, each (batch, taps, out_height, out_width)."""
    rows, columns = kernel
    batch, _, out_height, out_width = offset.shape
    # Half precision has no room for a fraction of a pixel beside a large position.
    offset = offset.to(torch.promote_types(offset.dtype, torch.float32))
    moved = offset.view(batch, rows * columns, 2, out_height, out_width)

    def count(end: int) -> Tensor:
        return torch.arange(end, device=offset.device, dtype=offset.dtype)

    tap_y = count(rows).repeat_interleave(columns).view(1, -1, 1, 1) - padding
    tap_x = count(columns).repeat(rows).view(1, -1, 1, 1) - padding
    y = moved[:, :, 0] + (tap_y + count(out_height).view(1, 1, -1, 1))
    x = moved[:, :, 1] + (tap_x + count(out_width).view(1, 1, 1, -1))
    return y, x


def _sample_then_weigh(
    images: Tensor, y: Tensor, x: Tensor, weight: Tensor, mask: Tensor | None
) -> Tensor:
    batch, channels, height, width = images.shape
    taps, out_height, out_width = y.shape[1:]
    # Pixel centres to grid_sample's -1 ... 1 (without align_corners, so that a side
    # of one pixel is no special case).
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    sampled = functional.grid_sample(
        images.to(grid.dtype),
        grid.view(batch, taps * out_height, out_width, 2),
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    columns = sampled.view(batch, channels, taps, out_height, out_width)
    if mask is not None:
        columns = columns * mask[:, None]
    columns = columns.reshape(batch, channels * taps, out_height * out_width)
    product = weight.flatten(1) @ columns.to(images.dtype)
    return product.view(batch, -1, out_height, out_width)


def _weigh_then_sample(
    images: Tensor, y: Tensor, x: Tensor, weight: Tensor, mask: Tensor | None
) -> Tensor:
    batch, channels, height, width = images.shape
    out_channels, _, rows, columns = weight.shape
    out_height, out_width = y.shape[2:]
    corners, shares = _corners(y, x, height, width)
    if mask is not None:
        shares = shares * mask
    pixels = images.permute(0, 2, 3, 1).reshape(-1, channels)
    # As a transpose of two axes, which PyTorch copies in blocks.
    by_tap = weight.reshape(-1, rows * columns).t().contiguous()
    by_row = by_tap.view(rows, columns * out_channels, channels)
    column = torch.arange(columns, device=y.device, dtype=corners.dtype)
    results = []
    for row in range(rows):  # one at a time: a table of all taps leaves the caches
        table = pixels @ by_row[row].t()  # (pixels, columns * out_channels)
        taps = slice(row * columns, (row + 1) * columns)
        summed = functional.embedding_bag(
            _bags(corners[:, :, taps] * columns + column.view(-1, 1, 1)),
            table.view(-1, out_channels).to(shares.dtype),
            per_sample_weights=_bags(shares[:, :, taps]),
            mode="sum",
        )
        results.append(summed)
    total = sum(results[1:], results[0]).to(table.dtype)
    total = total.view(batch, out_height * out_width, out_channels)
    if not images.is_contiguous(memory_format=torch.channels_last):
        # Frame by frame: a transpose of two axes is copied in blocks, one of four
        # axes element by element, which takes eight times as long.
        frames = [frame.t().contiguous() for frame in total.unbind()]
        return torch.stack(frames).view(batch, out_channels, out_height, out_width)
    return total.view(batch, out_height, out_width, out_channels).permute(0, 3, 1, 2)


def _bags(entries: Tensor) -> Tensor:
    """Turn (4, batch, taps, height, width) into one row for every output pixel."""
    return entries.permute(1, 3, 4, 2, 0).reshape(-1, 4 * entries.shape[2])


def _corners(y: Tensor, x: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Find the four pixels around every position and their bilinear shares.

    Returns:
        Numbers of pixels, counted through the batch, and shares, zero outside the
        image; both (4, batch, taps, out_height, out_width).
    """

    def along(position: Tensor, end: int) -> list[tuple[Tensor, Tensor]]:
        first = position.floor()
        fraction = position - first
        found = []
        for place, share in ((first, 1 - fraction), (first + 1, fraction)):
            # A network that diverged shall give NaN, not an index out of range.
            inside = place.clamp(0, end - 1).nan_to_num(0.0)
            found.append((inside.int(), share * (place == inside)))
        return found

    frame = torch.arange(y.shape[0], device=y.device, dtype=torch.int32)
    start = (frame * (height * width)).view(-1, 1, 1, 1)
    across = along(x, width)
    pixels, shares = [], []
    for row, share_y in along(y, height):
        line = row * width + start
        pixels += [line + column for column, _ in across]
        shares += [share_y * share_x for _, share_x in across]
    return torch.stack(pixels), torch.stack(shares)


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
