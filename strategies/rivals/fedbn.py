"""FedBN (Li et al., ICLR 2021): normalisation layers stay at the silos.

All other tensors are averaged as in FedAvg. The paper has batch normalisation in mind;
transformers have layer normalisation in its place, and keeping that local, too, is
known as norm-local. Nobody's normalisation fits a hospital that took no part: for it,
and for the tests of one global model, the mean of the silos' is kept beside.
"""

from dataclasses import replace

from strategies.accumulation import State
from strategies.rivals.averaging import weighted_mean
from strategies.rivals.method import Ask, Memory, Method, SiloTask

NORMS = "norms"


class FedBN(Method):
    """Averages all but the tensors of normalisation layers."""

    def play(self, memory: Memory, number: int, ask: Ask) -> Memory:
        """Train everywhere, each silo with its own normalisation."""
        answers = ask(
            [SiloTask(silo, self.personal(memory, silo)) for silo in self.terms.silos]
        )
        if not answers:
            return memory
        norms = dict(memory.own.get(NORMS, {}))
        for answer in answers:
            norms[answer.silo] = {
                name: answer.weights[name] for name in sorted(self.terms.local_names)
            }
        return replace(memory, theta=weighted_mean(answers), own={NORMS: norms})

    def personal(self, memory: Memory, silo: str) -> State:
        """Return the global model with the silo's own normalisation."""
        return {**memory.theta, **memory.of(NORMS, silo, {})}
