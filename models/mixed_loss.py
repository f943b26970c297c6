"""A weighted sum of loss terms over what is annotated and valid."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.loss_targets import Evidence, Pooling, Targets
from models.loss_terms import Term


class MixedLoss(nn.Module):
    """A weighted sum of terms, averaged over what is known."""

    def __init__(
        self, terms: Sequence[tuple[float, Term]], *, pooling: Pooling = "entry"
    ) -> None:
        """Set the mixture.

        Args:
            terms: Weights >= 0 and terms; those of weight 0 are not computed.
            pooling: Over what the sums of one ratio run.

        Raises:
            ValueError: If a weight is negative or nothing is left.
        """
        super().__init__()
        if pooling not in ("entry", "class", "batch"):
            raise ValueError(
                f"pooling must be 'entry', 'class' or 'batch', got '{pooling}'."
            )
        weights = [weight for weight, _ in terms]
        if not all(weight >= 0 for weight in weights):
            raise ValueError(f"Weights of a loss must be >= 0, got {weights}.")
        self.terms = tuple((weight, term) for weight, term in terms if weight > 0)
        if not self.terms:
            raise ValueError("A loss needs a term with a weight above 0, got none.")
        self.pooling: Pooling = pooling

    def forward(
        self,
        logits: Tensor,
        masks: Tensor,
        annotated: Tensor,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Compute the loss of a batch.

        Args:
            logits: (batch, classes, height, width), float of any precision.
            masks: (batch, classes, height, width), 0 or 1; anything where it does not
                count.
            annotated: (batch, classes), bool; False leaves the entry out.
            valid: (batch, 1, height, width), bool; False leaves the pixel out of every
                term, as if the frame ended there. None keeps all.

        Returns:
            A float32 scalar; 0, with a gradient of zeros, when nothing is annotated.

        Raises:
            ValueError: If the shapes disagree.
        """
        return self.of_targets(logits, Targets(masks, annotated, valid))

    def of_targets(self, logits: Tensor, targets: Targets) -> Tensor:
        """Compute the loss against prepared labels, which several heads may share.

        Args:
            logits: (batch, classes, height, width), float of any precision.
            targets: The labels.

        Returns:
            As `forward`.

        Raises:
            ValueError: If the shapes disagree.
        """
        # Small sums decide: autocast must not bring half precision back.
        with torch.autocast(logits.device.type, enabled=False):
            evidence = Evidence(logits, targets, self.pooling)
            (weight, term), *others = self.terms
            groups = _weighted(weight, term(evidence))
            for weight, term in others:
                groups = groups + _weighted(weight, term(evidence))
            return evidence.mean_over_known(groups)


def _weighted(weight: float, groups: Tensor) -> Tensor:
    return groups if weight == 1.0 else weight * groups
