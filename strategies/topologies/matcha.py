"""MATCHA: in every round another part of a graph, made of random matchings.

Wang et al., "MATCHA: speeding up decentralized SGD via matching decomposition
sampling" (arXiv 1905.09435): the links are sorted into matchings, whose links can all
be used at once; in each round every matching is used with a probability of its own.
These probabilities make the expected graph as connected as a budget allows (its
equation 4).
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from strategies.topologies.trees import Pair

BUDGET = 0.5  # expected share of the matchings that a round uses
NUM_ASCENT_STEPS = 150
NUM_HALVINGS = 60  # of the interval in which the projection's shift lies

Matching = tuple[Pair, ...]
"""Pairs of silos in which no silo is twice."""


def decompose(pairs: Iterable[Pair], size: int) -> list[Matching]:
    """Sort links into few matchings.

    Args:
        pairs: Distinct links between silos.
        size: Number of silos.

    Returns:
        Matchings that hold every link once: as few as can be when all silos are
        joined to all, else by greedy colouring of the links (DSatur; Brelaz, 1979).
    """
    links = sorted(pairs)
    if len(links) == size * (size - 1) // 2:
        return _round_robin(size)
    import networkx  # slow to import

    graph = networkx.Graph()
    graph.add_nodes_from(links)
    graph.add_edges_from(
        (first, second)
        for index, first in enumerate(links)
        for second in links[index + 1 :]
        if set(first) & set(second)
    )
    colours = networkx.greedy_color(graph, strategy="DSATUR")
    return [
        tuple(link for link in links if colours[link] == colour)
        for colour in range(max(colours.values(), default=-1) + 1)
    ]


def activation_probabilities(
    matchings: Sequence[Matching], size: int, budget: float = BUDGET
) -> tuple[float, ...]:
    """Choose how often each matching is used, so that the silos mix as fast as can be.

    Maximises the second smallest eigenvalue of the expected Laplacian, a concave
    function, by projected supergradient steps from equal probabilities.

    Args:
        matchings: At least one.
        size: Number of silos, at least 2.
        budget: Expected share of the matchings in a round, above 0, at most 1.

    Returns:
        A probability for each matching; their mean is the budget.

    Raises:
        ValueError: If the budget is out of range.
    """
    if not 0 < budget <= 1:
        raise ValueError(f"The budget must be above 0 and at most 1, got {budget}.")
    laplacians = np.stack([laplacian(matching, size) for matching in matchings])
    probabilities = np.full(len(matchings), budget)
    best, best_connectivity = probabilities, -np.inf
    # All but one eigenvalue share the trace, which grows with the largest matching.
    largest = max(len(matching) for matching in matchings)
    limit = 2 * budget * len(matchings) * largest / (size - 1)
    for step in range(NUM_ASCENT_STEPS):
        expected = np.tensordot(probabilities, laplacians, axes=1)
        values, vectors = np.linalg.eigh(expected)
        # Only a real gain replaces the equal start, not a rounding error.
        if values[1] > best_connectivity + 1e-9:
            best, best_connectivity = probabilities, values[1]
        if best_connectivity > limit - 1e-9:
            break  # as with all pairs: no other shares do better
        slowest = vectors[:, 1]
        gradient = np.einsum("i,mij,j->m", slowest, laplacians, slowest)
        length = 0.2 / np.sqrt(step + 1) / max(float(np.linalg.norm(gradient)), 1e-12)
        probabilities = _project(probabilities + length * gradient, budget)
    return tuple(float(probability) for probability in best)


def draw_active(
    matchings: Sequence[Matching],
    probabilities: Sequence[float],
    generator: np.random.Generator,
) -> list[Pair]:
    """Draw the links of one round.

    Args:
        matchings: From `decompose`.
        probabilities: One for each matching.
        generator: Source of randomness.

    Returns:
        The links of the matchings that are used; perhaps none.
    """
    used = generator.random(len(matchings)) < np.asarray(probabilities)
    return [
        link
        for matching, is_used in zip(matchings, used, strict=True)
        if is_used
        for link in matching
    ]


def _round_robin(size: int) -> list[Matching]:
    """Pair all with all as in a tournament: one stays, the others turn."""
    even = size + size % 2
    turning = even - 1
    rounds = []
    for shift in range(turning):
        meetings = [(shift, turning)] + [
            ((shift + step) % turning, (shift - step) % turning)
            for step in range(1, even // 2)
        ]
        # With an odd number the last one is a gap: who meets it has no partner.
        rounds.append(
            tuple(
                sorted(
                    (min(meeting), max(meeting))
                    for meeting in meetings
                    if max(meeting) < size
                )
            )
        )
    return rounds


def laplacian(links: Sequence[Pair], size: int) -> NDArray[np.float64]:
    """Return degrees minus adjacency of a graph.

    Args:
        links: Pairs of nodes.
        size: Number of nodes.

    Returns:
        (size, size).
    """
    found = np.zeros((size, size))
    for first, second in links:
        found[[first, second], [first, second]] += 1
        found[[first, second], [second, first]] -= 1
    return found


def _project(values: NDArray[np.float64], mean: float) -> NDArray[np.float64]:
    """Return the nearest numbers from 0 to 1 that have a given mean."""
    low, high = -float(values.max()), 1 - float(values.min())
    for _ in range(NUM_HALVINGS):
        shift = (low + high) / 2
        if np.clip(values + shift, 0, 1).mean() < mean:
            low = shift
        else:
            high = shift
    projected: NDArray[np.float64] = np.clip(values + high, 0, 1)
    return projected
