"""What the rivals of FedEFM can be told.

Each belongs to the methods named beside it in pyproject.toml and changes no other.
Defaults are those of the papers where they name one that does not depend on the task.
"""

from dataclasses import dataclass
from typing import ClassVar

from strategies.setting_rules import at_least, check, share


@dataclass(frozen=True)
class RivalSettings:
    """Settings of all rivals; those of other methods than the run's do nothing."""

    proximal_mu: float  # FedProx's mu; Ditto's lambda
    server_learning_rate: float  # FedAvgM, FedAdam
    server_momentum: float  # FedAvgM's momentum, FedAdam's beta 1
    server_second_moment: float  # FedAdam's beta 2
    server_tau: float  # FedAdam's degree of adaptivity
    dyn_alpha: float  # FedDyn's alpha
    control_rate: float  # SCAFFOLD's server learning rate
    contrast_weight: float  # MOON's mu
    contrast_temperature: float  # MOON's tau
    contrast_tap: str  # where MOON takes z; "" = the encoder's deepest features
    not_true_weight: float  # FedNTD's beta
    former_weight: float  # FedGKD's gamma
    former_models: int  # FedGKD's buffer size M
    temperature: float  # of the distillation of FedNTD, FedGKD and relay
    retention: float  # relay: share of the traveller's former self, 0 to 1
    gossip_share: float  # gossip: what the neighbours weigh together, 0 to 1
    visit_steps: int  # gossip: steps of a neighbour's copy on the silo's frames
    activation: float  # MATCHA: share of the links used in a round on average

    prefix: ClassVar[str] = "rival."

    def problems(self) -> list[str]:
        """List what is wrong, one sentence each."""
        positive = {
            "server-learning-rate": self.server_learning_rate,
            "server-tau": self.server_tau,
            "dyn-alpha": self.dyn_alpha,
            "control-rate": self.control_rate,
            "contrast-temperature": self.contrast_temperature,
            "temperature": self.temperature,
        }
        return [
            *at_least("rival.proximal-mu", self.proximal_mu, 0),
            *(
                problem
                for name, value in positive.items()
                for problem in check(
                    value > 0, f"rival.{name} must be > 0, got {value}"
                )
            ),
            *_below_one("rival.server-momentum", self.server_momentum),
            *_below_one("rival.server-second-moment", self.server_second_moment),
            *at_least("rival.contrast-weight", self.contrast_weight, 0),
            *at_least("rival.not-true-weight", self.not_true_weight, 0),
            *at_least("rival.former-weight", self.former_weight, 0),
            *at_least("rival.former-models", self.former_models, 1),
            *share("rival.retention", self.retention),
            *share("rival.gossip-share", self.gossip_share),
            *at_least("rival.visit-steps", self.visit_steps, 0),
            *check(
                0 < self.activation <= 1,
                f"rival.activation must be > 0 and at most 1, got {self.activation}",
            ),
        ]


def _below_one(key: str, value: float) -> list[str]:
    return check(0 <= value < 1, f"{key} must be at least 0 and below 1, got {value}")
