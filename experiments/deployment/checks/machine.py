"""Has the machine the memory and the GPU that site.toml promises?"""

import os
from pathlib import Path

from experiments.deployment.checks.finding import Finding

GIB = 2**30
LEAST_GIB = 2.0
"""Flower, PyTorch and a small network with their frames; fewer is not enough."""
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def check_memory(promised_gib: float) -> Finding:
    """Compare the memory with what site.toml promises.

    Args:
        promised_gib: `memory-gib` of site.toml, which limits the container.

    Returns:
        The finding.
    """
    import psutil

    memory = psutil.virtual_memory()
    total = min(memory.total, _container_limit() or memory.total) / GIB
    free = min(memory.available / GIB, total)
    says = f"{total:.1f} GiB of memory, {free:.1f} GiB free"
    numbers = {"memory-gib": round(total, 1), "free-gib": round(free, 1)}
    if min(total, promised_gib) < LEAST_GIB:
        return Finding(
            "memory",
            "failed",
            f"{says}; site.toml gives {promised_gib:g} GiB.",
            f"A site needs at least {LEAST_GIB:g} GiB: raise memory-gib or add memory.",
            numbers,
        )
    if free < promised_gib * 0.9:  # a container's limit is a little less than said
        return Finding(
            "memory",
            "warning",
            f"{says}; site.toml promises {promised_gib:g} GiB.",
            "Lower memory-gib, or end other programs while the site trains.",
            numbers,
        )
    return Finding("memory", "ok", f"{says}.", numbers=numbers)


def check_gpu(device: str, wanted: int) -> Finding:
    """Compare the GPUs with what site.toml asks for.

    Args:
        device: auto, cpu or cuda.
        wanted: `gpus` of site.toml.

    Returns:
        The finding.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    needed = max(wanted, int(device == "cuda"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    numbers: dict[str, bool | int | float | str] = {"gpus": count, "cores": cores}
    if count < needed:
        return Finding(
            "GPU",
            "failed",
            f"{count} GPU(s) can be used, site.toml asks for {needed}.",
            "Start the container with a GPU (start.sh supernode-cuda) and a driver for "
            "it, or set device = 'cpu' and gpus = 0.",
            numbers,
        )
    if device == "cpu" or count == 0:
        says = f"Trains on the CPU, {cores} core(s)."
        return Finding("GPU", "ok", says, numbers=numbers)
    free, total = torch.cuda.mem_get_info(0)
    numbers |= {
        "gpu-memory-gib": round(total / GIB, 1),
        "gpu-free-gib": round(free / GIB, 1),
    }
    is_busy = free < LEAST_GIB * GIB
    return Finding(
        "GPU",
        "warning" if is_busy else "ok",
        f"{count} GPU(s); the first has {total / GIB:.1f} GiB, {free / GIB:.1f} free.",
        "Another program holds the memory of the GPU." if is_busy else "",
        numbers,
    )


def _container_limit() -> int | None:
    """Return the memory in bytes that this container may have; None = no limit."""
    try:
        return int(CONTAINER_LIMIT.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None  # "max", or no container
