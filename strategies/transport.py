"""Differentiable Earth Mover's Distance (EMD) between small sets of features.

The score is the one of DeepEMD (Zhang et al., CVPR 2020) as FedEFM (arXiv 2501.16992,
eqs. 3 to 5) uses it: a similarity, sum_pq (1 - c_pq) x_pq, where x solves the optimal
transport problem with the cosine cost c and masses that sum to one. It lies in
[-1, 1]; the larger, the more alike. The plan is exact (network simplex of POT) and the
gradients follow from the envelope theorem, so no solver step is differentiated.
Knows nothing of Flower, of images or of hospitals.
"""

from typing import Any, NamedTuple

import numpy as np
import ot
import torch
from torch import Tensor
from torch.nn import functional

MARGINALS = ("uniform", "cross-reference")
GRADIENTS = ("none", "flow", "full")


class Transport(NamedTuple):
    """A batch of optimal plans and how good they are."""

    cost: Tensor  # (batch,) <plan, cost>, in the units of the cost
    plan: Tensor  # (batch, n, m), >= 0, sums to one
    source_potential: Tensor  # (batch, n), dual variables, mean weighted by mass 0
    target_potential: Tensor  # (batch, m), dual variables, mean weighted by mass 0
    marginal_error: Tensor  # (batch,) L1 distance of the plan from its masses
    gap: Tensor  # (batch,) primal minus dual value, bounds the error of the cost


class Similarity(NamedTuple):
    """How alike two batches of feature sets are."""

    score: Tensor  # (batch,) sum of similarity times flow, in [-1, 1]
    transport: Transport


def solve_exact(cost: Tensor, source: Tensor, target: Tensor) -> Transport:
    """Solve optimal transport problems with the network simplex, without gradients.

    Args:
        cost: (batch, n, m), finite, any float type and device; solved in float64.
        source: (batch, n), >= 0, each row sums to one.
        target: (batch, m), >= 0, each row sums to one.

    Returns:
        Plans, potentials and their certificates, on the device of the cost, float64.

    Raises:
        ValueError: If shapes disagree, a mass is negative or does not sum to one, or
            a number is not finite.
    """
    _check_problem(cost, source, target)
    costs, sources, targets = (
        tensor.detach().double().cpu().numpy() for tensor in (cost, source, target)
    )
    plans = np.empty_like(costs)
    source_potentials = np.empty_like(sources)
    target_potentials = np.empty_like(targets)
    for item, (matrix, left, right) in enumerate(
        zip(costs, sources, targets, strict=True)
    ):
        # Rounding in float32 leaves masses a hair apart; the simplex wants equality.
        right = right * (left.sum() / right.sum())
        plan, log = ot.emd(left, right, matrix, log=True)
        plans[item] = plan
        source_potentials[item] = log["u"]
        target_potentials[item] = log["v"]
    return _certify(
        cost.detach().double(),
        source.detach().double(),
        target.detach().double(),
        torch.as_tensor(plans, device=cost.device),
        torch.as_tensor(source_potentials, device=cost.device),
        torch.as_tensor(target_potentials, device=cost.device),
    )


