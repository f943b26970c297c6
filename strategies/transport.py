"""Differentiable Earth Mover's Distance (EMD) between small sets of features.

The score is the one of DeepEMD (Zhang et al., CVPR 2020) as FedEFM (arXiv 2501.16992,
eqs. 3 to 5) uses it: a similarity, sum_pq (1 - c_pq) x_pq, where x solves the optimal
transport problem with the cosine cost c and masses that sum to one. It lies in
[-1, 1]; the larger, the more alike. Plans are exact (network simplex of POT) or within
a tolerance of it (Sinkhorn, batched on the device), and carry their primal-dual gap.
Gradients follow from the envelope theorem (d OT / d cost = plan, d OT / d mass = dual
potential), so no solver step is differentiated: exact for an exact plan almost
everywhere, and as good as its gap for an approximate one. Knows nothing of Flower, of
images or of hospitals.

FedEFM defect 1 and contradiction 8: what the text calls a distance is this similarity;
the sum of c_pq x_pq does not take its place, as a large weight means a similar teacher.
Defects 4 to 6: its eqs. (8) to (10) differentiate through optimality conditions by the
wrong variable, and for a linear programme their Jacobian is singular; the envelope
theorem needs none. Defect 7: as a dense programme 256 nodes take 34 GB a frame, so none
is ever written out and `pool_to_nodes` leaves few nodes.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from strategies.transport_certificate import Transport
from strategies.transport_checks import (
    DIVERGED,
    GRADIENTS,
    MARGINALS,
    SOLVERS,
    check_choice,
    check_features,
)
from strategies.transport_exact import solve_exact
from strategies.transport_sinkhorn import EPSILON, TOLERANCE, solve_sinkhorn

ZERO_NORM = 1e-12  # a node shorter than this resembles nothing


class Similarity(NamedTuple):
    """How alike two batches of feature sets are."""

    score: Tensor  # (batch,) sum of similarity times flow, in [-1, 1]
    transport: Transport


class Distance(NamedTuple):
    """What it costs to turn one distribution into another."""

    value: Tensor  # (batch,) in the units of the cost, differentiable
    transport: Transport


def solve(
    cost: Tensor,
    source: Tensor,
    target: Tensor,
    *,
    solver: str = "exact",
    tolerance: float = TOLERANCE,
    epsilon: float = EPSILON,
) -> Transport:
    """Solve optimal transport problems, without gradients.

    Args:
        cost: (batch, n, m), finite, any float type and device.
        source: (batch, n), >= 0, each row sums to one.
        target: (batch, m), >= 0, each row sums to one.
        solver: "exact", on the CPU; or "sinkhorn", batched on the device of the cost,
            where every item whose gap exceeds the tolerance is solved exactly after
            all (`Transport.fell_back` says which).
        tolerance: Of the gap, > 0, in the units of the cost; "sinkhorn" only.
        epsilon: Last smoothing, > 0, in the units of the cost; "sinkhorn" only.

    Returns:
        Plans, potentials and their certificates, on the device of the cost, float64.

    Raises:
        ValueError: If shapes disagree, an option is unknown or out of range, a mass
            is negative or does not sum to one, or a number is not finite.
        TransportError: If the exact solver gives up.
    """
    check_choice("solver", solver, SOLVERS)
    if solver == "exact":
        return solve_exact(cost, source, target)
    found = solve_sinkhorn(cost, source, target, tolerance=tolerance, epsilon=epsilon)
    missed = ~(found.gap <= tolerance)  # written so that NaN counts as missed
    if not bool(missed.any()):
        return found
    exact = solve_exact(cost[missed], source[missed], target[missed])
    exact = exact._replace(fell_back=torch.ones_like(exact.fell_back))
    for all_items, solved_again in zip(found, exact, strict=True):
        all_items[missed] = solved_again
    return found


def emd_cost(
    cost: Tensor,
    source: Tensor,
    target: Tensor,
    *,
    gradient: str = "full",
    solver: str = "exact",
    tolerance: float = TOLERANCE,
    epsilon: float = EPSILON,
) -> Distance:
    """Return the optimal transport cost of cost matrices, differentiable.

    Args:
        cost: (batch, n, m), finite, any float type and device.
        source: (batch, n), >= 0, each row sums to one.
        target: (batch, m), >= 0, each row sums to one.
        gradient: "none", "flow" (to the cost, the plan being its gradient) or "full"
            (also to the masses). The gradient to the masses is a potential centred to
            mean zero under the mass: right for whatever keeps the sum, as normalised
            weights do. Where the potentials are not unique, as for uniform masses, it
            is one of many.
        solver: As in `solve`.
        tolerance: As in `solve`.
        epsilon: As in `solve`.

    Returns:
        The cost of each item in the type of `cost`, and the plans behind it.

    Raises:
        ValueError: As `solve`, and if the gradient is unknown.
        TransportError: If the exact solver gives up.
    """
    check_choice("gradient", gradient, GRADIENTS)
    transport = solve(
        cost, source, target, solver=solver, tolerance=tolerance, epsilon=epsilon
    )
    if gradient == "none":
        return Distance(transport.cost.to(cost.dtype), transport)
    masses = (source, target)
    if gradient == "flow":
        masses = (source.detach(), target.detach())
    value: Tensor = _EnvelopeCost.apply(  # type: ignore[no-untyped-call]
        cost, *masses, transport
    )
    return Distance(value, transport)


def emd_similarity(
    students: Tensor,
    teachers: Tensor,
    *,
    marginals: str = "uniform",
    centred: bool = False,
    gradient: str = "none",
    solver: str = "exact",
    tolerance: float = TOLERANCE,
    epsilon: float = EPSILON,
) -> Similarity:
    """Score how alike two batches of feature sets are, FedEFM eq. (3).

    Args:
        students: (batch, n, dim), the demanders U, any float type and device.
        teachers: (batch, m, dim), the suppliers V.
        marginals: "uniform", or "cross-reference" as in DeepEMD: the mass of a node
            is relu(<u_p, mean_q v_q>) + 0.001, normalised. FedEFM defect 2: eq. (5)
            names features where masses belong, so they are a setting.
        centred: Subtract each set's mean node before the cosine.
        gradient: "none" (eq. 2: the score is a constant weight), "flow" (through
            the cost, the plan held fixed: exact for fixed masses) or "full" (also
            through the masses, by the dual potentials).
        solver: As in `solve`.
        tolerance: As in `solve`; the score's error is at most this.
        epsilon: As in `solve`.

    Returns:
        The scores in [-1, 1], float32 or wider, also under autocast, and the plans
        behind them. A node of norm zero has cosine 0 with all.

    Raises:
        ValueError: If shapes disagree, an option is unknown or a feature is not
            finite or so large that its norm is not.
        TransportError: If the exact solver gives up.
    """
    check_features(students, teachers)
    check_choice("marginals", marginals, MARGINALS)
    check_choice("gradient", gradient, GRADIENTS)
    # Autocast would take the cosine in half precision: errors of 1e-2 in the score.
    with torch.autocast(students.device.type, enabled=False):
        students, teachers = _widen(students), _widen(teachers)
        if gradient == "none":
            students, teachers = students.detach(), teachers.detach()
        source, target = _masses(students, teachers, marginals)
        value, transport = emd_cost(
            1.0 - _cosine(students, teachers, centred),
            source,
            target,
            gradient=gradient,
            solver=solver,
            tolerance=tolerance,
            epsilon=epsilon,
        )
        score = 1.0 - value
        # Rounding may leave a cosine at 1 + 1e-7; the gradient does not care.
        return Similarity(score + (score.clamp(-1.0, 1.0) - score).detach(), transport)


def pool_to_nodes(features: Tensor, grid_size: int) -> Tensor:
    """Average a feature map over a grid and list the cells as nodes.

    Args:
        features: (batch, dim, height, width).
        grid_size: Cells along each side, at most the height and the width.

    Returns:
        Nodes (batch, grid_size * grid_size, dim).

    Raises:
        ValueError: If the map has fewer cells than asked for.
    """
    if grid_size > min(features.shape[-2:]):
        raise ValueError(
            f"fedefm.grid-size is {grid_size}, but the encoder yields a map of "
            f"{tuple(features.shape[-2:])}. Lower it or raise model.image-size."
        )
    return (
        functional.adaptive_avg_pool2d(features, grid_size).flatten(2).transpose(1, 2)
    )


class _EnvelopeCost(torch.autograd.Function):
    """The optimal cost and its envelope gradients, FedEFM defects 4 to 6."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - autograd's own context
        cost: Tensor,
        source: Tensor,
        target: Tensor,
        transport: Transport,
    ) -> Tensor:
        # Kept as they are, not in the type of the cost: a copy of a plan is large.
        ctx.save_for_backward(
            transport.plan, transport.source_potential, transport.target_potential
        )
        ctx.types = (cost.dtype, source.dtype, target.dtype)
        return transport.cost.to(cost.dtype)

    # The plan is piecewise constant: a second derivative is refused, not called zero.
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        (weight,) = upstream
        gradients: list[Tensor | None] = []
        for needed, dtype, solution in zip(
            ctx.needs_input_grad[:3], ctx.types, ctx.saved_tensors, strict=True
        ):
            if not needed:
                gradients.append(None)
                continue
            gradient = torch.empty_like(solution, dtype=dtype)
            factor = weight.reshape(-1, *[1] * (solution.ndim - 1))
            gradients.append(torch.mul(solution, factor, out=gradient))
        return (*gradients, None)


