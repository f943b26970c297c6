"""Gradient steps of a run: whose, in which round, and how many one after another."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

OWN, VISITORS, CENTRE, CONTROLS = "own", "visitors", "centre", "controls"
"""Of a silo's model at home; of others' models at a silo; at the centre; of copies that
are only measured."""


@dataclass
class RoundSteps:
    """Gradient steps of one round."""

    round: int  # 0 is the local warm-up
    steps: dict[str, Counter[str]] = field(default_factory=dict)  # by kind, then silo
    sequential: int = 0

    def add_phase(self, tasks: Iterable[tuple[str, str, int]]) -> None:
        """Add tasks that silos work on side by side: kind, silo, steps."""
        busy: Counter[str] = Counter()
        for kind, silo, steps in tasks:
            self.steps.setdefault(kind, Counter())[silo] += steps
            busy[silo] += 0 if kind == CONTROLS else steps
        self.sequential += max(busy.values(), default=0)

    def total(self, *kinds: str) -> int:
        """Return the steps of some kinds; of all that count without any."""
        return sum(
            sum(self.steps.get(kind, Counter()).values())
            for kind in kinds or (OWN, VISITORS, CENTRE)
        )


@dataclass(frozen=True)
class Budget:
    """Gradient steps of a whole run."""

    num_silos: int
    rounds: tuple[RoundSteps, ...]

    @property
    def per_silo(self) -> float:
        """Return all steps, divided by the silos."""
        return self.total() / self.num_silos

    @property
    def own_per_silo(self) -> float:
        """Return the steps of silos' models at home, divided by the silos."""
        return self.total(OWN) / self.num_silos

    @property
    def sequential(self) -> int:
        """Return how many steps lie one after another."""
        return sum(one.sequential for one in self.rounds)

    def total(self, *kinds: str) -> int:
        """Return the steps of some kinds; of all that count without any."""
        return sum(one.total(*kinds) for one in self.rounds)

    def cost(self) -> dict[str, int | float]:
        """Return the numbers that stand in a result."""
        return {
            "steps_per_silo": whole(self.own_per_silo),
            "overseas_steps_per_silo": whole(self.total(VISITORS) / self.num_silos),
            "server_steps": self.total(CENTRE),
            "total_steps_per_silo": whole(self.per_silo),
            "control_steps": self.total(CONTROLS),
            "sequential_steps": self.sequential,
        }

    def after(self, number: int) -> dict[str, int | float]:
        """Return what a run has taken by the end of a round."""
        past = [one for one in self.rounds if one.round <= number]
        total = sum(one.total() for one in past)
        return {
            "steps": whole(total / self.num_silos),
            "sequential": sum(one.sequential for one in past),
        }


def whole(number: float) -> int | float:
    """Return a whole number as one."""
    return int(number) if float(number).is_integer() else number
