"""Transport problems and an independent solver that several tests share."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor


class Problem(NamedTuple):
    cost: Tensor  # (batch, n, m)
    source: Tensor  # (batch, n)
    target: Tensor  # (batch, m)


class Optimum(NamedTuple):
    cost: float
    plan: np.ndarray  # (n, m)
    source_potential: np.ndarray  # (n,)
    target_potential: np.ndarray  # (m,)


COSTS = ("random", "ties", "zero-one", "constant", "tiny", "huge", "shifted")
MASSES = ("random", "uniform", "zeros", "wide", "single")


def uniform(batch: int, n: int) -> Tensor:
    return torch.full((batch, n), 1 / n, dtype=torch.float64)


def features(n: int, *, seed: int, batch: int = 2, dim: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, n, dim, generator=generator, dtype=torch.float64)


def make_problem(
    n: int,
    m: int,
    *,
    seed: int,
    costs: str = "random",
    masses: str = "random",
    batch: int = 1,
) -> Problem:
    rng = np.random.default_rng(seed)
    cost = 2 * rng.random((batch, n, m))
    if costs == "ties":
        cost = np.round(2 * cost) / 2
    elif costs == "zero-one":
        cost = rng.integers(0, 2, cost.shape).astype(float)
    elif costs == "constant":
        cost = np.full_like(cost, 0.75)
    elif costs in ("tiny", "huge"):
        cost = cost * {"tiny": 1e-12, "huge": 1e9}[costs]
    elif costs == "shifted":
        cost = 1e-3 * cost - 1e3
    sides = [_masses(rng, batch, count, masses) for count in (n, m)]
    return Problem(*(torch.from_numpy(array) for array in (cost, *sides)))


def solve_with_highs(cost: Tensor, source: Tensor, target: Tensor) -> Optimum:
    """Solve one linear programme: rows sum to source, columns to target."""
    n, m = cost.shape
    rows = np.kron(np.eye(n), np.ones((1, m)))
    columns = np.kron(np.ones((1, n)), np.eye(m))
    result = linprog(
        cost.numpy().ravel(),
        A_eq=np.vstack([rows, columns]),
        b_eq=np.concatenate([source.numpy(), target.numpy()]),
        method="highs",
    )
    assert result.status == 0, result.message
    duals = result.eqlin.marginals
    return Optimum(float(result.fun), result.x.reshape(n, m), duals[:n], duals[n:])


def _masses(rng: np.random.Generator, batch: int, count: int, kind: str) -> np.ndarray:
    mass = rng.random((batch, count)) + 1e-3
    if kind == "uniform":
        mass = np.ones_like(mass)
    elif kind == "zeros":
        mass = mass * (rng.random(mass.shape) < 0.6)
        mass[:, 0] += 0.1
    elif kind == "wide":
        mass = 10.0 ** rng.uniform(-12, 0, mass.shape)
    elif kind == "single":
        mass = np.zeros_like(mass)
        mass[:, -1] = 1.0
    return mass / mass.sum(1, keepdims=True)
