"""FedGKD (Yao et al., 2021, arXiv 2107.00051): former global models teach the silos.

The teacher is the mean of the last M global models, the current one among them; a silo
descends on L + gamma / 2 KL(teacher || silo). The centre keeps the models and sends
their mean, so that a silo runs one teacher whatever M is (the paper's FedGKD-Vote sends
all of them; it is not here). While fewer than M rounds have passed, the mean is over
the models there are; in the first round the teacher is the model that arrived.

What our setting changes: classes overlap, so the divergence is that of one coin a class
and pixel times T^2, mean over the batch, the valid area and all classes, also those
that a site does not annotate. Most pixels are background of which both models are sure,
so the paper's gamma of 0.2, for a divergence summed over the classes of an image, is
another strength here. The teacher is in evaluation mode, the silo in training mode.
"""

from dataclasses import replace

from torch import Tensor

from strategies.accumulation import State, accumulate
from strategies.distillation import distillation_loss
from strategies.rivals.averaging import weighted_mean
from strategies.rivals.method import (
    Ask,
    Memory,
    Method,
    Objective,
    SiloTask,
    Step,
    Visit,
)

FORMER = "former"


class FedGKD(Method):
    """Averages as FedAvg and keeps the global models of the last M - 1 rounds."""

    def play(self, memory: Memory, number: int, ask: Ask) -> Memory:
        """Train everywhere with the mean of the last global models beside."""
        # By age: 1 is the global model of the round before.
        last = [memory.theta, *(memory.shared[one] for one in sorted(memory.shared))]
        aids = {}
        if len(last) > 1:
            aids[FORMER] = accumulate({str(age): one for age, one in enumerate(last)})
        answers = ask([SiloTask(silo, memory.theta, aids) for silo in self.terms.silos])
        if not answers:
            return memory
        older = last[: self.settings.former_models - 1]
        return replace(
            memory,
            theta=weighted_mean(answers),
            shared={f"{FORMER}-{age:04d}": one for age, one in enumerate(older, 1)},
        )


class FormerTeacher(Objective):
    """Adds gamma / 2 times the divergence from the teacher."""

    def __init__(self, teacher: State, *, weight: float, temperature: float) -> None:
        """Keep the mean of the former global models, gamma >= 0 and T > 0."""
        self.teachers = {FORMER: teacher}
        self._weight = weight
        self._temperature = temperature

    @classmethod
    def of(cls, visit: Visit) -> Objective:
        """Teach with what came along, else with what arrived; not where gamma is 0."""
        settings = visit.settings
        if settings.former_weight == 0:
            return Objective()
        return cls(
            visit.aids.get(FORMER, visit.received),
            weight=settings.former_weight,
            temperature=settings.temperature,
        )

    def loss(self, step: Step) -> Tensor:
        """Return L + gamma / 2 T^2 KL(teacher || silo)."""
        taught = distillation_loss(
            step.output.logits,
            step.answers[FORMER].logits,
            temperature=self._temperature,
            valid=step.batch.valid,
        )
        return step.label_loss + self._weight / 2 * taught
