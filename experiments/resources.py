"""How much of a machine the simulated hospitals get.

Ray gives every hospital that works one of its CPUs, so the number of CPUs that Ray is
told is the number of hospitals that work at the same time. With `RAY_ADDRESS` in the
environment the cluster that exists decides instead: Ray refuses a number for it.
"""

import math
import os

import torch


def federation_config(
    num_sites: int,
    *,
    workers: int | None = None,
    gpus_per_site: float | None = None,
    threads_per_site: int = 1,
    use_gpus: bool = True,
) -> str:
    """Return the size of a simulation as Flower's `--federation-config`.

    Args:
        num_sites: Hospitals of the federation.
        workers: Hospitals that work at the same time; None = as the cores allow.
        gpus_per_site: Share of a GPU for each of them; None = even shares.
        threads_per_site: CPU threads of one hospital.
        use_gpus: False leaves the GPUs alone if `gpus_per_site` is None.

    Returns:
        `key=value` pairs, separated by blanks.
    """
    workers = choose_workers(num_sites, workers, threads_per_site)
    if gpus_per_site is None:
        gpus_per_site = gpu_share(workers, torch.cuda.device_count() if use_gpus else 0)
    pairs: dict[str, int | float] = {
        "num-supernodes": num_sites,
        "client-resources-num-cpus": 1,
        "client-resources-num-gpus": float(gpus_per_site),
    }
    if not os.environ.get("RAY_ADDRESS"):
        pairs["init-args-num-cpus"] = workers
    return " ".join(f"{key}={value}" for key, value in pairs.items())


def choose_workers(num_sites: int, wanted: int | None, threads_per_site: int) -> int:
    """Return how many hospitals work at the same time.

    Args:
        num_sites: Hospitals of the federation; more workers are no use.
        wanted: What the user wants; None = as the cores allow.
        threads_per_site: CPU threads of one hospital.

    Returns:
        At least 1.
    """
    fitting = max(1, count_cores() // threads_per_site)
    return min(wanted or fitting, num_sites)


def gpu_share(workers: int, num_gpus: int) -> float:
    """Return the share of a GPU that lets all workers work at the same time.

    Args:
        workers: Hospitals that work at the same time.
        num_gpus: GPUs of this machine.

    Returns:
        One over a whole number, rounded down: Flower counts the shares over all GPUs,
        Ray places each on one, and a worker that Ray cannot place waits for ever.
    """
    if num_gpus == 0:
        return 0.0
    workers_per_gpu = math.ceil(workers / num_gpus)
    return math.floor(1000 / workers_per_gpu) / 1000


def count_cores() -> int:
    """Return how many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
