"""Gossip on a ring: what FedEFM's released code does in place of its method.

The code of arXiv 2501.16992 (main at 2d8440b) holds no distillation. A round there is
(a) local steps of every silo; (b) a global model, the uniform mean of all, which nobody
gets; (c) for every silo i and neighbour j a copy of theta_j takes a step on silo i's
frames, so models are pulled and none learns abroad on its own errand; (d)
theta_i <- (1 - s) theta_i + s mean_j theta_j', with s = 1/2 on a ring in both
directions: 0.5 own + 0.25 + 0.25. So it is here, (b) before (c) and (d) as there.

What differs: neighbours are those of the sorted names, not of a network's delays; a
copy brings its weights alone, since every phase here starts a fresh AdamW and ramps as
`train.warmup-steps` says (its one step of two: at a third of the learning rate), while
in the code Adam's state and its schedule come along; running statistics of
normalisation are mixed with the weights. A silo that fails hosts nobody, visits nobody
and keeps what it had; if a copy is lost on its visit, the others share its part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from models.weights import VARIANCE
from strategies.accumulation import State, accumulate
from strategies.rivals.method import Ask, Memory, Method, SiloAnswer, SiloTask

MODEL = "model"
"""Kind of memory: a silo's own model."""


class Gossip(Method):
    """Neighbours on a ring mix their models, after a visit to one another."""

    def play(self, memory: Memory, number: int, ask: Ask) -> Memory:
        """Train at home, accumulate, visit, mix: steps (a) to (d)."""
        own = own_models(memory, self.terms.silos)
        trained = train_at_home(own, ask)
        if not trained:
            return replace(memory, own={MODEL: own})
        own |= trained
        copies: dict[str, list[State]] = {silo: [] for silo in trained}
        for visitor in self._visit(trained, ask):
            copies[visitor.silo].append(visitor.weights)
        mixed = {
            silo: self._mix(own[silo], visitors) for silo, visitors in copies.items()
        }
        return replace(memory, theta=accumulate(trained), own={MODEL: own | mixed})

    def personal(self, memory: Memory, silo: str) -> State:
        """Return the silo's own model."""
        return memory.of(MODEL, silo, memory.theta)

    def _visit(self, trained: Mapping[str, State], ask: Ask) -> list[SiloAnswer]:
        """Return every neighbour's copy after its steps at each silo, step (c)."""
        visits = [
            SiloTask(silo, trained[other], owner=other)
            for silo in trained
            for other in ring_neighbours(self.terms.silos, silo)
            if other in trained
        ]
        if self.settings.visit_steps == 0:  # nothing to ask for: the copies themselves
            return [SiloAnswer(one.silo, one.owner, one.weights, 0) for one in visits]
        return ask(visits) if visits else []

    def _mix(self, own: State, visitors: Sequence[State]) -> State:
        """Return what a silo makes of itself and its visitors, step (d)."""
        if not visitors:
            return own
        part = self.settings.gossip_share / len(visitors)
        weights = [1 - self.settings.gossip_share, *(part for _ in visitors)]
        return combine([own, *visitors], weights)


def own_models(memory: Memory, silos: Sequence[str]) -> dict[str, State]:
    """Return what every silo starts a round from; theta(0) before the first."""
    # Kept of all silos from the start, so that theta never takes a lost one's place.
    return {silo: memory.of(MODEL, silo, memory.theta) for silo in silos}


def train_at_home(own: Mapping[str, State], ask: Ask) -> dict[str, State]:
    """Let every silo train its own model; return those that answered, sorted."""
    answers = ask([SiloTask(silo, own[silo]) for silo in sorted(own)])
    return {one.silo: one.weights for one in sorted(answers, key=lambda one: one.silo)}


def ring_neighbours(silos: Sequence[str], silo: str) -> tuple[str, ...]:
    """Return who stands beside a silo on the ring of the names, in both directions.

    Args:
        silos: Names, in the order of the ring.
        silo: One of them.

    Returns:
        Two names; one of two silos, none of one.
    """
    place = silos.index(silo)
    beside = (silos[place - 1], silos[(place + 1) % len(silos)])
    return tuple(sorted(set(beside) - {silo}))


def combine(states: Sequence[State], weights: Sequence[float]) -> State:
    """Add models up, each times its weight.

    Args:
        states: At least one; with the same tensors.
        weights: One for each; their sum is 1. One may be negative, as MATCHA's own
            share can be. Running variances then stay within those that are mixed:
            below zero they would be none.

    Returns:
        sum_k a_k theta_k in float64, in the models' own number type.

    Raises:
        ValueError: If there are not as many weights as models, or none.
    """
    if not states or len(states) != len(weights):
        raise ValueError(
            f"Mixing wants a weight for each of its models, got {len(states)} models "
            f"and {len(weights)} weights."
        )
    mixed: State = {}
    for name, first in states[0].items():
        summed = torch.zeros_like(first, dtype=torch.float64)
        for state, weight in zip(states, weights, strict=True):
            summed += weight * state[name].double()
        if name.endswith(VARIANCE) and min(weights) < 0:
            known = torch.stack([state[name].double() for state in states])
            summed = summed.clamp(known.amin(0), known.amax(0))
        mixed[name] = summed.to(first.dtype)
    return mixed
