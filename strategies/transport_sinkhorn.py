"""Optimal transport solved approximately, a whole batch at once on its own device.

Sinkhorn's scaling of an absorbed kernel, annealed in the smoothing and over-relaxed
[Peyré and Cuturi, Computational Optimal Transport, 2019, sections 4.2 to 4.4; Thibault
et al., Algorithms 14(5), 2021]. The result is feasible and says by its gap how good it
is; it stops as soon as every gap is small enough. Nothing is recorded for autograd.

Own code, since the libraries at hand are not right for it. POT 0.9.7: `solve_batch`
without smoothing returns the product of the masses at even iteration counts, and with
smoothing it neither anneals nor gives gradients to masses. geomloss 0.3.1:
`SamplesLoss` takes no cost matrix of a batch as it is and stops after a fixed schedule
however far it got; the cost gradient of `ot.solve_batch` is twice too large.
"""

import torch
from torch import Tensor

from strategies.transport_certificate import (
    Transport,
    c_transform,
    certify,
    round_to_masses,
)
from strategies.transport_checks import check_problem

TOLERANCE = 1e-2  # of the cost, so also of a score in [-1, 1]
EPSILON = 2.5e-3  # a quarter of the tolerance: bias is then no longer what limits
MAX_SWEEPS = 500  # what has not converged by then is cheaper to solve exactly
BLOCK = 20  # sweeps between two absorptions of the scalings into the kernel
COOLING = 0.5  # of the smoothing, from block to block
RELAXATION = 1.7  # 1 is plain Sinkhorn, 2 no longer converges
LEAST_MASS = 1e-30  # stands for zero, whose logarithm would be infinite
LARGEST_SCALING = 1e15  # squared, it still fits into float32


def solve_sinkhorn(
    cost: Tensor,
    source: Tensor,
    target: Tensor,
    *,
    tolerance: float = TOLERANCE,
    epsilon: float = EPSILON,
    max_sweeps: int = MAX_SWEEPS,
) -> Transport:
    """Solve optimal transport problems approximately, without gradients.

    Args:
        cost: (batch, n, m), finite, any float type and device; the sweeps run there,
            in float32 or, for a float64 cost, in float64.
        source: (batch, n), >= 0, each row sums to one.
        target: (batch, m), >= 0, each row sums to one.
        tolerance: > 0, in the units of the cost: sweeps end when every gap is
            smaller.
        epsilon: > 0, the last smoothing, in the units of the cost.
        max_sweeps: Sweeps end after so many, whatever the gaps are.

    Returns:
        Plans that meet their masses, feasible potentials and the gap of each item;
        **a gap may be larger than the tolerance**. On the device of the cost, float64.

    Raises:
        ValueError: If shapes disagree, a mass is negative or does not sum to one, a
            number is not finite or an option is not positive.
    """
    if not (tolerance > 0 and epsilon > 0 and max_sweeps > 0):
        raise ValueError(
            "tolerance, epsilon and max_sweeps must be > 0, got "
            f"{tolerance}, {epsilon} and {max_sweeps}."
        )
    check_problem(cost, source, target)
    with torch.no_grad(), torch.autocast(cost.device.type, enabled=False):
        wide = cost.detach().double()
        masses = [one.detach().double() for one in (source, target)]
        left, right = (one / one.sum(1, keepdim=True) for one in masses)
        working = torch.float64 if cost.dtype == torch.float64 else torch.float32
        plan, potential = _anneal(
            wide.to(working),
            left.to(working),
            right.to(working),
            tolerance,
            epsilon,
            max_sweeps,
        )
        plan = round_to_masses(plan.double(), left, right)
        return certify(wide, left, right, plan, potential.double())


def _anneal(
    cost: Tensor,
    source: Tensor,
    target: Tensor,
    tolerance: float,
    last_epsilon: float,
    max_sweeps: int,
) -> tuple[Tensor, Tensor]:
    """Lower the smoothing block by block; return plans and source potentials."""
    if not len(cost):
        return cost, source
    low, high = torch.aminmax(cost)
    epsilon = max(float(high - low), last_epsilon)
    target_potential = torch.zeros_like(target)
    for _ in range(0, max_sweeps, BLOCK):
        plan, source_potential, target_potential = _sweep(
            cost, source, target, target_potential, epsilon
        )
        if _all_within(cost, source, target, plan, source_potential, tolerance):
            break
        epsilon = max(COOLING * epsilon, last_epsilon)
    return plan, source_potential


def _sweep(
    cost: Tensor, source: Tensor, target: Tensor, target_potential: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """One sweep in the log domain, then a block of scalings of its kernel.

    The first one sets every column of the kernel to its mass, so that nothing in the
    block under- or overflows, however small the smoothing is.
    """
    source, target = source.clamp_min(LEAST_MASS), target.clamp_min(LEAST_MASS)
    f = source.log() - ((target_potential[:, None, :] - cost) / eps).logsumexp(2)
    g = target.log() - (f[:, :, None] - cost / eps).logsumexp(1)
    kernel = (f[:, :, None] + g[:, None, :] - cost / eps).exp()
    u, v = torch.ones_like(source)[:, :, None], torch.ones_like(target)[:, :, None]
    for _ in range(BLOCK):
        u = _relax(u, source[:, :, None], kernel @ v)
        v = _relax(v, target[:, :, None], kernel.transpose(1, 2) @ u)
    plan = kernel * u * v.transpose(1, 2)
    return plan, eps * (f + u.squeeze(2).log()), eps * (g + v.squeeze(2).log())


def _relax(scaling: Tensor, mass: Tensor, received: Tensor) -> Tensor:
    """Step beyond the scaling that would meet the masses, in logarithms."""
    tiny = torch.finfo(received.dtype).tiny
    step = mass / (scaling * received).clamp_min(tiny)
    scaling = scaling * step.pow(RELAXATION)
    return scaling.clamp(1 / LARGEST_SCALING, LARGEST_SCALING)


def _all_within(
    cost: Tensor,
    source: Tensor,
    target: Tensor,
    plan: Tensor,
    source_potential: Tensor,
    tolerance: float,
) -> bool:
    plan = round_to_masses(plan, source, target)
    f, g = c_transform(cost, source, source_potential)
    lower = (f * source).sum(1) + (g * target).sum(1)
    return bool(((plan * cost).sum((1, 2)) - lower <= tolerance).all())
