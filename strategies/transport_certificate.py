"""What a transport plan is worth: rounding, dual bounds and the primal-dual gap.

Any plan that meets its masses costs at least the optimum, any feasible pair of dual
potentials is worth at most it, so their difference bounds the error of the cost without
knowing the optimum. Both ends can be made feasible from rough guesses: a plan by the
rounding of Altschuler, Weed and Rigollet (NIPS 2017, algorithm 2), potentials by the
c-transform (Peyré and Cuturi, Computational Optimal Transport, 2019, section 5.1).
"""

from typing import NamedTuple

import torch
from torch import Tensor


class TransportError(RuntimeError):
    """A solver gave up or its answer does not pass its own certificate."""


class Transport(NamedTuple):
    """A batch of transport plans and how good they are, float64."""

    cost: Tensor  # (batch,) <plan, cost>, in the units of the cost
    plan: Tensor  # (batch, n, m), >= 0, sums to one
    source_potential: Tensor  # (batch, n), dual variables, mean weighted by mass 0
    target_potential: Tensor  # (batch, m), dual variables, mean weighted by mass 0
    marginal_error: Tensor  # (batch,) L1 distance of the plan from its masses
    gap: Tensor  # (batch,) primal minus dual value, bounds the error of the cost
    fell_back: Tensor  # (batch,) bool, solved exactly as the fast solver missed


def certify(
    cost: Tensor,
    source: Tensor,
    target: Tensor,
    plan: Tensor,
    source_potential: Tensor,
) -> Transport:
    """Measure a plan and the potentials that go with it.

    Args:
        cost: (batch, n, m), float64.
        source: (batch, n), >= 0, float64; nodes without mass bind no potential.
        target: (batch, m), >= 0, float64.
        plan: (batch, n, m), >= 0; taken as it is.
        source_potential: (batch, n), finite; the target's follows from it.

    Returns:
        The plan with feasible, centred potentials, its marginal error and its gap.
    """
    value = (plan * cost).sum((1, 2))
    source_potential, target_potential = c_transform(cost, source, source_potential)
    source_mean = (source_potential * source).sum(1, keepdim=True)
    target_mean = (target_potential * target).sum(1, keepdim=True)
    marginal_error = (plan.sum(2) - source).abs().sum(1) + (
        plan.sum(1) - target
    ).abs().sum(1)
    return Transport(
        cost=value,
        plan=plan,
        source_potential=source_potential - source_mean,
        target_potential=target_potential - target_mean,
        marginal_error=marginal_error,
        gap=value - (source_mean + target_mean).squeeze(1),
        fell_back=torch.zeros_like(value, dtype=torch.bool),
    )


def c_transform(
    cost: Tensor, source: Tensor, source_potential: Tensor
) -> tuple[Tensor, Tensor]:
    """Make a guess of the source's potential into a feasible, tight pair.

    Args:
        cost: (batch, n, m).
        source: (batch, n), >= 0.
        source_potential: (batch, n); what it says of nodes without mass is ignored.

    Returns:
        f (batch, n) and g (batch, m) with f_p + g_q <= cost_pq everywhere and equality
        somewhere in every row and column.
    """
    # Solvers leave anything at nodes without mass; it must not press on the others.
    bound = source_potential.masked_fill(source == 0, -torch.inf)
    target_potential = (cost - bound[:, :, None]).amin(1)
    return (cost - target_potential[:, None, :]).amin(2), target_potential


def round_to_masses(plan: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Move a rough plan onto its masses.

    Args:
        plan: (batch, n, m), >= 0, finite.
        source: (batch, n), >= 0, each row with the same sum as the target's.
        target: (batch, m), >= 0.

    Returns:
        A plan (batch, n, m) whose rows and columns sum to the masses. It differs in L1
        by at most twice the marginal error of the rough one (lemma 7 of the paper).
    """
    tiny = torch.finfo(plan.dtype).tiny
    plan = plan * (source / plan.sum(2).clamp_min(tiny)).clamp_max(1.0)[:, :, None]
    plan = plan * (target / plan.sum(1).clamp_min(tiny)).clamp_max(1.0)[:, None, :]
    source_left = (source - plan.sum(2)).clamp_min(0.0)
    target_left = (target - plan.sum(1)).clamp_min(0.0)
    share = target_left / target_left.sum(1, keepdim=True).clamp_min(tiny)
    return plan + source_left[:, :, None] * share[:, None, :]
