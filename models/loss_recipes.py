"""The mixtures of losses that papers train with, by name.

FGA-Net: Wang et al., QIMS 2025, doi 10.21037/qims-2024-2926, and its released code.
SAM: Kirillov et al., ICCV 2023, focal to Dice 20:1. Skeleton recall: Kirchhoff et al.,
ECCV 2024. Where paper and code differ the default is the code and a switch the paper.
"""

from collections.abc import Callable
from inspect import signature

from models.loss_targets import Pooling
from models.loss_terms import (
    CentrelineDiceTerm,
    CrossEntropyTerm,
    DiceTerm,
    FocalTerm,
    SkeletonRecallTerm,
)
from models.losses import SegmentationLoss
from models.mixed_loss import MixedLoss


def build_loss(name: str, **options: object) -> MixedLoss:
    """Build a loss by name.

    Args:
        name: A key of `BUILDERS`.
        **options: Arguments of that builder; those not given keep its defaults.

    Returns:
        The loss, to be called with logits, masks, annotated and, if wanted, valid.

    Raises:
        ValueError: If the name, an option or an option's value is unknown.
    """
    builder = BUILDERS.get(name)
    if builder is None:
        raise ValueError(
            f"Unknown loss '{name}'. Choose one of: {', '.join(BUILDERS)}."
        )
    allowed = signature(builder).parameters
    unknown = sorted(options.keys() - allowed.keys())
    if unknown:
        raise ValueError(
            f"Loss '{name}' has no option '{unknown[0]}'. It has: {', '.join(allowed)}."
        )
    return builder(**options)


def build_bce(*, positive_weight: float = 1.0, pooling: Pooling = "entry") -> MixedLoss:
    """Build binary cross-entropy alone.

    Args:
        positive_weight: Factor on device pixels, > 0.
        pooling: Over what one mean runs.

    Returns:
        BCE.
    """
    return MixedLoss([(1.0, CrossEntropyTerm(positive_weight))], pooling=pooling)


def build_dice(*, dice_squared: bool = False, pooling: Pooling = "entry") -> MixedLoss:
    """Build soft Dice alone.

    Args:
        dice_squared: Squares in the denominator.
        pooling: Over what the sums of one ratio run.

    Returns:
        Dice.
    """
    return MixedLoss([(1.0, DiceTerm(squared=dice_squared))], pooling=pooling)


def build_bce_dice(
    *,
    bce_weight: float = 1.0,
    dice_squared: bool = False,
    pooling: Pooling = "entry",
) -> MixedLoss:
    """Build cross-entropy with Dice; the defaults are `SegmentationLoss()`.

    Args:
        bce_weight: Weight of BCE beside Dice's 1, >= 0.
        dice_squared: Squares in Dice's denominator.
        pooling: Over what the sums of one ratio run.

    Returns:
        w BCE + Dice.
    """
    return build_fga_net(
        bce_weight=bce_weight,
        dice_squared=dice_squared,
        cldice_alpha=0.0,
        pooling=pooling,
    )


def build_fga_net(
    *,
    bce_weight: float = 0.5,
    cldice_alpha: float = 0.25,
    skeleton_iterations: int = 10,
    dice_squared: bool = False,
    pooling: Pooling = "class",
) -> MixedLoss:
    """Build FGA-Net's hybrid as its code has it, except that BCE is on logits.

    The code sums over the whole batch for its one class, hence `pooling`. The paper:
    `bce_weight=1, dice_squared=True`.

    Args:
        bce_weight: Weight of BCE, >= 0.
        cldice_alpha: Share a of clDice beside Dice, 0 to 1.
        skeleton_iterations: Erosions of the soft skeleton, >= 1.
        dice_squared: Squares in Dice's denominator.
        pooling: Over what the sums of one ratio run.

    Returns:
        w BCE + (1 - a) Dice + a clDice.

    Raises:
        ValueError: If a number is out of range.
    """
    if not 0.0 <= cldice_alpha <= 1.0:
        raise ValueError(f"cldice_alpha must lie between 0 and 1, got {cldice_alpha}.")
    terms = (
        (bce_weight, CrossEntropyTerm()),
        (1.0 - cldice_alpha, DiceTerm(squared=dice_squared)),
        (cldice_alpha, CentrelineDiceTerm(skeleton_iterations)),
    )
    return MixedLoss(terms, pooling=pooling)


def build_skeleton_recall(
    *,
    recall_weight: float = 1.0,
    shifted: bool = True,
    pooling: Pooling = "entry",
) -> MixedLoss:
    """Build cross-entropy, Dice and skeleton recall.

    Args:
        recall_weight: Weight of skeleton recall, >= 0.
        shifted: Let a perfect prediction cost 0 instead of -recall_weight.
        pooling: Over what the sums of one ratio run.

    Returns:
        BCE + Dice + w skeleton recall.
    """
    terms = (
        (1.0, CrossEntropyTerm()),
        (1.0, DiceTerm()),
        (recall_weight, SkeletonRecallTerm(shifted=shifted)),
    )
    return MixedLoss(terms, pooling=pooling)


def build_sam(
    *,
    focal_weight: float = 20.0,
    dice_weight: float = 1.0,
    alpha: float = 0.25,
    gamma: float = 2.0,
    balanced: bool = True,
    pooling: Pooling = "entry",
) -> MixedLoss:
    """Build SAM's focal and Dice in the ratio 20:1.

    Args:
        focal_weight: Weight of the focal loss, >= 0.
        dice_weight: Weight of Dice, >= 0.
        alpha: See `FocalTerm`; SAM does not print it, 0.25 is Lin et al.'s.
        gamma: See `FocalTerm`.
        balanced: See `FocalTerm`.
        pooling: Over what the sums of one ratio run.

    Returns:
        20 focal + Dice.
    """
    focal = FocalTerm(alpha=alpha, gamma=gamma, balanced=balanced)
    terms = ((focal_weight, focal), (dice_weight, DiceTerm()))
    return MixedLoss(terms, pooling=pooling)


def build_sim_to_real(
    *,
    inner_weight: float = 0.5,
    focal_of_mean: bool = False,
    pooling: Pooling = "class",
) -> MixedLoss:
    """Build the sim-to-real paper's L_pred (eq. 8): focal of eq. 7 and Dice of eq. 3.

    Args:
        inner_weight: Weight of both, >= 0 (0.5 in the code).
        focal_of_mean: See `FocalTerm.of_mean`.
        pooling: Over what sums run; the paper flattens the batch of its one class.

    Returns:
        w focal + w Dice.
    """
    focal = FocalTerm(alpha=0.8, balanced=False, of_mean=focal_of_mean)
    terms = ((inner_weight, focal), (inner_weight, DiceTerm()))
    return MixedLoss(terms, pooling=pooling)


def _build_bce_dice_cldice(
    *, cldice_weight: float = 0.25, skeleton_iterations: int = 4
) -> MixedLoss:
    """Build `SegmentationLoss` with its clDice on."""
    return SegmentationLoss(
        cldice_weight=cldice_weight, skeleton_iterations=skeleton_iterations
    )


BUILDERS: dict[str, Callable[..., MixedLoss]] = {
    "bce": build_bce,
    "dice": build_dice,
    "bce-dice": build_bce_dice,
    "bce-dice-cldice": _build_bce_dice_cldice,
    "fga-net": build_fga_net,
    "skeleton-recall": build_skeleton_recall,
    "sam": build_sam,
    "sim-to-real": build_sim_to_real,
}
"""Every named loss, for `build_loss`."""
