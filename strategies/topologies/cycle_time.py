"""The time of a round, when every silo waits only for its teachers.

Silo i starts round k + 1 when the models of all its teachers, and its own, have come:
t_i(k + 1) = max_j (t_j(k) + d(j, i)), a linear system in max-plus algebra. A round then
takes, in the long run, the largest mean delay of a cycle of the graph (Marfoq et al.,
NeurIPS 2020, arXiv 2010.12229, eq. 5; Baccelli et al., 1992).
"""

from collections.abc import Iterable

import numpy as np

from strategies.topologies.delays import Matrix


def maximum_cycle_mean(delays: Matrix) -> float:
    """Find the largest mean delay of a cycle (Karp, Discrete Mathematics 23, 1978).

    Args:
        delays: (silos, silos), row to column; minus infinity where there is no edge.

    Returns:
        The mean, in the units of the delays; minus infinity for a graph without cycles.

    Raises:
        ValueError: If the matrix is not square, or holds NaN or infinity.
    """
    size = _check(delays)
    # heaviest[k, i]: the heaviest walk of k edges that ends in i, from anywhere.
    heaviest = np.zeros((size + 1, size))
    for length in range(size):
        heaviest[length + 1] = (heaviest[length][:, None] + delays).max(axis=0)
    ends = np.isfinite(heaviest[-1])
    if not ends.any():
        return -np.inf
    lengths = np.arange(size, 0, -1)[:, None]
    means = (heaviest[-1, ends] - heaviest[:-1, ends]) / lengths
    return float(means.min(axis=0).max())


def mean_round_time(rounds: Iterable[Matrix]) -> float:
    """Follow the rounds of a graph that changes, and return the mean time of one.

    Args:
        rounds: The delays of each round, at least one; as in `maximum_cycle_mean`, with
            a finite diagonal.

    Returns:
        When the last silo ends the last round, divided by the number of rounds. For a
        graph that stays the same this tends to `maximum_cycle_mean`.

    Raises:
        ValueError: If there are no rounds, or a matrix is not square.
    """
    times, count = np.zeros(1), 0
    for delays in rounds:
        size = _check(delays)
        if count == 0:
            times = np.zeros(size)
        times = (times[:, None] + delays).max(axis=0)
        count += 1
    if count == 0:
        raise ValueError("There are no rounds to follow.")
    return float(times.max() / count)


def _check(delays: Matrix) -> int:
    if delays.ndim != 2 or delays.shape[0] != delays.shape[1] or not delays.size:
        raise ValueError(f"Delays must form a square, got shape {delays.shape}.")
    if np.isnan(delays).any() or np.isposinf(delays).any():
        raise ValueError("Delays must be numbers, or minus infinity for no edge.")
    return len(delays)
