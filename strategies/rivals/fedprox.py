"""FedProx's half at the silo (Li et al., MLSys 2020, eq. 2); Flower has the other.

The local loss gets mu / 2 ||w - w_t||^2, with w_t the weights that arrived. Flower's
documentation leaves the square out of its example; the paper has it.
"""

from torch import Tensor

from strategies.accumulation import State
from strategies.rivals.method import Objective, Step, Visit


class ProximalTerm(Objective):
    """Pulls the model towards an anchor."""

    def __init__(self, anchor: State, strength: float) -> None:
        """Keep the anchor; strength is mu of the paper, >= 0."""
        self._anchor = anchor
        self._strength = strength

    @classmethod
    def of(cls, visit: Visit) -> "ProximalTerm":
        """Anchor at the weights that arrived."""
        return cls(visit.received, visit.settings.proximal_mu)

    def loss(self, step: Step) -> Tensor:
        """Return the label loss plus mu / 2 times the squared distance."""
        distance = step.label_loss.new_zeros(())
        for name, weight in step.model.named_parameters():
            if weight.requires_grad:
                anchor = self._anchor[name].to(weight)
                distance = distance + (weight - anchor).square().sum()
        return step.label_loss + self._strength / 2 * distance
