"""What every network costs, side by side in one run: size, products, time, memory.

    endofed benchmark networks --size 256 --names unet,fga-net,sam-tiny

Modes are measured in turn, not one after the other, so that a machine that gets slower
slows all of them. Ratios are to the U-Net of the same run; times of different runs or
machines must not be compared. The paper's own figure is 4.23: 17.18 ms for FGA-Net
against 4.06 ms for its U-Net at 512 px, batch 1, on an RTX 4090.
"""

import copy
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.cost import count_parameters, published_macs, true_macs
from models.registry import build_model
from server.checkpoints import installed_versions

REFERENCE = "unet"
MODES = ("eager", "channels-last", "bf16", "compiled")
WARMUP = 2


@dataclass(frozen=True)
class Timing:
    """One network in one mode at one batch size."""

    name: str
    mode: str
    batch: int
    milliseconds: float  # per frame, median
    frames_per_second: float
    peak_mib: float | None  # of the GPU; None on a CPU
    largest_difference: float  # of the logits from the eager ones


@dataclass(frozen=True)
class Cost:
    """What can be counted without running a network."""

    name: str
    parameters: int
    published_gmacs: float  # by the rules of the FGA-Net paper
    true_gmacs: float


def count_cost(name: str, size: int) -> Cost:
    """Count a network's parameters and products.

    Args:
        name: In the registry.
        size: Side of a frame, px.

    Returns:
        The counts for one frame.
    """
    network = build_model(name, image_size=size, seed=0)
    return Cost(
        name,
        count_parameters(network),
        published_macs(network, size) / 1e9,
        true_macs(network, size) / 1e9,
    )


def time_networks(
    names: Sequence[str],
    *,
    size: int,
    batches: Sequence[int],
    modes: Sequence[str],
    repeats: int,
    device: torch.device,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Timing]:
    """Time the forward pass of networks, all of them in turn in every repetition.

    Args:
        names: In the registry.
        size: Side of a frame, px.
        batches: Frames at once.
        modes: Some of `MODES`.
        repeats: Measured passes of each; their median counts.
        device: Where to run.
        progress: Told what is measured now.

    Returns:
        A timing for every name, mode and batch size.
    """
    found: list[Timing] = []
    for batch in batches:
        images = torch.rand(
            batch, 1, size, size, generator=torch.Generator().manual_seed(0)
        ).to(device)
        runs = {}
        for name in names:
            progress(f"{name}, batch {batch}")
            runs.update(_prepare(name, size, images, modes, device))
        seconds: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
        for _ in range(repeats):
            for key, (run, _) in runs.items():
                seconds[key].append(_seconds(run, device))
        for (name, mode), (run, difference) in runs.items():
            median = statistics.median(seconds[name, mode])
            found.append(
                Timing(
                    name,
                    mode,
                    batch,
                    1000 * median / batch,
                    batch / median,
                    _peak_mib(run, device),
                    difference,
                )
            )
    return found


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return what the numbers were measured on."""
    is_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if is_gpu else platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": installed_versions(),
    }


def to_json(costs: Sequence[Cost], timings: Sequence[Timing]) -> dict[str, Any]:
    """Return all numbers for a file."""
    return {
        "costs": [asdict(one) for one in costs],
        "timings": [asdict(one) for one in timings],
    }


Run = Callable[[], Tensor]


def _prepare(
    name: str, size: int, images: Tensor, modes: Sequence[str], device: torch.device
) -> dict[tuple[str, str], tuple[Run, float]]:
    """Return a pass for every mode and how far its logits are from the eager ones."""
    network = build_model(name, image_size=size, seed=0).to(device).eval()
    with torch.inference_mode():
        expected = network(images)
    prepared = {}
    for mode in modes:
        run = _in_mode(network, images, mode, device)
        for _ in range(WARMUP):
            logits = run()
        difference = float((logits.float() - expected).abs().max())
        prepared[name, mode] = (run, difference)
    return prepared


def _in_mode(
    network: nn.Module, images: Tensor, mode: str, device: torch.device
) -> Run:
    module, inputs = network, images
    context: Callable[[], AbstractContextManager[Any]] = nullcontext
    if mode == "channels-last":
        # A copy: the other modes keep the usual order.
        module = copy.deepcopy(network).to(memory_format=torch.channels_last)
        inputs = images.to(memory_format=torch.channels_last)
    elif mode == "bf16":

        def context() -> AbstractContextManager[Any]:
            return torch.autocast(device.type, dtype=torch.bfloat16)

    elif mode == "compiled":
        module = torch.compile(network)

    def run() -> Tensor:
        with torch.inference_mode(), context():
            logits: Tensor = module(inputs)
        return logits

    return run


def _seconds(run: Run, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _peak_mib(run: Run, device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    run()
    return torch.cuda.max_memory_allocated() / 2**20
