"""How the fine stage takes a step: the paper's Adam, or as labelled sites train."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clients.optimisation import parameter_groups, take_step
from strategies.adaptation_settings import AdaptationSettings


@dataclass(frozen=True)
class Descent:
    """What the paper leaves out and a federation wants; the defaults are the paper's.

    Attributes:
        transformer_rate: Share of the learning rate of attention, see
            `clients.optimisation.parameter_groups`.
        clip_norm: Largest L2 norm of the gradient of both networks.
        decoupled_decay: AdamW in place of Adam, where decay is part of the gradient.
    """

    transformer_rate: float = 1.0
    clip_norm: float = math.inf
    decoupled_decay: bool = False

    def optimiser(
        self, networks: Iterable[nn.Module], settings: AdaptationSettings
    ) -> torch.optim.Optimizer:
        """Make one optimiser for both networks; without gradients it passes one over.

        Args:
            networks: What of them trains is trained.
            settings: Give learning rate and weight decay.

        Returns:
            Adam or AdamW, fresh.
        """
        kind = torch.optim.AdamW if self.decoupled_decay else torch.optim.Adam
        groups = [
            group
            for network in networks
            for group in parameter_groups(network, self.transformer_rate)
        ]
        return kind(
            groups, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

    def take(
        self, optimiser: torch.optim.Optimizer, loss: Tensor, learning_rate: float
    ) -> None:
        """Descend once.

        Args:
            optimiser: Of `optimiser`.
            loss: Scalar.
            learning_rate: Of this step.
        """
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * group["scale"]
        if math.isfinite(self.clip_norm):
            take_step(optimiser, loss, clip_norm=self.clip_norm)
            return
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
