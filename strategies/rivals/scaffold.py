"""SCAFFOLD (Karimireddy et al., ICML 2020, algorithm 1): controls correct the drift.

Every silo has a control c_i, its own mean gradient of the round it took part in last;
their mean c is the centre's. A local step descends on g(y) - c_i + c (eq. 3), so that a
silo walks where all silos would. What our setting changes:

- Option II of eq. (4), c_i+ = c_i - c + (x - y_i) / (K eta), reads the mean gradient of
  the local steps from how far they went. Under plain SGD with one rate that is exact;
  under AdamW with warm-up and clipping a distance says nothing of a gradient. So the
  same quantity is summed where it arises: c_i+ is the mean of the raw gradients, before
  correction and clipping, over the local steps. Under SGD the two are equal.
- Clipping and AdamW see the corrected gradient.
- Running statistics of normalisation descend on nothing: they have no control, and
  their mean is taken whatever eta_g is (extrapolated, a variance might turn negative).

As in the paper, silos weigh the same whatever their numbers of frames (eq. 5), and
controls begin at zero. A silo gets three times and sends twice the bytes of FedAvg.
"""

from collections.abc import Mapping

import torch

from models.network import SegmentationNetwork
from strategies.accumulation import State, accumulate
from strategies.rivals.averaging import zeros_of
from strategies.rivals.method import (
    Ask,
    Memory,
    Method,
    Objective,
    SiloAnswer,
    SiloTask,
    Visit,
)

CONTROL, OWN_CONTROL, GRADIENT = "control", "own control", "gradient"


class Scaffold(Method):
    """Moves the global model and the controls (eq. 5)."""

    def play(self, memory: Memory, number: int, ask: Ask) -> Memory:
        """Train everywhere with corrected gradients; keep every silo's control."""
        before = memory.own.get(CONTROL, {})
        answers = ask([self._task(memory, silo) for silo in self.terms.silos])
        if not answers:
            return memory
        found = {answer.silo: _gradient_of(answer) for answer in answers}
        control = self._move_control(memory.shared.get(CONTROL, {}), before, found)
        mean = accumulate({answer.silo: answer.weights for answer in answers})
        rate = self.settings.control_rate
        theta = {
            # `lerp` by 1 is the mean itself, to the bit.
            name: torch.lerp(old.double(), mean[name].double(), rate).to(old.dtype)
            if name in control
            else mean[name]
            for name, old in memory.theta.items()
        }
        return Memory(theta, {CONTROL: control}, {CONTROL: {**before, **found}})

    @staticmethod
    def _task(memory: Memory, silo: str) -> SiloTask:
        aids = {}
        if CONTROL in memory.shared:  # zero before anybody has answered
            aids[CONTROL] = memory.shared[CONTROL]
        if own := memory.of(CONTROL, silo, {}):
            aids[OWN_CONTROL] = own
        return SiloTask(silo, memory.theta, aids)

    def _move_control(
        self, control: State, before: Mapping[str, State], found: Mapping[str, State]
    ) -> State:
        """Return c + 1/N sum (c_i+ - c_i), N being all silos, also those absent."""
        total = {name: tensor.double() for name, tensor in control.items()}
        for silo in sorted(found):
            for name, gradient in found[silo].items():
                change = gradient.double()
                if silo in before:
                    change = change - before[silo][name].double()
                change = change / len(self.terms.silos)
                total[name] = total[name] + change if name in total else change
        kinds = next(iter(found.values()))
        return {name: tensor.to(kinds[name].dtype) for name, tensor in total.items()}


class ControlledSteps(Objective):
    """Adds c - c_i to every gradient and reports the mean of what they were."""

    def __init__(self, control: State, own_control: State) -> None:
        """Keep the controls, by parameter; what is missing in either is zero."""
        self._corrections = {
            name: tensor - own_control[name] if name in own_control else tensor
            for name, tensor in control.items()
        }
        self._sums: State = {}
        self._steps = 0

    @classmethod
    def of(cls, visit: Visit) -> "ControlledSteps":
        """Read the controls that came along."""
        return cls(visit.aids.get(CONTROL, {}), visit.aids.get(OWN_CONTROL, {}))

    def correct_gradients(self, model: SegmentationNetwork) -> None:
        """Sum up the raw gradients, then correct them.

        A tensor that a step's loss does not reach has the gradient zero and stands
        still in that step, as in FedAvg.
        """
        weights: State = {
            name: weight
            for name, weight in model.named_parameters()
            if weight.requires_grad
        }
        if not self._steps:
            self._sums = zeros_of(weights)
        self._steps += 1
        for name, weight in weights.items():
            if weight.grad is not None:
                self._sums[name] += weight.grad
                if name in self._corrections:
                    weight.grad += self._corrections[name].to(weight.grad)

    def report(self) -> dict[str, State]:
        """Return the mean raw gradient of the steps, by parameter: c_i+ of eq. (4)."""
        if not self._steps:
            return {}
        return {GRADIENT: {name: one / self._steps for name, one in self._sums.items()}}


def _gradient_of(answer: SiloAnswer) -> State:
    if not answer.aids.get(GRADIENT):
        raise ValueError(
            f"SCAFFOLD needs the mean gradient of silo '{answer.silo}' beside its "
            "weights, got none. Run the same version of EndoFed at both ends, with "
            "at least one local step."
        )
    return dict(answer.aids[GRADIENT])
