"""Ways to an Earth Mover's Distance, and how far each is from the optimum.

Every way starts from the same features and weights and yields a value that backward can
be called on, so that what is timed and what is compared is what a user gets. The way of
DeepEMD, cv2.EMD, and the raw solver get their gradients from the plan they return.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import ot
import torch
from ot.lp.emd_wrap import emd_c
from scipy import sparse
from scipy.optimize import linprog
from torch import Tensor
from torch.nn import functional

from strategies.transport import emd_cost

REFERENCE = "ot.emd2"
LARGEST_FOR_HIGHS = 64  # nodes; above, the certificate of our own solver is the proof
LARGEST_FOR_CV2 = 196  # nodes
LARGEST_ITERATED = 4 * 1024**2  # costs of a batch on a CPU
PROTOTYPES, NOISE = 12, 0.5  # of the made features


class Inputs(NamedTuple):
    """Features and weights as they come, all of them leaves that want gradients."""

    students: Tensor  # (batch, n, dim)
    teachers: Tensor  # (batch, n, dim)
    student_weights: Tensor  # (batch, n), > 0, not normalised
    teacher_weights: Tensor  # (batch, n), > 0, not normalised


class Forward(NamedTuple):
    """What a way found, before backward."""

    value: Tensor  # (batch,)
    cost: Tensor | None = None  # (batch, n, n), whose gradient is the plan
    gap: Tensor | None = None  # (batch,)
    fell_back: int = 0  # items


Way = Callable[[Inputs], Forward]


@dataclass(frozen=True)
class Quality:
    """How far a way is from the optimum; the worst item of the batch counts."""

    value_error: float  # in the units of the cost
    plan_error: float | None  # total variation; None = the way has no plan
    feature_cosine: float  # of the gradient to both feature sets, 1 = right
    feature_error: float  # relative, 2-norm
    weight_error: float | None  # relative, 2-norm; None = the way has no gradient
    gap: float | None  # as the way itself says
    fell_back: int  # items
    value_reference: str  # whose optimum it is


def make_inputs(n: int, batch: int, dim: int, seed: int) -> Inputs:
    """Make features that cluster around prototypes, as those of networks do.

    Args:
        n: Nodes of each set.
        batch: Pairs of sets.
        dim: Of a feature.
        seed: Decides all.

    Returns:
        Float32 on the CPU; weights by DeepEMD's cross-reference.
    """
    generator = torch.Generator().manual_seed(seed)
    prototypes = torch.randn(PROTOTYPES, dim, generator=generator)
    sets = []
    for _ in range(2):
        which = torch.randint(0, PROTOTYPES, (batch, n), generator=generator)
        noise = torch.randn(batch, n, dim, generator=generator)
        sets.append(prototypes[which] + NOISE * noise)
    students, teachers = sets
    weights = [
        functional.softplus((one * other.mean(1, keepdim=True)).sum(-1)) + 1e-3
        for one, other in ((students, teachers), (teachers, students))
    ]
    return Inputs(students, teachers, *weights)


def as_leaves(inputs: Inputs, device: torch.device, dtype: torch.dtype) -> Inputs:
    """Return copies that gather gradients of their own."""
    return Inputs(
        *(
            one.detach().to(device=device, dtype=dtype, copy=True).requires_grad_()
            for one in inputs
        )
    )


def cost_and_masses(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """Return the cosine cost (batch, n, n) and the normalised weights."""
    left = functional.normalize(inputs.students, dim=-1)
    right = functional.normalize(inputs.teachers, dim=-1)
    source, target = inputs.student_weights, inputs.teacher_weights
    return (
        1 - left @ right.transpose(1, 2),
        source / source.sum(1, keepdim=True),
        target / target.sum(1, keepdim=True),
    )


def _ours(solver: str) -> Way:
    def way(inputs: Inputs) -> Forward:
        cost, source, target = cost_and_masses(inputs)
        found = emd_cost(cost, source, target, solver=solver)
        fell_back = int(found.transport.fell_back.sum())
        return Forward(found.value, cost, found.transport.gap, fell_back)

    return way


def _emd2(inputs: Inputs) -> Forward:
    """The loop that users of POT write."""
    cost, source, target = cost_and_masses(inputs)
    # unbind, not indexing: its gradient is one stack, not a large zero per item.
    items = zip(source.unbind(), target.unbind(), cost.unbind(), strict=True)
    return Forward(torch.stack([ot.emd2(*item) for item in items]), cost)


def _emd_c(inputs: Inputs) -> Forward:
    """POT's compiled solver in a bare loop, without checks or certificate."""
    cost, source, target = cost_and_masses(inputs)
    arrays = [one.detach().cpu().double().numpy() for one in (cost, source, target)]
    arrays[2] = arrays[2] * (arrays[1].sum(1) / arrays[2].sum(1))[:, None]
    plan, left, right = (np.empty_like(one) for one in arrays)
    for item, (matrix, one, other) in enumerate(zip(*arrays, strict=True)):
        plan[item], _, left[item], right[item], _ = emd_c(
            one, other, matrix, 10_000_000, 1
        )
    flow, f, g = (torch.from_numpy(one).to(cost) for one in (plan, left, right))
    value = (flow * cost).sum((1, 2))
    # Nothing is added; the potentials become the gradient of the masses.
    value = value + (f * (source - source.detach())).sum(1)
    value = value + (g * (target - target.detach())).sum(1)
    return Forward(value, cost)


