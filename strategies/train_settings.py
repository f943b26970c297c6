"""How a site trains."""

import math
from dataclasses import dataclass
from typing import ClassVar

from models.loss_recipes import BUILDERS, build_loss
from models.mixed_loss import MixedLoss
from strategies.setting_rules import at_least, check, one_of, share

WEIGHTED = "bce-dice-cldice"
"""The loss whose share of clDice is a setting."""
PROMPTS = ("none", "mixed")


@dataclass(frozen=True)
class TrainSettings:
    """How a site trains; the same for local, overseas and distillation steps."""

    steps: int
    batch_size: int  # frames
    learning_rate: float  # peak of AdamW
    transformer_rate: float  # times it for a network's transformer, > 0 to 1
    weight_decay: float
    warmup_steps: int  # linear warm-up at the start of every phase
    schedule: str  # over the rounds
    loss: str  # a key of models.loss_recipes.BUILDERS
    cldice_weight: float  # 0 to 1, of the loss bce-dice-cldice
    prompts: str  # of a SAM's steps on labels

    prefix: ClassVar[str] = "train."

    def problems(self) -> list[str]:
        """List what is wrong, one sentence each."""
        return [
            *at_least("train.steps", self.steps, 1),
            *at_least("train.batch-size", self.batch_size, 1),
            *check(
                self.learning_rate > 0,
                f"train.learning-rate must be > 0, got {self.learning_rate}",
            ),
            *check(
                0 < self.transformer_rate <= 1,
                f"train.transformer-rate must be > 0 and at most 1, got "
                f"{self.transformer_rate}",
            ),
            *at_least("train.weight-decay", self.weight_decay, 0),
            *at_least("train.warmup-steps", self.warmup_steps, 0),
            *one_of("train.schedule", self.schedule, ("cosine", "constant")),
            *one_of("train.loss", self.loss, tuple(BUILDERS)),
            *share("train.cldice-weight", self.cldice_weight),
            *one_of("train.prompts", self.prompts, PROMPTS),
            *check(
                self.cldice_weight == 0 or self.loss == WEIGHTED,
                f"train.cldice-weight is for train.loss = '{WEIGHTED}', "
                f"got {self.cldice_weight} with '{self.loss}'",
            ),
        ]

    def criterion(self) -> MixedLoss:
        """Build the loss of one head."""
        if self.loss == WEIGHTED:
            return build_loss(self.loss, cldice_weight=self.cldice_weight)
        return build_loss(self.loss)

    def learning_rate_in(self, round_number: int, num_rounds: int) -> float:
        """Return the peak learning rate of a round.

        Args:
            round_number: 0 (local warm-up) to `num_rounds`.
            num_rounds: Number of federated rounds.

        Returns:
            The learning rate; with the cosine schedule it falls from the full value
            in round 0 to a tenth of it in the last round.
        """
        if self.schedule == "constant" or num_rounds == 0:
            return self.learning_rate
        progress = min(round_number / num_rounds, 1.0)
        return self.learning_rate * (0.55 + 0.45 * math.cos(math.pi * progress))
