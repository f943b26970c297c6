"""Deep supervision: one loss on the final output and on those of auxiliary heads.

The weights are FGA-Net's (Wang et al., QIMS 2025, doi 10.21037/qims-2024-2926, released
code). Knows nothing of networks: heads come as a list of logits.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from models.loss_targets import Targets
from models.mixed_loss import MixedLoss

FGA_NET_AUXILIARY_WEIGHTS: tuple[float, ...] = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Weights of the heads on s6, u1, u2, u3, u4 (released code; the paper gives none)."""


class DeepSupervisionLoss(nn.Module):
    """L = l(final) + sum_i w_i l(auxiliary_i), with one loss l for all heads."""

    def __init__(
        self,
        criterion: MixedLoss,
        *,
        auxiliary_weights: Sequence[float] = FGA_NET_AUXILIARY_WEIGHTS,
    ) -> None:
        """Set the loss of one head and the weights of the auxiliary ones.

        Args:
            criterion: The loss l.
            auxiliary_weights: One per auxiliary head, deepest first, >= 0; empty turns
                deep supervision off.

        Raises:
            ValueError: If a weight is negative.
        """
        super().__init__()
        if not all(weight >= 0 for weight in auxiliary_weights):
            raise ValueError(
                f"auxiliary_weights must be >= 0, got {list(auxiliary_weights)}."
            )
        self.criterion = criterion
        self.auxiliary_weights = tuple(auxiliary_weights)

    def forward(
        self,
        final: Tensor,
        auxiliaries: Sequence[Tensor],
        masks: Tensor,
        annotated: Tensor,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Compute the loss of all heads; the labels are prepared once.

        Args:
            final: Logits (batch, classes, height, width), float.
            auxiliaries: Logits of the auxiliary heads, each of that shape, deepest
                first, as `FGANet.forward_with_auxiliaries` returns them.
            masks: (batch, classes, height, width), 0 or 1.
            annotated: (batch, classes), bool; False leaves the entry out.
            valid: (batch, 1, height, width), bool; False leaves the pixel out.

        Returns:
            A float32 scalar; 0, with a gradient of zeros, when nothing is annotated.

        Raises:
            ValueError: If the shapes or the number of heads disagree.
        """
        if len(auxiliaries) != len(self.auxiliary_weights):
            raise ValueError(
                f"Deep supervision has {len(self.auxiliary_weights)} weights, got "
                f"{len(auxiliaries)} auxiliary outputs. Give one weight per head."
            )
        targets = Targets(masks, annotated, valid)
        loss = self.criterion.of_targets(final, targets)
        for weight, logits in zip(self.auxiliary_weights, auxiliaries, strict=True):
            if weight > 0:
                loss = loss + weight * self.criterion.of_targets(logits, targets)
        return loss
