"""What is measured of a model, and when."""

from dataclasses import dataclass
from typing import ClassVar

from strategies.setting_rules import at_least, one_of

MEASURES = ("overlap", "all")


def every_round(_: int) -> bool:
    """Say yes: the silos measure after every round."""
    return True


@dataclass(frozen=True)
class EvaluationSettings:
    """What the hospitals measure. The final test always measures everything."""

    measures: str  # of the validation frames of every round; "all" costs more time
    every_rounds: int  # how often; the last round is measured always
    cross_site: bool  # every silo's own model on every silo's test frames, at the end

    prefix: ClassVar[str] = "evaluation."

    def problems(self) -> list[str]:
        """List what is wrong, one sentence each."""
        return [
            *one_of("evaluation.measures", self.measures, MEASURES),
            *at_least("evaluation.every-rounds", self.every_rounds, 1),
        ]

    def is_due(self, round_number: int, last: int) -> bool:
        """Tell whether the validation frames are measured after a round.

        Args:
            round_number: From 0, the warm-up.
            last: Number of the run's last round.
        """
        return round_number == last or round_number % self.every_rounds == 0

    def measures_of(self, split: str) -> str:
        """Return what to measure of a split of the frames.

        Args:
            split: "validation" or "test".

        Returns:
            "overlap": pixel counts and clDice; "all": every metric as well.
        """
        return "all" if split == "test" else self.measures
