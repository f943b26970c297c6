"""Relay: one model travels from silo to silo (cyclic weight transfer).

Chang et al., "Distributed deep learning networks among institutions for medical
imaging" (JAMIA 2018): within a round the model trains at one institution after the
other. Updates are sequential, so a round takes as long as all visits together, and
moves one model per visit. Silos stand in the order of their names; the first of a round
moves on by one every round, so that nobody is always last, since what was seen last is
remembered best. (The paper keeps one order.) A silo that fails is skipped.

With retention r > 0, which is ours, the traveller's former self, frozen as it arrived,
teaches it on the host's frames: (1 - r) L + r T^2 KL over all classes, as in FedEFM's
`teach-on` "host". What it forgets of others shows there. With r = 0 the relay is the
published one.
"""

from dataclasses import replace

from torch import Tensor

from strategies.accumulation import State
from strategies.distillation import (
    classification_distillation_loss,
    distillation_loss,
)
from strategies.rivals.method import (
    Ask,
    Memory,
    Method,
    Objective,
    SiloTask,
    Step,
    Visit,
)
from strategies.topology import tour_order

FORMER = "former self"


class Relay(Method):
    """One model visits all silos in turn."""

    def play(self, memory: Memory, number: int, ask: Ask) -> Memory:
        """Send the model round once, a phase for every visit."""
        traveller = memory.theta
        for silo in tour_order(self.terms.silos, number):
            for answer in ask([SiloTask(silo, traveller)]):
                traveller = answer.weights
        return replace(memory, theta=traveller)


class FormerSelf(Objective):
    """Mixes what the traveller knew on arrival into the label loss."""

    def __init__(self, arrived: State, share: float, temperature: float) -> None:
        """Keep the former self; share is r, 0 to 1, temperature T > 0."""
        self._share = share
        self._temperature = temperature
        # Without retention nobody is asked, which saves a pass per step.
        self.teachers = {FORMER: arrived} if share > 0 else {}

    @classmethod
    def of(cls, visit: Visit) -> "FormerSelf":
        """Freeze the weights that arrived."""
        settings = visit.settings
        return cls(visit.received, settings.retention, settings.temperature)

    def loss(self, step: Step) -> Tensor:
        """Return (1 - r) L + r T^2 KL(former self || traveller)."""
        if not self.teachers:
            return step.label_loss
        now, then = step.output.logits, step.answers[FORMER].logits
        if now.ndim == 2:  # what a frame shows as a whole
            kept = classification_distillation_loss(now, then, self._temperature)
        else:
            kept = distillation_loss(
                now, then, temperature=self._temperature, valid=step.batch.valid
            )
        return (1 - self._share) * step.label_loss + self._share * kept