def emd_similarity(
    students: Tensor,
    teachers: Tensor,
    *,
    marginals: str = "uniform",
    centred: bool = False,
    gradient: str = "none",
) -> Similarity:
    """Score how alike two batches of feature sets are, FedEFM eq. (3).

    Args:
        students: (batch, n, dim), the demanders U.
        teachers: (batch, m, dim), the suppliers V.
        marginals: "uniform", or "cross-reference" as in DeepEMD: the mass of a node
            is relu(<u_p, mean_q v_q>) + 0.001, normalised.
        centred: Subtract each set's mean node before the cosine.
        gradient: "none" (eq. 2: the score is a constant weight), "flow" (through
            the cost, the plan held fixed: exact for fixed masses) or "full" (also
            through the masses, by the dual potentials).

    Returns:
        The scores in [-1, 1], float32 or wider, and the plans behind them.

    Raises:
        ValueError: If shapes disagree, an option is unknown or a feature is not
            finite.
    """
    _check_features(students, teachers, marginals, gradient)
    students, teachers = _widen(students), _widen(teachers)
    if gradient == "none":
        students, teachers = students.detach(), teachers.detach()
    source, target = _masses(students, teachers, marginals)
    cost = 1.0 - _cosine(students, teachers, centred)
    transport = solve_exact(cost, source, target)
    value = _EnvelopeCost.apply(  # type: ignore[no-untyped-call]
        cost,
        source if gradient == "full" else source.detach(),
        target if gradient == "full" else target.detach(),
        transport,
    )
    return Similarity(1.0 - value, transport)


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
    """The optimal cost, with the gradients of the envelope theorem.

    d OT / d cost = plan; d OT / d mass = dual potential. The potentials are known up
    to a constant that drops out as soon as masses are normalised.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - autograd's own context
        cost: Tensor,
        source: Tensor,
        target: Tensor,
        transport: Transport,
    ) -> Tensor:
        ctx.save_for_backward(
            transport.plan.to(cost.dtype),
            transport.source_potential.to(source.dtype),
            transport.target_potential.to(target.dtype),
        )
        return transport.cost.to(cost.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        plan, source_potential, target_potential = ctx.saved_tensors
        (weight,) = upstream
        return (
            weight[:, None, None] * plan,
            weight[:, None] * source_potential,
            weight[:, None] * target_potential,
            None,
        )


def _certify(
    cost: Tensor,
    source: Tensor,
    target: Tensor,
    plan: Tensor,
    source_potential: Tensor,
    target_potential: Tensor,
) -> Transport:
    """Centre the potentials and measure marginal error and primal-dual gap."""
    value = (plan * cost).sum((1, 2))
    # A c-transform of each side makes the pair feasible whatever the solver left,
    # so its value is a true lower bound, also where nodes carry no mass.
    target_potential = (cost - source_potential[:, :, None]).amin(1)
    source_potential = (cost - target_potential[:, None, :]).amin(2)
    lower = (source_potential * source).sum(1) + (target_potential * target).sum(1)
    marginal_error = (plan.sum(2) - source).abs().sum(1) + (
        plan.sum(1) - target
    ).abs().sum(1)
    return Transport(
        cost=value,
        plan=plan,
        source_potential=_centre(source_potential, source),
        target_potential=_centre(target_potential, target),
        marginal_error=marginal_error,
        gap=value - lower,
    )


def _centre(potential: Tensor, mass: Tensor) -> Tensor:
    return potential - (potential * mass).sum(1, keepdim=True)


def _cosine(students: Tensor, teachers: Tensor, centred: bool) -> Tensor:
    if centred:
        students = students - students.mean(1, keepdim=True)
        teachers = teachers - teachers.mean(1, keepdim=True)
    # `normalize` divides by max(norm, eps): a zero node has cosine 0 with all.
    left = functional.normalize(students, dim=-1, eps=1e-12)
    right = functional.normalize(teachers, dim=-1, eps=1e-12)
    return left @ right.transpose(1, 2)


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


def _check_features(
    students: Tensor, teachers: Tensor, marginals: str, gradient: str
) -> None:
    if (
        students.ndim != 3
        or teachers.ndim != 3
        or students.shape[0] != teachers.shape[0]
        or students.shape[2] != teachers.shape[2]
    ):
        raise ValueError(
            "Features must be (batch, n, dim) and (batch, m, dim), got "
            f"{tuple(students.shape)} and {tuple(teachers.shape)}."
        )
    if marginals not in MARGINALS:
        raise ValueError(f"marginals must be one of {MARGINALS}, got '{marginals}'.")
    if gradient not in GRADIENTS:
        raise ValueError(f"gradient must be one of {GRADIENTS}, got '{gradient}'.")


def _check_problem(cost: Tensor, source: Tensor, target: Tensor) -> None:
    if cost.ndim != 3 or source.ndim != 2 or target.ndim != 2:
        shapes = [tuple(tensor.shape) for tensor in (cost, source, target)]
        raise ValueError(
            f"Wanted cost (batch, n, m), source (batch, n), target (batch, m); "
            f"got {shapes}."
        )
    if (*source.shape, target.shape[1]) != cost.shape or len(source) != len(target):
        raise ValueError(
            f"The cost is {tuple(cost.shape)}, the masses {tuple(source.shape)} and "
            f"{tuple(target.shape)}: they do not belong together."
        )
    if not all(bool(torch.isfinite(tensor).all()) for tensor in (cost, source, target)):
        raise ValueError(
            "Cost and masses must be finite; the network has probably diverged. "
            "Lower train.learning-rate."
        )
    for mass in (source, target):
        total = mass.detach().double().sum(1)
        if bool((mass < 0).any()) or bool(((total - 1).abs() > 1e-4).any()):
            raise ValueError("Masses must be >= 0 and sum to one in every row.")
