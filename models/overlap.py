"""How well one predicted mask covers one label: Dice and clDice, empty masks included.

clDice is Shit et al., "clDice", CVPR 2021, on the morphological skeleton of
scikit-image. Conventions where the definitions divide by zero: both masks empty is 1,
one of them empty is 0, and a blob that thinning removes has its centre pixel as
skeleton. Works on masks in pixels; probabilities and sets of frames are not known here.
"""

import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize

Mask = NDArray[np.bool_]
"""One class of one frame, (height, width)."""


def dice(predicted: Mask, label: Mask) -> float:
    """Compute 2 |P & L| / (|P| + |L|) of one pair of masks.

    Args:
        predicted: (height, width), bool.
        label: (height, width), bool.

    Returns:
        0 to 1; 1 when both are empty, 0 when one is.
    """
    total = int(predicted.sum()) + int(label.sum())
    return ratio(2 * int((predicted & label).sum()), total, total == 0)


def cldice(predicted: Mask, label: Mask) -> float:
    """Compute the centre-line Dice of one pair of masks.

    The harmonic mean of the share of the prediction's skeleton inside the label and
    the share of the label's skeleton inside the prediction (Shit et al., eq. 1-3).

    Args:
        predicted: (height, width), bool.
        label: (height, width), bool.

    Returns:
        0 to 1; 1 when both are empty, 0 when one is.
    """
    empty = not (predicted.any() or label.any())
    lines, hits, label_lines, label_hits = count_skeletons(predicted, label)
    return harmonic_mean(
        ratio(hits, lines, empty), ratio(label_hits, label_lines, empty)
    )


def skeleton(mask: Mask) -> Mask:
    """Thin a mask to its centre lines; a non-empty mask keeps at least one pixel.

    Args:
        mask: (height, width), bool.

    Returns:
        The skeleton (Zhang & Suen, 1984), or the mask's pixel nearest to its centre
        of mass when thinning removes everything.
    """
    lines: Mask = skeletonize(mask)
    if mask.any() and not lines.any():
        pixels = np.argwhere(mask)
        distances = np.square(pixels - pixels.mean(axis=0)).sum(axis=1)
        lines[tuple(pixels[distances.argmin()])] = True
    return lines


def count_skeletons(predicted: Mask, label: Mask) -> tuple[int, int, int, int]:
    """Count skeleton pixels and how many of them the other mask covers.

    Args:
        predicted: (height, width), bool.
        label: (height, width), bool.

    Returns:
        Pixels of the prediction's skeleton, those inside the label, pixels of the
        label's skeleton, those inside the prediction.
    """
    lines, label_lines = skeleton(predicted), skeleton(label)
    return (
        int(lines.sum()),
        int((lines & label).sum()),
        int(label_lines.sum()),
        int((label_lines & predicted).sum()),
    )


def ratio(part: int, whole: int, both_empty: bool) -> float:
    """Divide, with 1 when both masks are empty and 0 when only the whole is."""
    if both_empty:
        return 1.0
    return part / whole if whole else 0.0


def harmonic_mean(first: float, second: float) -> float:
    """Return 2 a b / (a + b) of two numbers >= 0, and 0 when both are 0."""
    total = first + second
    return 2 * first * second / total if total else 0.0
