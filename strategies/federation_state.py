"""All that a federation is between two rounds, as one value.

A round is a function of this value and of what the hospitals answer: random numbers
are derived from the seed and the round (`strategies/randomness.py`), optimisers start
afresh in every phase, so nothing else has to be kept. Two federations with equal
values and equal answers stay equal to the last bit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from strategies.accumulation import State

BEFORE_WARM_UP = -1
"""The round number of a federation that has not begun."""


@dataclass(frozen=True)
class FederationState:
    """What a federation is after a round."""

    round_number: int  # the last that ended; 0 is the warm-up, -1 nothing yet
    theta: State  # the accumulated model
    students: Mapping[str, State]  # what every silo starts the next round from, by name
    seed: int
    strategy: str = "fedefm"
    metrics: Mapping[str, float] = field(default_factory=dict)  # of the round
    # Of a rival: what else it remembers, by "shared/KIND" or "own/KIND/SILO"; of a
    # tour: what the traveller carries.
    memory: Mapping[str, State] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse values that no federation can have."""
        if self.round_number < BEFORE_WARM_UP:
            raise ValueError(f"round_number must be >= -1, got {self.round_number}.")
        for silo, student in self.students.items():
            if student.keys() != self.theta.keys():
                raise ValueError(
                    f"The model of silo '{silo}' has other tensors than the "
                    "accumulated one. Were they made with one model.training?"
                )

    @classmethod
    def begin(
        cls, theta: State, silos: list[str], *, seed: int, strategy: str = "fedefm"
    ) -> "FederationState":
        """Return a federation in which nothing has happened yet.

        Args:
            theta: theta(0), the same for all silos.
            silos: Their names.
            seed: Of the run.
            strategy: Its name.

        Returns:
            The state before the warm-up.
        """
        students = dict.fromkeys(sorted(silos), theta)
        return cls(BEFORE_WARM_UP, theta, students, seed, strategy)

    def is_common(self) -> bool:
        """Tell whether all silos start the next round from the accumulated model."""
        return all(
            student is self.theta or equal_states(student, self.theta)
            for student in self.students.values()
        )

    def equals(self, other: "FederationState") -> bool:
        """Tell whether two federations are the same, bit by bit."""
        return (
            (self.round_number, self.seed, self.strategy)
            == (other.round_number, other.seed, other.strategy)
            and dict(self.metrics) == dict(other.metrics)
            and self.students.keys() == other.students.keys()
            and equal_states(self.theta, other.theta)
            and self.memory.keys() == other.memory.keys()
            and all(
                equal_states(self.memory[name], other.memory[name])
                for name in self.memory
            )
            and all(
                equal_states(self.students[silo], other.students[silo])
                for silo in self.students
            )
        )


def equal_states(first: State, second: State) -> bool:
    """Tell whether two models have the same tensors, bit by bit."""
    return first is second or (
        first.keys() == second.keys()
        and all(torch.equal(first[name], second[name]) for name in first)
    )
