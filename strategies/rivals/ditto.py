"""Ditto (Li et al., ICML 2021, algorithm 1): a global model, and one for every silo.

The global model w is trained as in FedAvg and never sees a personal one. Beside it,
every silo trains a model v_i of its own on L_i(v) + lambda / 2 ||v - w_t||^2 (the
objective that the paper calls "Ditto"), w_t being the global model at the start of the
round. lambda, the setting `rival.proximal-mu`, says how little personal it is: 0 is
local training. A silo without a personal model yet starts it from the global one.

It takes twice the local steps of FedAvg: both models train for `train.steps` in every
round, each on its own batches. For an equal number of steps give a run half of
`train.steps`. Three models travel to a silo, w, v_i and w_t, and two come back.
"""

from dataclasses import replace

from strategies.accumulation import State
from strategies.rivals.averaging import same_task_for_all, weighted_mean
from strategies.rivals.fedprox import ProximalTerm
from strategies.rivals.method import Ask, Memory, Method, Objective, SiloTask, Visit

PERSONAL, ANCHOR = "personal", "anchor"


class Ditto(Method):
    """Averages one model and keeps a personal one of every silo."""

    def play(self, memory: Memory, number: int, ask: Ask) -> Memory:
        """Train the global model everywhere, then every silo's own."""
        silos = self.terms.silos
        answers = ask(same_task_for_all(memory, silos))
        theta = weighted_mean(answers) if answers else memory.theta
        own = ask(
            [
                SiloTask(
                    silo,
                    self.personal(memory, silo),
                    {ANCHOR: memory.theta},
                    owner=silo,
                )
                for silo in silos
            ]
        )
        trained = {answer.silo: answer.weights for answer in own}
        if not answers and not trained:
            return memory
        kept = {**memory.own.get(PERSONAL, {}), **trained}
        return replace(memory, theta=theta, own={PERSONAL: kept})

    def personal(self, memory: Memory, silo: str) -> State:
        """Return v_i."""
        return memory.of(PERSONAL, silo, memory.theta)


def personal_steps(visit: Visit) -> Objective:
    """Build the silo's half: a pull on its own model, labels alone on the global one.

    Args:
        visit: A personal model comes with the global one as the aid "anchor".

    Returns:
        The objective of the task.
    """
    if ANCHOR not in visit.aids:
        return Objective()
    return ProximalTerm(visit.aids[ANCHOR], visit.settings.proximal_mu)
