"""What a segmentation loss is computed from: predictions beside labels that count.

A pixel that does not count (its class was not annotated, or it lies behind the
collimator) becomes sure background before any term is taken: it then adds exactly 0 to
every sum and receives exactly no gradient, whatever the network said there. All is
float32, so that bf16 and fp16 logits neither overflow nor lose small sums. Knows
nothing of particular losses.
"""

from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from models.soft_skeleton import skeleton_tubes, soft_skeleton

Pooling = Literal["entry", "class", "batch"]
"""Over what the sums of one ratio run: one (image, class) entry; one class of the whole
batch (released FGA-Net code, which has one class); the batch with all its classes."""

# sigmoid and cross-entropy against 0 are exactly 0 here, in value and gradient.
_SURE_BACKGROUND = -1e4


class Targets:
    """Labels, and which of them count; shared by all predictions of one batch.

    Attributes:
        labels: (batch, classes, height, width), float32, 0 where it does not count.
        counts: (batch, classes, 1 or height, 1 or width), bool, the pixels that count.
        known: (batch, classes), bool, entries with a pixel that counts.
        valid: (batch, 1, height, width), bool, or None for the whole frame.
    """

    def __init__(
        self, masks: Tensor, annotated: Tensor, valid: Tensor | None = None
    ) -> None:
        """Sort out what counts.

        Args:
            masks: (batch, classes, height, width), 0 or 1; any number where it does
                not count.
            annotated: (batch, classes), bool; False leaves the entry out.
            valid: (batch, 1, height, width), bool; False leaves the pixel out. None
                keeps all.

        Raises:
            ValueError: If the shapes disagree.
        """
        _check_targets(masks, annotated, valid)
        device = masks.device
        known = annotated.to(device=device, dtype=torch.bool)
        self.valid = None
        self.counts = known[:, :, None, None]
        if valid is not None:
            self.valid = valid.to(device=device, dtype=torch.bool)
            self.counts = self.counts & self.valid
            known = known & self.valid.flatten(1).any(dim=1, keepdim=True)
        self.known = known
        self.labels = masks.to(torch.float32).masked_fill(~self.counts, 0.0)
        self._lines: dict[int, Tensor] = {}

    @cached_property
    def pixels(self) -> Tensor:
        """Pixels that count, (batch, classes), float32."""
        return self.counts.expand_as(self.labels).sum(dim=(2, 3), dtype=torch.float32)

    @cached_property
    def tubes(self) -> Tensor:
        """Tubes around the labels' skeletons, see `skeleton_tubes`."""
        return skeleton_tubes(self.labels, self.valid)

    def lines(self, iterations: int) -> Tensor:
        """Return the labels' soft skeletons, computed once per number of iterations.

        Args:
            iterations: See `soft_skeleton`, >= 1.

        Returns:
            (batch, classes, height, width), values 0 to 1.
        """
        if iterations not in self._lines:
            self._lines[iterations] = soft_skeleton(
                self.labels, iterations=iterations, valid=self.valid
            )
        return self._lines[iterations]


class Evidence:
    """Logits beside their targets, and how sums over them are pooled."""

    def __init__(self, logits: Tensor, targets: Targets, pooling: Pooling) -> None:
        """Blank out what does not count.

        Args:
            logits: (batch, classes, height, width), float of any precision.
            targets: The labels.
            pooling: See `Pooling`.

        Raises:
            ValueError: If the shapes disagree.
        """
        if logits.shape != targets.labels.shape:
            raise _shapes_disagree(logits, targets.labels, targets.known)
        # `where` stops gradients, also those of logits that are not finite.
        self.logits = torch.where(targets.counts, logits.float(), _SURE_BACKGROUND)
        self.targets = targets
        self.pooling = pooling

    @cached_property
    def probabilities(self) -> Tensor:
        """(batch, classes, height, width), float32, 0 where a pixel does not count."""
        return self.logits.sigmoid()

    def total(self, maps: Tensor) -> Tensor:
        """Sum maps over the pixels of each group.

        Args:
            maps: (batch, classes, height, width), 0 where a pixel does not count.

        Returns:
            (batch, classes), (1, classes) or (1, 1), as `Pooling` says.
        """
        return self._pool(maps.sum(dim=(2, 3)))

    def mean(self, maps: Tensor) -> Tensor:
        """Average maps over the pixels that count, groups as in `total`.

        Args:
            maps: (batch, classes, height, width), 0 where a pixel does not count.

        Returns:
            One number a group; 0 for a group without a pixel.
        """
        return self.total(maps) / self._pool(self.targets.pixels).clamp(min=1.0)

    def mean_over_known(self, groups: Tensor) -> Tensor:
        """Average one number per group over the groups in which anything is known.

        Args:
            groups: As returned by `total`.

        Returns:
            A scalar; 0, with a gradient of zeros, when nothing is known.
        """
        known = self._pool(self.targets.known) > 0
        # A sum of zeros keeps the graph alive when nothing is annotated.
        kept = torch.where(known, groups, torch.zeros_like(groups))
        return kept.sum() / known.sum().clamp(min=1)

    def _pool(self, entries: Tensor) -> Tensor:
        if self.pooling == "entry":
            return entries
        if self.pooling == "class":
            return entries.sum(dim=0, keepdim=True)
        return entries.sum().reshape(1, 1)


def _check_targets(masks: Tensor, annotated: Tensor, valid: Tensor | None) -> None:
    if masks.ndim != 4 or annotated.shape != masks.shape[:2]:
        raise _shapes_disagree(masks, masks, annotated)
    wanted = (masks.shape[0], 1, *masks.shape[2:])
    if valid is not None and valid.shape != wanted:
        raise ValueError(
            f"A loss needs valid (batch, 1, height, width) = {tuple(wanted)}, got "
            f"{tuple(valid.shape)}."
        )


def _shapes_disagree(logits: Tensor, masks: Tensor, annotated: Tensor) -> ValueError:
    return ValueError(
        "A loss needs logits and masks (batch, classes, height, width) of one "
        "shape and annotated (batch, classes), got "
        f"{tuple(logits.shape)}, {tuple(masks.shape)} and "
        f"{tuple(annotated.shape)}."
    )
