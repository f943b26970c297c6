"""What weighing a teacher by EMD adds to a step of training.

One step = the student's pass, a frozen teacher's pass on the same frames, labels' and
teacher's loss, backward, AdamW. It is timed with the constant weight one and with the
EMD score as the weight, in turn, each on a network of its own.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from experiments.benchmarks.emd import time_in_turn
from models.registry import build_model
from strategies.transport import emd_similarity, pool_to_nodes

WITHOUT = "without"
GRADIENTS = ("none", "full")


@dataclass(frozen=True)
class StepCost:
    """A training step with EMD beside one without."""

    network: str
    grid: int  # cells along each side; nodes = its square
    gradient: str
    milliseconds: float  # per step, median
    without: float  # the same with a constant weight
    added: float  # share of the time, median of the ratios turn by turn, minus one
    emd_milliseconds: float  # the score alone, forward and backward, median
    share: float  # of that in a step without, which noise blurs less than `added`


def measure_steps(
    networks: Sequence[str],
    *,
    grids: Sequence[int],
    size: int,
    batch: int,
    repeats: int,
    device: torch.device,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[list[StepCost], list[str]]:
    """Time training steps of networks with and without EMD.

    Args:
        networks: In the registry.
        grids: Cells along each side of the pooled features.
        size: Side of a frame, px.
        batch: Frames of a step.
        repeats: Measured steps of each kind.
        device: Where to train.
        progress: Told what is measured now.

    Returns:
        A cost for every network, grid and kind of gradient, and why some are missing.
    """
    costs: list[StepCost] = []
    missing: list[str] = []
    for network in networks:
        progress(f"steps of {network} at {size} px, batch {batch}")
        frames = torch.rand(batch, 1, size, size).to(device)
        probe = build_model(network, image_size=size, seed=0).to(device)
        cells = min(probe.forward_with_features(frames).features.shape[-2:])
        fitting = [grid for grid in grids if grid <= cells]
        for grid in set(grids) - set(fitting):
            missing.append(f"{network} has {cells} x {cells} features, grid is {grid}")
            progress(missing[-1])
        kinds = {f"{g} {kind}": (g, kind) for g in fitting for kind in GRADIENTS}
        runs = {WITHOUT: _step(network, frames, None, "none")}
        dim = probe.forward_with_features(frames[:1]).features.shape[1]
        for key, (grid, kind) in kinds.items():
            runs[key] = _step(network, frames, grid, kind)
            runs[f"score {key}"] = _score(
                (batch, dim, cells, cells), grid, kind, device
            )
        seconds = time_in_turn(runs, repeats, device)
        base = seconds[WITHOUT]
        for key, (grid, kind) in kinds.items():
            alone = seconds[f"score {key}"]
            costs.append(_compare(network, grid, kind, seconds[key], base, alone))
    return costs, missing


def _compare(
    network: str,
    grid: int,
    gradient: str,
    seconds: Sequence[float],
    base: Sequence[float],
    alone: Sequence[float],
) -> StepCost:
    step, without, score = (
        1000 * statistics.median(one) for one in (seconds, base, alone)
    )
    ratios = [one / other for one, other in zip(seconds, base, strict=True)]
    added = statistics.median(ratios) - 1
    return StepCost(
        network, grid, gradient, step, without, added, score, score / without
    )


def _score(
    shape: tuple[int, ...], grid: int, gradient: str, device: torch.device
) -> Callable[[], object]:
    generator = torch.Generator().manual_seed(0)
    students, teachers = (
        torch.randn(shape, generator=generator).to(device) for _ in range(2)
    )
    students.requires_grad_()

    def run() -> object:
        nodes = [pool_to_nodes(one, grid) for one in (students, teachers)]
        score = emd_similarity(*nodes, gradient=gradient).score
        return score.sum().backward() if score.requires_grad else None

    return run


def _step(
    network: str, frames: Tensor, grid: int | None, gradient: str
) -> Callable[[], object]:
    batch, _, size, _ = frames.shape
    student = build_model(network, image_size=size, seed=0).to(frames.device).train()
    teacher = build_model(network, image_size=size, seed=1).to(frames.device).eval()
    optimiser = torch.optim.AdamW(
        [one for one in student.parameters() if one.requires_grad], lr=1e-4, fused=True
    )

    def run() -> object:
        own = student.forward_with_features(frames)
        with torch.no_grad():
            other = teacher.forward_with_features(frames)
        weight = own.logits.new_ones(batch)
        if grid is not None:
            weight = emd_similarity(
                pool_to_nodes(own.features, grid),
                pool_to_nodes(other.features, grid),
                gradient=gradient,
            ).score.clamp_min(0)
        labels = (frames > 0.5).expand_as(own.logits).to(own.logits)
        loss = functional.binary_cross_entropy_with_logits(own.logits, labels)
        taught = functional.binary_cross_entropy_with_logits(
            own.logits, other.logits.sigmoid(), reduction="none"
        ).mean((1, 2, 3))
        loss = loss + (weight * taught).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        return optimiser.step()

    return run
