"""Losses for thin wires: binary cross-entropy, soft Dice and soft clDice.

Soft Dice with the plain (not squared) denominator and soft clDice with its pooled
skeleton (Shit et al., "clDice", CVPR 2021); their mixture follows FGA-Net (Wang et
al., QIMS 2025, doi 10.21037/qims-2024-2926), with every term on logits so that the
sigmoid is applied once. Unlike FGA-Net's code, which sums over the whole batch, each
(image, class) entry has its own ratio here, because sites annotate different classes:
an entry whose label is unknown counts in no term and receives no gradient. Knows
nothing of sites, sizes in millimetres or training.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

# Keeps every ratio finite; an empty label with an empty prediction costs nothing.
_SMOOTHING = 1.0


def soft_dice_loss(logits: Tensor, masks: Tensor, annotated: Tensor) -> Tensor:
    """Compute 1 - (2 sum(p y) + 1) / (sum p + sum y + 1), mean over known entries.

    Args:
        logits: (batch, classes, height, width), float, any value.
        masks: (batch, classes, height, width), 0 or 1.
        annotated: (batch, classes), bool; False leaves the entry out.

    Returns:
        A scalar in [0, 1); 0 when nothing is annotated.

    Raises:
        ValueError: If the shapes disagree.
    """
    _check_shapes(logits, masks, annotated)
    return _mean_over_annotated(_dice_terms(logits, masks), annotated)


def soft_skeleton(probabilities: Tensor, *, iterations: int) -> Tensor:
    """Thin a probability map to its centre lines, differentiably.

    What an opening removes from the map is skeleton; the map is then eroded and the
    step repeated (Shit et al., CVPR 2021, algorithm 1). Erosion takes the minimum
    over a cross of 3 pixels, dilation the maximum over 3x3.

    Args:
        probabilities: (batch, classes, height, width), values 0 to 1, never logits.
        iterations: Number of erosions, >= 1; at least the largest radius of a wire
            in pixels, or its middle is missed.

    Returns:
        The skeleton, same shape, values 0 to 1.

    Raises:
        ValueError: If there are fewer than one iterations.
    """
    if iterations < 1:
        raise ValueError(f"A soft skeleton needs iterations >= 1, got {iterations}.")
    eroded = probabilities
    skeleton = functional.relu(eroded - _open(eroded))
    for _ in range(iterations):
        eroded = _erode(eroded)
        found = functional.relu(eroded - _open(eroded))
        # Adds only what is not yet there, so that no pixel exceeds 1.
        skeleton = skeleton + functional.relu(found - skeleton * found)
    return skeleton


def soft_cldice_loss(
    logits: Tensor, masks: Tensor, annotated: Tensor, *, iterations: int
) -> Tensor:
    """Compute 1 - 2 Tp Ts / (Tp + Ts), mean over known entries.

    Tp = (sum(skel(p) y) + 1) / (sum skel(p) + 1) asks whether predicted centre lines
    lie on the label, Ts = (sum(skel(y) p) + 1) / (sum skel(y) + 1) the converse (Shit
    et al., CVPR 2021, eq. 1-3).

    Args:
        logits: (batch, classes, height, width), float, any value.
        masks: (batch, classes, height, width), 0 or 1.
        annotated: (batch, classes), bool; False leaves the entry out.
        iterations: See `soft_skeleton`, >= 1.

    Returns:
        A scalar in [0, 1); 0 when nothing is annotated.

    Raises:
        ValueError: If the shapes disagree or there are fewer than one iterations.
    """
    _check_shapes(logits, masks, annotated)
    terms = _cldice_terms(logits, masks, iterations)
    return _mean_over_annotated(terms, annotated)


class SegmentationLoss(nn.Module):
    """BCE + (1 - a) * soft Dice + a * soft clDice over what is annotated.

    FGA-Net's loss (QIMS 2025, section "loss function"; a = 0.25 in its code) with the
    paper's BCE weight of 1.
    """

    def __init__(
        self, *, cldice_weight: float = 0.0, skeleton_iterations: int = 4
    ) -> None:
        """Set the mixture.

        Args:
            cldice_weight: Share a of clDice beside Dice, 0 to 1; 0 skips the skeleton.
            skeleton_iterations: Erosions of the soft skeleton, >= 1; 4 covers wires
                up to 9 px wide.

        Raises:
            ValueError: If one of the two is out of range.
        """
        super().__init__()
        if not 0.0 <= cldice_weight <= 1.0:
            raise ValueError(
                f"cldice_weight must lie between 0 and 1, got {cldice_weight}."
            )
        if skeleton_iterations < 1:
            raise ValueError(
                f"skeleton_iterations must be >= 1, got {skeleton_iterations}."
            )
        self.cldice_weight = cldice_weight
        self.skeleton_iterations = skeleton_iterations

    def forward(self, logits: Tensor, masks: Tensor, annotated: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Args:
            logits: (batch, classes, height, width), float, any value.
            masks: (batch, classes, height, width), 0 or 1.
            annotated: (batch, classes), bool; False leaves the entry out.

        Returns:
            A scalar >= 0; 0, with a gradient of zeros, when nothing is annotated.

        Raises:
            ValueError: If the shapes disagree.
        """
        _check_shapes(logits, masks, annotated)
        terms = _cross_entropy_terms(logits, masks)
        if self.cldice_weight < 1.0:
            terms = terms + (1.0 - self.cldice_weight) * _dice_terms(logits, masks)
        if self.cldice_weight > 0.0:
            cldice = _cldice_terms(logits, masks, self.skeleton_iterations)
            terms = terms + self.cldice_weight * cldice
        return _mean_over_annotated(terms, annotated)