def _cosine(students: Tensor, teachers: Tensor, centred: bool) -> Tensor:
    if centred:
        students = students - students.mean(1, keepdim=True)
        teachers = teachers - teachers.mean(1, keepdim=True)
    norms = [one.norm(dim=-1, keepdim=True) for one in (students, teachers)]
    if not all(bool(torch.isfinite(norm).all()) for norm in norms):
        raise ValueError(f"Features {DIVERGED}")
    left = students / norms[0].clamp_min(ZERO_NORM)
    right = teachers / norms[1].clamp_min(ZERO_NORM)
    cosine: Tensor = left @ right.transpose(1, 2)
    return cosine


def _masses(
    students: Tensor, teachers: Tensor, marginals: str
) -> tuple[Tensor, Tensor]:
    if marginals == "uniform":
        (batch, n, _), m = students.shape, teachers.shape[1]
        return students.new_full((batch, n), 1 / n), students.new_full(
            (batch, m), 1 / m
        )
    source = (students * teachers.mean(1, keepdim=True)).sum(-1).relu() + 1e-3
    target = (teachers * students.mean(1, keepdim=True)).sum(-1).relu() + 1e-3
    return (
        source / source.sum(1, keepdim=True),
        target / target.sum(1, keepdim=True),
    )


def _widen(features: Tensor) -> Tensor:
    """Compute in float32 at least: half types lose the small differences."""
    return features if features.dtype == torch.float64 else features.float()
