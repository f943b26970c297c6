"""What the fine stage did, epoch by epoch: numbers only, ready for JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean

WARMUP = "warm-up"
SELF_TRAINING = "self-training"


@dataclass(frozen=True)
class FineEpoch:
    """One pass over the frames, or one phase of `FineStage.run_steps`.

    Attributes:
        epoch: Counted from 1: how many are done.
        phase: `WARMUP` (teacher and student train) or `SELF_TRAINING` (student only).
        steps: Optimiser steps in it.
        losses: Mean over its steps of the weighted "total" and of each unweighted term
            ("consistency", "pseudo_label", "embedding", "prediction"); a term of
            weight 0 is absent.
        measures: What `on_epoch` returned, such as the IoU of student and teacher.
    """

    epoch: int
    phase: str
    steps: int
    losses: dict[str, float]
    measures: dict[str, float] = field(default_factory=dict)


@dataclass
class FineReport:
    """What one run of the fine stage did.

    Attributes:
        frames: How many were trained on.
        skipped: How many had no pseudo-label and were left out.
        epochs: One entry each.
        step_losses: The weighted total of every step.
        learning_rates: Of every step.
    """

    frames: int
    skipped: int
    epochs: list[FineEpoch] = field(default_factory=list)
    step_losses: list[float] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=list)

    def note_step(self, loss: float, learning_rate: float) -> None:
        """Add an optimiser step."""
        self.step_losses.append(loss)
        self.learning_rates.append(learning_rate)

    def note_epoch(
        self,
        is_warmup: bool,
        losses: Sequence[Mapping[str, float]],
        measures: Mapping[str, float],
    ) -> None:
        """Add an epoch.

        Args:
            is_warmup: Which phase it was of.
            losses: By name, one a step; the same names in all.
            measures: What was measured after it.
        """
        means = {name: fmean(one[name] for one in losses) for name in losses[0]}
        phase = WARMUP if is_warmup else SELF_TRAINING
        number = len(self.epochs) + 1
        self.epochs.append(FineEpoch(number, phase, len(losses), means, dict(measures)))

    def curve(self, name: str) -> list[float]:
        """Return a number of `on_epoch` over the epochs that have it."""
        return [one.measures[name] for one in self.epochs if name in one.measures]

    def to_dict(self) -> dict[str, object]:
        """Return plain dictionaries, lists and numbers."""
        return asdict(self)
