"""Losses for thin wires, on logits, over what is annotated and valid.

Every loss takes logits, masks, which (image, class) entries are annotated and, if
wanted, which pixels are valid; the rest counts in no term and receives no gradient,
because sites annotate different classes and collimators hide parts of frames. The
sigmoid is applied once, inside (FGA-Net's code applies it twice). By default each
(image, class) entry has its own ratio; `Pooling` gives the sums over the batch of the
published codes. Knows nothing of sites, sizes in millimetres or training.
"""

from torch import Tensor

from models.loss_targets import Pooling, Targets
from models.loss_terms import (
    CentrelineDiceTerm,
    CrossEntropyTerm,
    DiceTerm,
    FocalTerm,
    SkeletonRecallTerm,
)
from models.mixed_loss import MixedLoss

# Part of this module's public names since before it had a module of its own.
from models.soft_skeleton import soft_skeleton as soft_skeleton


class SegmentationLoss(MixedLoss):
    """BCE + (1 - a) * soft Dice + a * soft clDice over what is annotated.

    FGA-Net's loss (QIMS 2025, section "loss function"; a = 0.25 in its code) with the
    paper's BCE weight of 1 and a ratio for each (image, class) entry; the code's own
    form is `build_loss("fga-net")`.
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
        if not 0.0 <= cldice_weight <= 1.0:
            raise ValueError(
                f"cldice_weight must lie between 0 and 1, got {cldice_weight}."
            )
        super().__init__(
            (
                (1.0, CrossEntropyTerm()),
                (1.0 - cldice_weight, DiceTerm()),
                (cldice_weight, CentrelineDiceTerm(skeleton_iterations)),
            )
        )
        self.cldice_weight = cldice_weight
        self.skeleton_iterations = skeleton_iterations


def cross_entropy_loss(
    logits: Tensor,
    masks: Tensor,
    annotated: Tensor,
    *,
    valid: Tensor | None = None,
    positive_weight: float = 1.0,
    pooling: Pooling = "entry",
) -> Tensor:
    """Compute binary cross-entropy on logits, mean over pixels, then known groups.

    Args:
        logits: See `MixedLoss.forward`, like the three that follow.
        masks: (batch, classes, height, width), 0 or 1.
        annotated: (batch, classes), bool.
        valid: (batch, 1, height, width), bool, or None.
        positive_weight: Factor on device pixels, > 0.
        pooling: Over what one mean runs.

    Returns:
        A scalar >= 0; 0 when nothing is annotated.

    Raises:
        ValueError: If the shapes disagree or the weight is not positive.
    """
    loss = MixedLoss([(1.0, CrossEntropyTerm(positive_weight))], pooling=pooling)
    return loss.of_targets(logits, Targets(masks, annotated, valid))


def focal_loss(
    logits: Tensor,
    masks: Tensor,
    annotated: Tensor,
    *,
    valid: Tensor | None = None,
    alpha: float = 0.25,
    gamma: float = 2.0,
    balanced: bool = True,
    pooling: Pooling = "entry",
) -> Tensor:
    """Compute the mean of a (1 - p_t)^gamma BCE, p_t = exp(-BCE).

    Balanced is Lin et al. (ICCV 2017, eq. 5): a = alpha on device pixels, 1 - alpha on
    others. Not balanced, with alpha 0.8, is the sim-to-real paper's eq. 7.

    Args:
        logits: See `MixedLoss.forward`, like the three that follow.
        masks: (batch, classes, height, width), 0 or 1.
        annotated: (batch, classes), bool.
        valid: (batch, 1, height, width), bool, or None.
        alpha: 0 to 1.
        gamma: 0, or >= 1.
        balanced: Whether other pixels are weighted by 1 - alpha instead of alpha.
        pooling: Over what one mean runs.

    Returns:
        A scalar >= 0; 0 when nothing is annotated.

    Raises:
        ValueError: If the shapes disagree or a number is out of range.
    """
    term = FocalTerm(alpha=alpha, gamma=gamma, balanced=balanced)
    loss = MixedLoss([(1.0, term)], pooling=pooling)
    return loss.of_targets(logits, Targets(masks, annotated, valid))


def soft_dice_loss(
    logits: Tensor,
    masks: Tensor,
    annotated: Tensor,
    *,
    valid: Tensor | None = None,
    squared: bool = False,
    pooling: Pooling = "entry",
) -> Tensor:
    """Compute 1 - (2 sum(p y) + 1) / (sum p + sum y + 1), mean over known groups.

    Args:
        logits: See `MixedLoss.forward`, like the three that follow.
        masks: (batch, classes, height, width), 0 or 1.
        annotated: (batch, classes), bool.
        valid: (batch, 1, height, width), bool, or None.
        squared: Take sum p^2 + sum y^2 below (V-Net; FGA-Net's paper, not its code).
        pooling: Over what the sums of one ratio run.

    Returns:
        A scalar in [0, 1); 0 when nothing is annotated.

    Raises:
        ValueError: If the shapes disagree.
    """
    loss = MixedLoss([(1.0, DiceTerm(squared=squared))], pooling=pooling)
    return loss.of_targets(logits, Targets(masks, annotated, valid))


def soft_cldice_loss(
    logits: Tensor,
    masks: Tensor,
    annotated: Tensor,
    *,
    iterations: int,
    valid: Tensor | None = None,
    pooling: Pooling = "entry",
) -> Tensor:
    """Compute 1 - 2 Tp Ts / (Tp + Ts), mean over known groups.

    Tp = (sum(skel(p) y) + 1) / (sum skel(p) + 1) asks whether predicted centre lines
    lie on the label, Ts = (sum(skel(y) p) + 1) / (sum skel(y) + 1) the converse (Shit
    et al., CVPR 2021, eq. 1-3).

    Args:
        logits: See `MixedLoss.forward`, like `masks`, `annotated` and `valid`.
        masks: (batch, classes, height, width), 0 or 1.
        annotated: (batch, classes), bool.
        iterations: See `soft_skeleton`, >= 1.
        valid: (batch, 1, height, width), bool, or None.
        pooling: Over what the sums of one ratio run.

    Returns:
        A scalar in [0, 1); 0 when nothing is annotated.

    Raises:
        ValueError: If the shapes disagree or there are fewer than one iterations.
    """
    loss = MixedLoss([(1.0, CentrelineDiceTerm(iterations))], pooling=pooling)
    return loss.of_targets(logits, Targets(masks, annotated, valid))


def skeleton_recall_loss(
    logits: Tensor,
    masks: Tensor,
    annotated: Tensor,
    *,
    valid: Tensor | None = None,
    shifted: bool = True,
    pooling: Pooling = "entry",
) -> Tensor:
    """Compute 1 - (sum(p t) + 1) / (sum t + 1), t the tube around the label's skeleton.

    Kirchhoff et al. (ECCV 2024, arXiv 2404.03010). It asks for recall only: use it
    beside Dice and cross-entropy.

    Args:
        logits: See `MixedLoss.forward`, like the three that follow.
        masks: (batch, classes, height, width), 0 or 1.
        annotated: (batch, classes), bool.
        valid: (batch, 1, height, width), bool, or None.
        shifted: Whether 1 is added to the published formula, whose minimum is -1.
        pooling: Over what the sums of one ratio run.

    Returns:
        A scalar in [0, 1), in [-1, 0) if not shifted; 0 when nothing is annotated.

    Raises:
        ValueError: If the shapes disagree.
    """
    loss = MixedLoss([(1.0, SkeletonRecallTerm(shifted=shifted))], pooling=pooling)
    return loss.of_targets(logits, Targets(masks, annotated, valid))