def _cross_entropy_terms(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the mean over pixels of each entry, (batch, classes)."""
    logits = logits.float()
    return functional.binary_cross_entropy_with_logits(
        logits, masks.to(logits.dtype), reduction="none"
    ).mean(dim=(2, 3))


def _dice_terms(logits: Tensor, masks: Tensor) -> Tensor:
    probabilities = logits.float().sigmoid()
    labels = masks.to(probabilities.dtype)
    overlap = (probabilities * labels).sum(dim=(2, 3))
    total = probabilities.sum(dim=(2, 3)) + labels.sum(dim=(2, 3))
    return 1.0 - (2.0 * overlap + _SMOOTHING) / (total + _SMOOTHING)


def _cldice_terms(logits: Tensor, masks: Tensor, iterations: int) -> Tensor:
    probabilities = logits.float().sigmoid()
    labels = masks.to(probabilities.dtype)
    predicted_lines = soft_skeleton(probabilities, iterations=iterations)
    label_lines = soft_skeleton(labels, iterations=iterations)
    precision = _covered(predicted_lines, labels)
    sensitivity = _covered(label_lines, probabilities)
    return 1.0 - 2.0 * precision * sensitivity / (precision + sensitivity)


def _covered(lines: Tensor, region: Tensor) -> Tensor:
    """Return the smoothed share of `lines` that lies in `region`, (batch, classes)."""
    inside = (lines * region).sum(dim=(2, 3))
    return (inside + _SMOOTHING) / (lines.sum(dim=(2, 3)) + _SMOOTHING)


def _erode(maps: Tensor) -> Tensor:
    vertical = -functional.max_pool2d(-maps, (3, 1), stride=1, padding=(1, 0))
    horizontal = -functional.max_pool2d(-maps, (1, 3), stride=1, padding=(0, 1))
    return torch.minimum(vertical, horizontal)


def _open(maps: Tensor) -> Tensor:
    return functional.max_pool2d(_erode(maps), 3, stride=1, padding=1)


def _mean_over_annotated(terms: Tensor, annotated: Tensor) -> Tensor:
    # A sum of zeros keeps the graph alive when nothing is annotated.
    known = annotated.to(device=terms.device, dtype=torch.bool)
    kept = torch.where(known, terms, torch.zeros_like(terms))
    return kept.sum() / known.sum().clamp(min=1)


def _check_shapes(logits: Tensor, masks: Tensor, annotated: Tensor) -> None:
    agree = (
        logits.ndim == 4
        and masks.shape == logits.shape
        and annotated.shape == logits.shape[:2]
    )
    if not agree:
        raise ValueError(
            "A loss needs logits and masks (batch, classes, height, width) of one "
            "shape and annotated (batch, classes), got "
            f"{tuple(logits.shape)}, {tuple(masks.shape)} and "
            f"{tuple(annotated.shape)}."
        )
