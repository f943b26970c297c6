"""Where the time of one network goes: by its parts and by kind of operator.

    endofed benchmark profile --network fga-net --size 256 --threads 2

Parts are timed with forward hooks, operators with PyTorch's profiler, in separate
passes, since the profiler slows what it watches. Shares, not milliseconds, are what to
read: on a GPU a hook waits for the device, which costs every part a little.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

WARMUP = 2
REST = "(between parts)"
# The first word found in an operator's name decides.
OPERATORS = {
    "deformable sampling": ("deform_conv2d", "grid_sampl", "embedding_bag"),
    "convolution": ("conv",),
    "attention": ("attention",),
    "normalisation": ("norm",),
    "pooling": ("pool",),
    "resizing": ("upsample",),
    "matrix product": ("mm", "linear"),
    "activation": ("relu", "gelu", "silu", "sigmoid", "softmax", "clamp_min"),
    "copies and joins": ("copy", "cat", "stack", "fill", "clone", "pad", "roll"),
    "sums and products": ("add", "mul", "sub", "div", "sum", "mean"),
}
OTHER = "other"


@dataclass(frozen=True)
class Share:
    """The time of one part or one kind of operator."""

    name: str
    kind: str  # class of a part; empty for operators
    depth: int  # 1 is directly below the network
    milliseconds: float  # of one pass, mean
    percent: float  # of the whole pass


def profile_parts(
    network: nn.Module, images: Tensor, *, depth: int, repeats: int
) -> list[Share]:
    """Time named parts of a network.

    Args:
        network: In evaluation mode, on the device of the images; left as it was.
        images: (batch, 1, size, size).
        depth: How far below the network to look; lists of modules do not count.
        repeats: Measured passes.

    Returns:
        Parts in the order of their names' definition, what lies between the parts of
        depth 1 last. Parts of depth 1 and that rest sum to 100 percent.
    """
    parts = list(_parts(network, depth))
    seconds: dict[str, float] = defaultdict(float)
    hooks = []
    for name, module, _ in [("", network, 0), *parts]:
        start, stop = _stopwatch(name, seconds, images.device)
        hooks.append(module.register_forward_pre_hook(start))
        hooks.append(module.register_forward_hook(stop))
    with torch.inference_mode():
        for _ in range(WARMUP):
            network(images)
        seconds.clear()
        for _ in range(repeats):
            network(images)
    for hook in hooks:
        hook.remove()
    whole = seconds[""]
    covered = sum(seconds[name] for name, _, level in parts if level == 1)
    rows = [
        (name, type(module).__name__, level, seconds[name])
        for name, module, level in parts
        if name in seconds
    ]
    return [
        Share(name, kind, level, 1000 * time_s / repeats, 100 * time_s / whole)
        for name, kind, level, time_s in [*rows, (REST, "", 1, whole - covered)]
    ]


def profile_operators(
    network: nn.Module, images: Tensor, *, repeats: int
) -> list[Share]:
    """Time kinds of operators.

    Args:
        network: In evaluation mode, on the device of the images.
        images: (batch, 1, size, size).
        repeats: Measured passes.

    Returns:
        The kinds that occur, slowest first; they sum to 100 percent.
    """
    is_gpu = images.device.type == "cuda"
    # The CPU's half names the operators that started a GPU's kernels.
    watched = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * is_gpu
    with torch.inference_mode():
        for _ in range(WARMUP):
            network(images)
        with profile(activities=watched) as record:
            for _ in range(repeats):
                network(images)
            if is_gpu:
                torch.cuda.synchronize()
    micros: dict[str, float] = defaultdict(float)
    for event in record.key_averages():
        if event.key.startswith(("aten::", "torchvision::", "mkldnn::")):
            own = event.self_device_time_total if is_gpu else event.self_cpu_time_total
            micros[operator_kind(event.key)] += own
    whole = sum(micros.values())
    return [
        Share(kind, "", 1, micro / 1000 / repeats, 100 * micro / whole)
        for kind, micro in sorted(micros.items(), key=lambda item: -item[1])
        if micro > 0
    ]


def operator_kind(name: str) -> str:
    """Return the kind of an operator.

    Args:
        name: As the profiler tells it, e.g. "aten::mkldnn_convolution".

    Returns:
        A key of `OPERATORS`, or `OTHER`.
    """
    for kind, words in OPERATORS.items():
        if any(word in name for word in words):
            return kind
    return OTHER


def _parts(
    module: nn.Module, depth: int, *, prefix: str = "", level: int = 1
) -> Iterator[tuple[str, nn.Module, int]]:
    if level > depth:
        return
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, nn.ModuleList | nn.ModuleDict):  # never called itself
            yield from _parts(child, depth, prefix=f"{path}.", level=level)
        else:
            yield path, child, level
            yield from _parts(child, depth, prefix=f"{path}.", level=level + 1)


def _stopwatch(
    name: str, seconds: dict[str, float], device: torch.device
) -> tuple[Callable[..., None], Callable[..., None]]:
    started: list[float] = []

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def start(_: nn.Module, inputs: Sequence[Any]) -> None:
        started.append(now())

    def stop(_: nn.Module, inputs: Sequence[Any], output: object) -> None:
        seconds[name] += now() - started.pop()

    return start, stop
