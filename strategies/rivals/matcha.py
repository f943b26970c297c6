"""MATCHA: gossip over random matchings (Wang et al., arXiv 1905.09435).

A graph of all silos is sorted into matchings; in each round matching j is used with a
probability p_j, chosen so that the expected graph is as connected as the budget allows
(section 3, steps 1 and 2: `strategies/topologies/matcha.py`). After the local steps all
models are mixed at once, theta <- W theta with W = I - alpha L, where L is the
Laplacian of the links of the round and alpha the number that lets models approach
their mean fastest in expectation (step 3).

Choices where the paper leaves one: the base graph joins all silos to all; every round
is one mixing after all local steps, where the paper mixes after each; theta is the
uniform mean, which mixing does not change, and nobody gets it. W is symmetric with rows
that sum to one, and not negative with up to four silos and the default budget; with
more, a silo's own share falls below zero in rounds with many links at once, as the
paper's alpha wants. Links of a silo that fails are dropped; W stays symmetric.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from strategies.accumulation import State, accumulate
from strategies.randomness import derive_seed
from strategies.rivals.gossip import MODEL, combine, own_models, train_at_home
from strategies.rivals.method import Ask, Memory, Method
from strategies.topologies.matcha import (
    Matching,
    activation_probabilities,
    decompose,
    draw_active,
    laplacian,
)
from strategies.topologies.trees import Pair

Matrix = NDArray[np.float64]


class Matcha(Method):
    """Silos mix their models along the links that a round happens to have."""

    def play(self, memory: Memory, number: int, ask: Ask) -> Memory:
        """Train at home, then mix along this round's links."""
        own = own_models(memory, self.terms.silos)
        trained = train_at_home(own, ask)
        if not trained:
            return replace(memory, own={MODEL: own})
        present = [silo in trained for silo in self.terms.silos]
        links = [pair for pair in self.links(number) if all(present[i] for i in pair)]
        mixed = mix(own | trained, mixing_matrix(links, len(own), self.plan.alpha))
        theta = accumulate({silo: mixed[silo] for silo in trained})
        return replace(memory, theta=theta, own={MODEL: mixed})

    def personal(self, memory: Memory, silo: str) -> State:
        """Return the silo's own model."""
        return memory.of(MODEL, silo, memory.theta)

    def links(self, number: int) -> list[Pair]:
        """Return the links of a round, pairs of places in the sorted names."""
        if not self.plan.matchings:
            return []
        seed = derive_seed(
            self.terms.seed, round_number=number, phase="matcha", site=""
        )
        return draw_active(
            self.plan.matchings, self.plan.probabilities, np.random.default_rng(seed)
        )

    @cached_property
    def plan(self) -> "Plan":
        """What is drawn from in every round; a function of the terms."""
        return Plan(len(self.terms.silos), self.settings.activation)


class Plan:
    """Matchings of a complete graph, their probabilities and the mixing step."""

    def __init__(self, size: int, budget: float) -> None:
        """Plan for a number of silos and an expected share of links, above 0 to 1."""
        self.matchings: list[Matching] = []
        self.probabilities: tuple[float, ...] = ()
        self.alpha = 0.0
        if size < 2:
            return
        pairs = [(one, other) for other in range(size) for one in range(other)]
        self.matchings = decompose(pairs, size)
        self.probabilities = activation_probabilities(self.matchings, size, budget)
        self.alpha = best_step(self.matchings, self.probabilities, size)


def best_step(
    matchings: Sequence[Matching], probabilities: Sequence[float], size: int
) -> float:
    """Find the alpha that lets models approach their mean fastest in expectation.

    Args:
        matchings: At least one.
        probabilities: Of each; the expected graph must be connected.
        size: Number of silos, at least 2.

    Returns:
        The minimiser of `contraction`, which is convex in alpha.
    """
    from scipy.optimize import minimize_scalar  # slow to import

    largest = np.linalg.eigvalsh(_expected(matchings, probabilities, size))[-1]
    # From 2 / (largest eigenvalue) on, nothing contracts along its eigenvector.
    found = minimize_scalar(
        lambda alpha: contraction(alpha, matchings, probabilities, size),
        bounds=(0.0, 2.0 / float(largest)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return float(found.x)


def contraction(
    alpha: float,
    matchings: Sequence[Matching],
    probabilities: Sequence[float],
    size: int,
) -> float:
    """Return by how much a round shrinks the silos' squared distance from their mean.

    The spectral norm of E[W'W] - J, J being the mean; with independent matchings
    E[W'W] = I - 2 alpha E[L] + alpha^2 (E[L]^2 + 2 sum_j p_j (1 - p_j) L_j). The paper
    minimises the same norm as a semidefinite program; with one unknown, convex, a
    search along a line finds it.

    Args:
        alpha: Of W = I - alpha L.
        matchings: Of the graph.
        probabilities: Of each.
        size: Number of silos.

    Returns:
        >= 0; below 1 the silos approach one another in expectation.
    """
    expected = _expected(matchings, probabilities, size)
    spread = _expected(matchings, [p * (1 - p) for p in probabilities], size)
    second = expected @ expected + 2 * spread
    identity, mean = np.eye(size), np.full((size, size), 1 / size)
    gram = identity - 2 * alpha * expected + alpha**2 * second - mean
    return float(np.linalg.norm(gram, 2))


def mixing_matrix(links: Sequence[Pair], size: int, alpha: float) -> Matrix:
    """Return W = I - alpha L of the links; symmetric, every row sums to one."""
    return np.eye(size) - alpha * laplacian(links, size)


def mix(states: dict[str, State], matrix: Matrix) -> dict[str, State]:
    """Return W theta: for every silo all models, weighted by its row.

    Args:
        states: Of all silos, sorted by name.
        matrix: (silos, silos), of `mixing_matrix`.

    Returns:
        By silo; who has no link keeps its tensors.
    """
    names = list(states)
    mixed = {}
    for place, silo in enumerate(names):
        heard = np.flatnonzero(matrix[place])
        weights = [float(matrix[place, other]) for other in heard]
        is_alone = len(heard) == 1 and heard[0] == place
        mixed[silo] = (
            states[silo]
            if is_alone
            else combine([states[names[other]] for other in heard], weights)
        )
    return mixed


def _expected(
    matchings: Sequence[Matching], probabilities: Sequence[float], size: int
) -> Matrix:
    found = np.zeros((size, size))
    for probability, matching in zip(probabilities, matchings, strict=True):
        found += probability * laplacian(matching, size)
    return found
