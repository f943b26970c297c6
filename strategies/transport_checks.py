"""What is refused before a transport problem is solved."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MARGINALS = ("uniform", "cross-reference")
GRADIENTS = ("none", "flow", "full")
SOLVERS = ("exact", "sinkhorn")

DIVERGED = (
    "must be finite; the network has probably diverged. Lower train.learning-rate."
)
MASS_TOLERANCE = 1e-4  # sums of half and single floats are off by less


def check_problem(cost: Tensor, source: Tensor, target: Tensor) -> None:
    """Check a batch of transport problems, where they are.

    Args:
        cost: Wanted as (batch, n, m), finite, n and m at least 1.
        source: Wanted as (batch, n), >= 0, each row sums to one.
        target: Wanted as (batch, m), >= 0, each row sums to one.

    Raises:
        ValueError: If they are not that.
    """
    check_shapes(cost, source, target)
    if not len(cost):
        return
    low, high = torch.aminmax(cost.detach())
    if not bool(torch.isfinite(low) & torch.isfinite(high)):
        raise ValueError(f"Cost and masses {DIVERGED}")
    for mass in (source, target):
        check_masses(mass.detach().cpu().double().numpy())


def check_masses(masses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Check masses and take out what rounding left in their sums.

    Args:
        masses: Wanted as (batch, n), finite, >= 0, each row sums to one.

    Returns:
        The masses with sums of exactly one, to within float64.

    Raises:
        ValueError: If they are not that.
    """
    totals = masses.sum(1)
    furthest, least = np.abs(totals - 1).max(initial=0.0), masses.min(initial=0.0)
    if not np.isfinite(furthest):
        raise ValueError(f"Cost and masses {DIVERGED}")
    if least < 0 or furthest > MASS_TOLERANCE:
        raise ValueError("Masses must be >= 0 and sum to one in every row.")
    normalised: NDArray[np.float64] = masses / totals[:, None]
    return normalised


def check_shapes(cost: Tensor, source: Tensor, target: Tensor) -> None:
    """Check that costs and masses belong together.

    Args:
        cost: Wanted as (batch, n, m), n and m at least 1.
        source: Wanted as (batch, n).
        target: Wanted as (batch, m).

    Raises:
        ValueError: If they are not that.
    """
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
    if 0 in cost.shape[1:]:
        raise ValueError(f"A set without nodes has no distance: {tuple(cost.shape)}.")


def check_features(students: Tensor, teachers: Tensor) -> None:
    """Check two batches of feature sets.

    Args:
        students: Wanted as (batch, n, dim).
        teachers: Wanted as (batch, m, dim).

    Raises:
        ValueError: If they are not that.
    """
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


def check_choice(name: str, chosen: str, allowed: tuple[str, ...]) -> None:
    """Check an option.

    Args:
        name: What the option is called.
        chosen: What was asked for.
        allowed: What exists.

    Raises:
        ValueError: If it does not exist.
    """
    if chosen not in allowed:
        raise ValueError(f"{name} must be one of {allowed}, got '{chosen}'.")
