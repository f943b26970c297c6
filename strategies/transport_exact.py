"""Optimal transport solved exactly: the network simplex of POT, over a batch.

POT (Flamary et al., JMLR 22, 2021) brings the solver of Bonneel et al. (SIGGRAPH Asia
2011). Its compiled entry is called directly, since `ot.emd` spends more time around it
than in it for small problems; where that entry is missing or has changed, `ot.emd`
itself answers, with the same result. Every answer is checked: the solver's own word and
the primal-dual gap.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strategies.transport_certificate import Transport, TransportError
from strategies.transport_checks import DIVERGED, check_masses, check_shapes

MAX_PIVOTS = 10_000_000
CHUNK_VALUES = 32_768  # of costs that are handled together, to stay in the cache
THREADED_VALUES = 262_144  # costs of a batch; less is over before threads pay off
OPTIMAL = 1  # POT's result code
LARGEST_COST = 1e300  # differences still fit
CERTIFIED = 1e-8  # gap and marginal error of a right answer; usual are 1e-15

_Array = NDArray[np.float64]


class _Problem(NamedTuple):
    costs: _Array  # (batch, n, m)
    sources: _Array  # (batch, n)
    targets: _Array  # (batch, m)


class _Solution(NamedTuple):
    """The numbers of a `Transport`, in its order; filled in place."""

    cost: _Array  # (batch,)
    plan: _Array  # (batch, n, m)
    source_potential: _Array  # (batch, n)
    target_potential: _Array  # (batch, m)
    marginal_error: _Array  # (batch,)
    gap: _Array  # (batch,)


class _Answer(NamedTuple):
    plan: _Array  # (n, m)
    source_potential: _Array  # (n,)
    code: int


_Solver = Callable[[_Array, _Array, _Array, int], _Answer]


def solve_exact(
    cost: Tensor, source: Tensor, target: Tensor, *, max_pivots: int = MAX_PIVOTS
) -> Transport:
    """Solve optimal transport problems with the network simplex, without gradients.

    FedEFM defect 3: eq. (5) wants all flows above zero, where no minimum is; here they
    may be zero, as most are.

    Args:
        cost: (batch, n, m), finite, any float type, scale and device; solved in
            float64 on the CPU. A batch that is worth it is shared among as many
            threads as PyTorch has; the result does not depend on them.
        source: (batch, n), >= 0, each row sums to one.
        target: (batch, m), >= 0, each row sums to one.
        max_pivots: Steps after which a problem is given up.

    Returns:
        Plans, potentials and their certificates, on the device of the cost, float64.
        Where masses are uniform many potentials are optimal; these are one of them.

    Raises:
        ValueError: If shapes disagree, a mass is negative or does not sum to one, or
            a number is not finite.
        TransportError: If the solver stops early or its answer is not optimal.
    """
    check_shapes(cost, source, target)
    problem = _Problem(
        cost.detach().cpu().double().contiguous().numpy(),
        check_masses(source.detach().cpu().double().numpy()),
        check_masses(target.detach().cpu().double().numpy()),
    )
    batch, n, m = cost.shape
    solution = _Solution(
        *(np.empty(shape) for shape in (batch, (batch, n, m), (batch, n), (batch, m))),
        *(np.empty(batch) for _ in range(2)),
    )
    workers = min(torch.get_num_threads(), batch)
    threaded = workers > 1 and batch * n * m >= THREADED_VALUES
    size = max(1, CHUNK_VALUES // (n * m))
    size = min(size, -(-batch // workers)) if threaded else size

    def solve_chunk(start: int) -> None:
        chunk = slice(start, start + size)
        _solve_chunk(
            _Problem(*(array[chunk] for array in problem)),
            _Solution(*(array[chunk] for array in solution)),
            max_pivots,
        )

    if threaded:
        # A lasting pool would be dead in forked processes; this one costs 0.1 ms.
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(solve_chunk, range(0, batch, size)))
    else:
        for start in range(0, batch, size):
            solve_chunk(start)
    fields = [torch.from_numpy(field) for field in solution]
    fields.append(torch.zeros(batch, dtype=torch.bool))
    return Transport(*(field.to(cost.device) for field in fields))


def _solve_chunk(problem: _Problem, solution: _Solution, max_pivots: int) -> None:
    """Solve some problems one after the other and certify them together."""
    scaled, exponents, largest = _scale(problem.costs)
    solver = _compiled_solver() or _solve_by_front_door
    for item, cost in enumerate(scaled):
        source, target = problem.sources[item], problem.targets[item]
        plan, potential, code = solver(source, target, cost, max_pivots)
        if code != OPTIMAL:
            raise TransportError(
                f"The network simplex stopped without an optimum (code {code}) on "
                f"{len(source)} x {len(target)} nodes, limit {max_pivots} pivots. "
                "Pool the features to fewer nodes or raise the limit."
            )
        solution.plan[item] = plan
        solution.source_potential[item] = np.ldexp(potential, exponents[item])
    _certify(problem, solution)
    gaps, errors = np.abs(solution.gap), solution.marginal_error
    # Rounding is relative to the largest cost, whatever the range.
    if (gaps > CERTIFIED * largest).any() or (errors > CERTIFIED).any():
        raise TransportError(
            "The network simplex called a plan optimal that is not: gap "
            f"{gaps.max():.1e} at costs up to {largest.max():.1e}, marginal error "
            f"{errors.max():.1e}. Please report this problem."
        )


def _certify(problem: _Problem, solution: _Solution) -> None:
    """Do as `certify`, in NumPy: its calls cost a third, which counts at 4x4 nodes."""
    costs, sources, targets = problem
    f, g = solution.source_potential, solution.target_potential
    # Solvers leave anything at nodes without mass; it must not press on the others.
    massless = sources == 0
    f[massless] = -np.inf
    np.min(costs - f[:, :, None], axis=1, out=g)
    if massless.any():
        np.min(costs - g[:, None, :], axis=2, out=f)
    np.einsum("bnm,bnm->b", solution.plan, costs, out=solution.cost)
    f_mean = np.einsum("bn,bn->b", f, sources)
    g_mean = np.einsum("bm,bm->b", g, targets)
    np.subtract(solution.cost, f_mean + g_mean, out=solution.gap)
    f -= f_mean[:, None]
    g -= g_mean[:, None]
    left, right = solution.plan.sum(2) - sources, solution.plan.sum(1) - targets
    np.add(np.abs(left).sum(1), np.abs(right).sum(1), out=solution.marginal_error)


def _scale(costs: _Array) -> tuple[_Array, NDArray[np.int_], _Array]:
    """Bring every cost matrix to a range of about one, by a power of two.

    The solver stops at an absolute 1e-14 or so: at costs of 1e-12 its answer would
    be wrong, and rightly called optimal by its own rule.

    Returns:
        The costs to solve with, the exponents of two that were taken out, and the
        largest magnitude of each matrix as it came.
    """
    low, high = costs.min((1, 2)), costs.max((1, 2))
    largest = np.maximum(-low, high)
    if not (largest < LARGEST_COST).all():  # NaN is not smaller either
        raise ValueError(f"Cost and masses {DIVERGED}")
    exponents = np.frexp(high - low)[1]
    # Cosine costs are at home here; nothing is copied for them.
    if np.abs(exponents).max(initial=0) <= 2 and largest.max(initial=0.0) <= 4:
        return costs, np.zeros_like(exponents), largest
    shifted = costs - low[:, None, None]
    return np.ldexp(shifted, -exponents[:, None, None]), exponents, largest


@cache
def _compiled_solver() -> _Solver | None:
    """Return POT's compiled entry, or None where it is not what we know."""
    try:
        from ot.lp.emd_wrap import emd_c  # may move: it is not documented
    except ImportError:
        return None

    def solve_compiled(
        source: _Array, target: _Array, cost: _Array, max_pivots: int
    ) -> _Answer:
        plan, _, potential, _, code = emd_c(source, target, cost, max_pivots, 1)
        return _Answer(plan, potential, code)

    half = np.full(2, 0.5)
    try:
        answer = solve_compiled(half, half, 1.0 - np.eye(2), 100)
    except (TypeError, ValueError):  # other arguments or other results
        return None
    fits = answer.code == OPTIMAL and np.array_equal(answer.plan, np.eye(2) / 2)
    return solve_compiled if fits else None


def _solve_by_front_door(
    source: _Array, target: _Array, cost: _Array, max_pivots: int
) -> _Answer:
    log: dict[str, Any]
    import ot  # slow to import, and a site without teachers never asks

    plan, log = ot.emd(source, target, cost, numItermax=max_pivots, log=True)
    return _Answer(plan, log["u"], log["result_code"])
