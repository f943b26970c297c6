"""What is measured of a model, and when."""

from dataclasses import dataclass
from typing import ClassVar

from strategies.setting_rules import one_of

MEASURES = ("overlap", "all")


@dataclass(frozen=True)
class EvaluationSettings:
    """What the hospitals measure. The final test always measures everything."""

    measures: str  # of the validation frames of every round; "all" costs more time
    cross_site: bool  # every silo's own model on every silo's test frames, at the end

    prefix: ClassVar[str] = "evaluation."

    def problems(self) -> list[str]:
        """List what is wrong, one sentence each."""
        return one_of("evaluation.measures", self.measures, MEASURES)

    def measures_of(self, split: str) -> str:
        """Return what to measure of a split of the frames.

        Args:
            split: "validation" or "test".

        Returns:
            "overlap": pixel counts and clDice; "all": every metric as well.
        """
        return "all" if split == "test" else self.measures
