"""Pieces and holes of a mask: Betti numbers, and how far a prediction's are off.

The foreground is 8-connected, so a diagonal one-pixel wire is one piece; the background
is 4-connected, so such a wire can close a ring. Errors of number only: a piece too many
at one place and one too few at another cancel.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import label as label_pieces

from models.overlap import Mask
from models.region_metrics import check_masks


class BettiNumbers(NamedTuple):
    """Topology of one mask; an empty mask has neither pieces nor holes."""

    components: int  # b0, 8-connected pieces of the foreground
    holes: int  # b1, 4-connected pieces of the background, less the outside


class BettiErrors(NamedTuple):
    """Absolute differences of Betti numbers; 0 is best."""

    components: int  # |b0(P) - b0(L)|
    holes: int  # |b1(P) - b1(L)|


def betti_numbers(mask: Mask) -> BettiNumbers:
    """Count the pieces and the holes of a mask.

    Args:
        mask: (height, width), bool; beyond the image there is background.

    Returns:
        The numbers. A ring that the edge of the image cuts open has no hole.
    """
    _, components = label_pieces(mask, structure=np.ones((3, 3)))
    # The margin joins all background that touches the edge into one outside.
    _, background = label_pieces(~np.pad(mask, 1))
    return BettiNumbers(int(components), int(background) - 1)


def betti_errors(predicted: Mask, label: Mask) -> BettiErrors:
    """Compare the Betti numbers of a prediction and a label.

    Args:
        predicted: (height, width), bool.
        label: (height, width), bool.

    Returns:
        The errors; 0 when both masks are empty, the other mask's numbers when one is.

    Raises:
        ValueError: If the masks are not boolean or not of one (height, width).
    """
    check_masks(predicted, label)
    found, wanted = betti_numbers(predicted), betti_numbers(label)
    return BettiErrors(
        abs(found.components - wanted.components), abs(found.holes - wanted.holes)
    )
