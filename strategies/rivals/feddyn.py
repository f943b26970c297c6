"""FedDyn (Acar et al., ICLR 2021, algorithm 1): regularisers that move with the silos.

A silo descends on L_i(theta) - <g_i, theta> + alpha / 2 ||theta - theta_t||^2 from
theta_t. In the exact minimum its gradient has become g_i - alpha (theta_i - theta_t),
which is its next g_i; h is the mean of the g_i over all silos, and the centre subtracts
h / alpha from the mean model, so that what stands still is a minimum of the sum of all
losses. What our setting changes:

- A silo takes its few steps of AdamW, not the exact minimum, as in the paper's own
  experiments with SGD. It needs to send nothing but weights: theta_i - theta_t is known
  to the centre, which keeps g_i for it.
- Running statistics of normalisation descend on nothing: they have no g_i, and their
  mean is taken (extrapolated by h / alpha, a variance might turn negative).

As in the paper, silos weigh the same whatever their numbers of frames; those that are
absent keep their g_i, the mean is over those present, and the sum in h is divided by
the number of all. No alpha makes this FedAvg: already after one round the mean's own
step is taken a second time, through h.
"""

from torch import Tensor

from strategies.accumulation import State, accumulate
from strategies.rivals.averaging import STATISTICS
from strategies.rivals.fedprox import ProximalTerm
from strategies.rivals.method import (
    Ask,
    Memory,
    Method,
    Objective,
    SiloTask,
    Step,
    Visit,
)

GRADIENT, SUM = "gradient", "h"


class FedDyn(Method):
    """Keeps g_i of every silo and h, and corrects the mean model by it."""

    def play(self, memory: Memory, number: int, ask: Ask) -> Memory:
        """Train everywhere, each silo with its own linear term."""
        before = memory.own.get(GRADIENT, {})
        answers = ask(
            [
                SiloTask(
                    silo,
                    memory.theta,
                    {GRADIENT: before[silo]} if silo in before else {},
                )
                for silo in self.terms.silos
            ]
        )
        if not answers:
            return memory
        models = {answer.silo: answer.weights for answer in answers}
        alpha = self.settings.dyn_alpha
        pulls = {silo: _pull(models[silo], memory.theta, alpha) for silo in models}
        gradients = {
            silo: _subtract(before.get(silo, {}), pull, 1.0)
            for silo, pull in pulls.items()
        }
        # h - alpha / N sum (theta_i - theta_t) = h - n / N mean (alpha (...)).
        present = len(pulls) / len(self.terms.silos)
        h = _subtract(memory.shared.get(SUM, {}), accumulate(pulls), present)
        mean = accumulate(models)
        theta = {**mean, **_subtract({n: mean[n] for n in h}, h, 1 / alpha)}
        return Memory(theta, {SUM: h}, {GRADIENT: {**before, **gradients}})


class DynamicRegulariser(Objective):
    """Adds the silo's linear term and the pull towards the global model (eq. 1)."""

    def __init__(self, received: State, gradient: State, alpha: float) -> None:
        """Keep theta_t, g_i (empty: zero, as before the first round) and alpha > 0."""
        self._gradient = gradient
        self._pull = ProximalTerm(received, alpha)

    @classmethod
    def of(cls, visit: Visit) -> "DynamicRegulariser":
        """Anchor at the weights that arrived, with the g_i that came along."""
        gradient = visit.aids.get(GRADIENT, {})
        return cls(visit.received, gradient, visit.settings.dyn_alpha)

    def loss(self, step: Step) -> Tensor:
        """Return L - <g_i, theta> + alpha / 2 ||theta - theta_t||^2."""
        linear = step.label_loss.new_zeros(())
        for name, weight in step.model.named_parameters():
            if weight.requires_grad and name in self._gradient:
                linear = linear + (self._gradient[name].to(weight) * weight).sum()
        return self._pull.loss(step) - linear


def _pull(model: State, theta: State, alpha: float) -> State:
    """Return alpha (theta_i - theta_t) of the parameters."""
    return {
        name: (alpha * (model[name].double() - old.double())).to(old.dtype)
        for name, old in theta.items()
        if name.rpartition(".")[2] not in STATISTICS
    }


def _subtract(first: State, second: State, share: float) -> State:
    """Return first - share * second; what the first lacks is zero."""
    return {
        name: (
            (first[name].double() if name in first else 0.0) - share * tensor.double()
        ).to(tensor.dtype)
        for name, tensor in second.items()
    }
