"""What every network costs, side by side in one run: size, products, time, memory.

    endofed benchmark networks --size 256 --names unet,fga-net,sam-tiny

Each network is measured in turn with the U-Net of the paper: reference, network,
reference, network, in every mode. Its ratio is the median of the ratios of such pairs,
so a machine that gets slower or busier slows both, and only two networks are in memory.
Milliseconds of different networks are minutes apart: compare ratios. The U-Net beside
itself shows the noise. The paper's own figure is 4.23: 17.18 ms for FGA-Net against
4.06 ms for its U-Net at 512 px, batch 1, on an RTX 4090.
"""

import gc
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from experiments.benchmarks.modes import Run, in_mode
from experiments.benchmarks.peak_memory import peak_mib
from models.cost import count_parameters, published_macs, true_macs
from models.registry import build_model
from server.checkpoints import installed_versions

REFERENCE = "unet"
WARMUP = 2


@dataclass(frozen=True)
class Timing:
    """One network in one mode at one batch size."""

    name: str
    mode: str
    batch: int
    milliseconds: float  # per frame, median
    frames_per_second: float
    ratio: float | None  # to the reference in the same mode, median of pairs
    peak_mib: float | None  # of a pass, beside weights and images; None = not told
    largest_difference: float  # of the logits from the eager ones


@dataclass(frozen=True)
class Failure:
    """A network in a mode that this machine cannot measure, and why."""

    name: str
    mode: str
    batch: int
    reason: str


class Measurements(NamedTuple):
    """What was measured, and what could not be."""

    timings: list[Timing]
    failures: list[Failure]


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
) -> Measurements:
    """Time the forward pass of networks, each in turn with the reference.

    Args:
        names: In the registry.
        size: Side of a frame, px.
        batches: Frames at once.
        modes: Some of `MODES`.
        repeats: Measured pairs in each mode; their median counts.
        device: Where to run.
        progress: Told what is measured now.

    Returns:
        A timing or a failure for every name, mode and batch size.
    """
    found = Measurements([], [])
    for batch in batches:
        images = torch.rand(
            batch, 1, size, size, generator=torch.Generator().manual_seed(0)
        ).to(device)
        reference = _build(REFERENCE, size, device)
        for name in names:
            progress(f"{name}, batch {batch}")
            # Compiled code is cached by function, which networks share, and after
            # eight versions of one PyTorch would silently run it uncompiled.
            torch.compiler.reset()
            network = _build(name, size, device)
            runs, failures = _prepare(name, network, images, modes)
            found.failures.extend(failures)
            base, _ = _prepare(REFERENCE, reference, images, list(runs))
            pairs = _time_pairs(base, runs, repeats, device)
            for mode, (run, difference) in runs.items():
                timing = _summarise(pairs[mode], batch)
                peak = _peak_mib(run, device)
                found.timings.append(
                    Timing(name, mode, batch, *timing, peak, difference)
                )
            del network, runs, base
            gc.collect()  # before the next one is built: large ones do not fit twice
    return found


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return what the numbers were measured on."""
    is_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if is_gpu else platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": installed_versions(),
    }


def to_json(costs: Sequence[Cost], measured: Measurements) -> dict[str, Any]:
    """Return all numbers for a file."""
    return {
        "costs": [asdict(one) for one in costs],
        "timings": [asdict(one) for one in measured.timings],
        "failures": [asdict(one) for one in measured.failures],
    }


def _build(name: str, size: int, device: torch.device) -> nn.Module:
    return build_model(name, image_size=size, seed=0).to(device).eval()


def _prepare(
    name: str, network: nn.Module, images: Tensor, modes: Sequence[str]
) -> tuple[dict[str, tuple[Run, float]], list[Failure]]:
    """Return a pass for every mode and how far its logits are from the eager ones."""
    expected: Tensor | None = None
    prepared, failures = {}, []
    for mode in modes:
        try:
            if expected is None:
                expected = in_mode(network, images, "eager")().float()
            run = in_mode(network, images, mode)
            for _ in range(WARMUP):
                logits = run()
        # Compilers fail in many ways, memory runs out: keep what is measured.
        except Exception as error:  # noqa: BLE001
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            failures.append(Failure(name, mode, len(images), reason))
            continue
        difference = float((logits.float() - expected).abs().max())
        prepared[mode] = (run, difference)
    return prepared, failures


class _Pair(NamedTuple):
    reference: float | None  # s
    network: float  # s


def _time_pairs(
    base: dict[str, tuple[Run, float]],
    runs: dict[str, tuple[Run, float]],
    repeats: int,
    device: torch.device,
) -> dict[str, list[_Pair]]:
    pairs: dict[str, list[_Pair]] = {mode: [] for mode in runs}
    for _ in range(repeats):
        for mode, (run, _) in runs.items():
            first = _seconds(base[mode][0], device) if mode in base else None
            pairs[mode].append(_Pair(first, _seconds(run, device)))
    return pairs


def _summarise(pairs: list[_Pair], batch: int) -> tuple[float, float, float | None]:
    """Return milliseconds a frame, frames per second and the ratio."""
    median = statistics.median(pair.network for pair in pairs)
    ratios = [pair.network / pair.reference for pair in pairs if pair.reference]
    ratio = statistics.median(ratios) if ratios else None
    return 1000 * median / batch, batch / median, ratio


def _seconds(run: Run, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _peak_mib(run: Run, device: torch.device) -> float | None:
    try:
        return peak_mib(run, device)
    except RuntimeError:  # this system does not tell
        return None