def _cv2(inputs: Inputs) -> Forward:
    """DeepEMD's default: a flow that is constant, no gradient to the weights."""
    cost, source, target = cost_and_masses(inputs)
    arrays = [one.detach().cpu().float().numpy() for one in (cost, source, target)]
    flows = [
        cv2.EMD(one[:, None], other[:, None], cv2.DIST_USER, matrix)[2]
        for matrix, one, other in zip(*arrays, strict=True)
    ]
    flow = torch.from_numpy(np.stack(flows)).to(cost)
    return Forward((flow * cost).sum((1, 2)), cost)


def _geomloss(inputs: Inputs) -> Forward:
    """Its own entropic value, without debiasing: smoothing 0.01, scaling 0.9."""
    import geomloss  # looks for KeOps on import: slow

    loss = geomloss.SamplesLoss(
        "sinkhorn",
        p=1,
        blur=0.01,
        scaling=0.9,
        diameter=2.0,
        debias=False,
        backend="tensorized",
        cost=lambda x, y: 1 - x @ y.transpose(1, 2),
    )
    source, target = (
        one / one.sum(1, keepdim=True)
        for one in (inputs.student_weights, inputs.teacher_weights)
    )
    left = functional.normalize(inputs.students, dim=-1)
    right = functional.normalize(inputs.teachers, dim=-1)
    return Forward(loss(source, left, target, right))


def _cost_only(inputs: Inputs) -> Forward:
    """What all but geomloss do before they solve anything."""
    cost, source, target = cost_and_masses(inputs)
    return Forward((cost * (source[:, :, None] * target[:, None, :])).sum((1, 2)))


WAYS: dict[str, Way] = {
    REFERENCE: _emd2,
    "exact": _ours("exact"),
    "sinkhorn": _ours("sinkhorn"),
    "emd_c": _emd_c,
    "geomloss": _geomloss,
    "cv2.EMD": _cv2,
    "cost only": _cost_only,
}


def reason_to_skip(name: str, n: int, batch: int, device: torch.device) -> str | None:
    """Say why a way is not measured at a size, if it is not."""
    if name == "cv2.EMD" and n > LARGEST_FOR_CV2:
        return f"stops early without a word: wrong above {LARGEST_FOR_CV2} nodes"
    iterates = name in ("sinkhorn", "geomloss")
    if iterates and device.type == "cpu" and batch * n * n > LARGEST_ITERATED:
        return "would take minutes on a CPU"
    return None


def measure_quality(way: Way, inputs: Inputs, device: torch.device) -> Quality:
    """Compare a way with the optimum, in float64.

    Args:
        way: One of `WAYS`.
        inputs: Features and weights.
        device: Where to run.

    Returns:
        Its errors. The optimal value is that of HiGHS up to 64 nodes, else of our
        exact solver, whose certificate proves it; plan and gradients are of the
        latter.
    """
    found, plan, gradients = _differentiate(way, inputs, device)
    expected, best_plan, best = _differentiate(
        WAYS["exact"], inputs, torch.device("cpu")
    )
    values, whose = expected.value.detach(), "own certificate"
    if inputs.students.shape[1] <= LARGEST_FOR_HIGHS:
        values, whose = _highs_values(inputs), "HiGHS"
    features, best_features = (
        torch.cat([one.flatten(1) for one in gradient[:2]], 1)
        for gradient in (gradients, best)
    )
    weights, best_weights = (
        torch.cat([one.flatten(1) for one in gradient[2:]], 1)
        for gradient in (gradients, best)
    )
    plan_error = None
    if plan is not None and best_plan is not None:
        plan_error = float((plan - best_plan).abs().sum((1, 2)).max()) / 2
    has_weights = bool((weights != 0).any())
    gap = None if found.gap is None else float(found.gap.max())
    return Quality(
        float((found.value.detach().cpu().double() - values).abs().max()),
        plan_error,
        float(functional.cosine_similarity(features, best_features).min()),
        _relative(features, best_features),
        _relative(weights, best_weights) if has_weights else None,
        gap,
        found.fell_back,
        whose,
    )


def _differentiate(
    way: Way, inputs: Inputs, device: torch.device
) -> tuple[Forward, Tensor | None, list[Tensor]]:
    leaves = as_leaves(inputs, device, torch.float64)
    found = way(leaves)
    if found.cost is not None:
        found.cost.retain_grad()
    found.value.sum().backward()
    plan = None
    if found.cost is not None and found.cost.grad is not None:
        plan = found.cost.grad.cpu()
    gradients = [
        torch.zeros_like(one).cpu() if one.grad is None else one.grad.cpu()
        for one in leaves
    ]
    return found, plan, gradients


def _relative(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max())


def _highs_values(inputs: Inputs) -> Tensor:
    doubled = Inputs(*(one.detach().cpu().double() for one in inputs))
    costs, sources, targets = (one.numpy() for one in cost_and_masses(doubled))
    n = costs.shape[1]
    one, ones = sparse.identity(n), np.ones((1, n))
    constraints = sparse.vstack([sparse.kron(one, ones), sparse.kron(ones, one)])
    results = [
        linprog(
            cost.ravel(), A_eq=constraints, b_eq=np.concatenate(masses), method="highs"
        ).fun
        for cost, *masses in zip(costs, sources, targets, strict=True)
    ]
    return torch.tensor(results, dtype=torch.float64)
