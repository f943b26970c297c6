"""How many multiplications a network needs, counted without running it.

Two ways of counting one pass. `published` follows the rules behind the FGA-Net
paper's "GFLOPs", which are multiply-accumulates of a profiler that does not see
deformable convolutions. `true` counts the products of every convolution, deformable
ones included, and of linear layers and attention. Both run on PyTorch's meta device,
where tensors have shapes and no numbers.
"""

import copy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models.deformable import DeformableConvolution


def published_macs(
    network: nn.Module, size: int, *, channels: int = 1, with_deformable: bool = False
) -> int:
    """Count as the FGA-Net paper's profiler does.

    Convolutions: outputs x inputs x kernel (transposed ones too, which counts a 2x2
    with stride 2 four times); batch normalisation 4 and instance normalisation
    without parameters 2 an output; a bilinear `nn.Upsample` 11 an output; everything
    functional nothing.

    Args:
        network: Not changed.
        size: Side of the input, px.
        channels: Of the input.
        with_deformable: Count the products of deformable convolutions too, which the
            profiler leaves out: the honest figure. Sampling is left out either way.

    Returns:
        Multiply-accumulates of one frame.
    """
    total = 0

    def count(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += _macs_of(module, output.numel(), with_deformable)

    ghost = _ghost(network)
    hooks = [
        module.register_forward_hook(count)
        for module in ghost.modules()
        if not list(module.children())
    ]
    with torch.no_grad():
        ghost(torch.empty(1, channels, size, size, device="meta"))
    for hook in hooks:
        hook.remove()
    return total


def true_macs(network: nn.Module, size: int, *, channels: int = 1) -> int:
    """Count the products of all matrix products, convolutions and attentions.

    Args:
        network: Not changed.
        size: Side of the input, px.
        channels: Of the input.

    Returns:
        Multiply-accumulates of one frame, half of what PyTorch calls its FLOPs.
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        _ghost(network)(torch.empty(1, channels, size, size, device="meta"))
    return int(counter.get_total_flops()) // 2


def count_parameters(network: nn.Module, *, trainable: bool = False) -> int:
    """Return the number of parameters, or of those that train."""
    return sum(
        one.numel()
        for one in network.parameters()
        if one.requires_grad or not trainable
    )


def _ghost(network: nn.Module) -> nn.Module:
    """Return a copy without numbers, in evaluation mode."""
    return copy.deepcopy(network).to("meta").eval()


def _macs_of(module: nn.Module, outputs: int, with_deformable: bool) -> int:
    if isinstance(module, nn.Conv2d):
        kernel = module.kernel_size[0] * module.kernel_size[1]
        return outputs * module.in_channels // module.groups * kernel
    if isinstance(module, nn.ConvTranspose2d):
        kernel = module.kernel_size[0] * module.kernel_size[1]
        return outputs * module.in_channels * kernel
    if isinstance(module, DeformableConvolution):
        return outputs * module.weight[0].numel() if with_deformable else 0
    return outputs * _PER_OUTPUT.get(type(module), 0)


_PER_OUTPUT: dict[type[nn.Module], int] = {
    nn.BatchNorm2d: 4,
    nn.InstanceNorm2d: 2,
    nn.Upsample: 11,
}
