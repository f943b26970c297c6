"""What AdamW remembers of its gradients, as it travels with a model on tour.

Every phase of training starts a fresh AdamW, so a visit of two steps moves by little
more than the signs of two gradients. A traveller that keeps its moments sums what it
meets at all silos, and two steps a visit are enough. Both moments together have twice
the bytes of what travels of the model. They tell of gradients more than weights do:
the second is a running mean of their squares.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from models.weights import WeightsError, check_weights
from strategies.accumulation import State

ADAMW = "adamw"
"""What the moments are called in a message and in a saved federation."""

FIRST, SECOND, STEPS = "first.", "second.", "steps"
"""In one set of tensors: prefixes of the moments, and how many steps made them."""


@dataclass(frozen=True)
class Moments:
    """Both moments of AdamW (Kingma and Ba, ICLR 2015, algorithm 1), not corrected."""

    steps: int = 0  # that they were taken over
    first: State = field(default_factory=dict)  # m, by parameter
    second: State = field(default_factory=dict)  # v >= 0, by parameter

    def to_state(self) -> State:
        """Return all of it as named tensors."""
        return {
            STEPS: torch.tensor([float(self.steps)]),
            **{FIRST + name: one for name, one in self.first.items()},
            **{SECOND + name: one for name, one in self.second.items()},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "Moments":
        """Read what `to_state` has written; `check_moments` first."""
        return cls(
            steps=round(state[STEPS].item()),
            first=_part(state, FIRST),
            second=_part(state, SECOND),
        )


def check_moments(state: Mapping[str, Tensor], expected: State, *, source: str) -> None:
    """Refuse moments that AdamW cannot have.

    Args:
        state: As of `Moments.to_state`.
        expected: What travels of the model, whose parameters the moments belong to.
        source: Who sent them, for the message.

    Raises:
        WeightsError: If a name or a shape is not of the model, a moment has no other,
            a number is not finite, a second moment is negative or the number of steps
            is not a whole one.
    """
    first, second = _part(state, FIRST), _part(state, SECOND)
    steps = state.get(STEPS)
    problem = ""
    if steps is None or steps.numel() != 1 or steps.item() != max(_whole(steps), 0):
        problem = "how many steps made them must be a whole number >= 0"
    elif len(state) != 1 + len(first) + len(second) or first.keys() != second.keys():
        problem = "every parameter must have a first and a second moment and no other"
    elif unknown := sorted(first.keys() - expected.keys()):
        problem = f"the model trains no {unknown[0]}"
    elif any(bool((one < 0).any()) for one in second.values()):
        problem = "a second moment is negative"
    if problem:
        raise WeightsError(
            f"The moments of AdamW from {source} cannot be used: {problem}. Do all "
            "sites run the same version?"
        )
    for part in (first, second):
        check_weights(part, {name: expected[name] for name in part}, source=source)


def _whole(steps: Tensor) -> int:
    """Return the nearest whole number, -1 for what has none."""
    return round(steps.item()) if bool(torch.isfinite(steps).all()) else -1


def _part(state: Mapping[str, Tensor], prefix: str) -> State:
    return {
        name.removeprefix(prefix): one
        for name, one in state.items()
        if name.startswith(prefix)
    }
