"""Centre lines of masks for losses: a differentiable skeleton and a label's tube.

The soft skeleton is the pooling form of Shit et al., "clDice" (CVPR 2021, algorithm 1);
the tube is that of Kirchhoff et al., "Skeleton Recall Loss" (ECCV 2024, arXiv
2404.03010). Pixels outside `valid` are treated as those outside the frame are. Knows
nothing of logits or of losses.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from torch import Tensor
from torch.nn import functional

from models.overlap import skeleton

_TUBE_RADIUS = 2  # dilations by a cross of 3 pixels


def soft_skeleton(
    probabilities: Tensor, *, iterations: int, valid: Tensor | None = None
) -> Tensor:
    """Thin a probability map to its centre lines, differentiably.

    What an opening removes from the map is skeleton; the map is then eroded and the
    step repeated (Shit et al., CVPR 2021, algorithm 1). Erosion takes the minimum
    over a cross of 3 pixels, dilation the maximum over 3x3.

    Args:
        probabilities: (batch, classes, height, width), values 0 to 1, never logits.
        iterations: Number of erosions, >= 1; at least the largest radius of a wire
            in pixels, or its middle is missed.
        valid: (batch, 1, height, width), bool, or None for the whole frame. The rest
            of the frame acts like the world beyond its border.

    Returns:
        The skeleton, same shape, values 0 to 1; 0 where not valid.

    Raises:
        ValueError: If there are fewer than one iterations.
    """
    if iterations < 1:
        raise ValueError(f"A soft skeleton needs iterations >= 1, got {iterations}.")
    outside = None if valid is None else ~valid
    eroded = probabilities
    lines = _removed_by_opening(eroded, outside)
    for _ in range(iterations):
        eroded = _erode(eroded, outside)
        found = _removed_by_opening(eroded, outside)
        # Adds only what is not yet there, so that no pixel exceeds 1.
        lines = lines + functional.relu(found - lines * found)
    return lines


@torch.no_grad()
def skeleton_tubes(masks: Tensor, valid: Tensor | None = None) -> Tensor:
    """Widen the skeleton of each label to a tube that stays inside the label.

    tube = dilate(dilate(skeletonize(L))) * L with a cross of 3 pixels, on the CPU, so
    the loader may call it once a frame; a geometric transform needs it anew.

    Args:
        masks: (batch, classes, height, width), 0 or 1, on any device.
        valid: (batch, 1, height, width), bool, or None; labels outside do not count.

    Returns:
        The tubes, float32, 0 or 1, same shape and device, without gradient. A label
        that thinning would remove keeps the tube around its middle pixel.
    """
    labels = masks.bool() if valid is None else masks.bool() & valid.bool()
    # (batch * classes) small maps on the CPU, where scikit-image works.
    flat: NDArray[np.bool_] = labels.flatten(0, 1).cpu().numpy()
    tubes = np.zeros(flat.shape, dtype=np.float32)
    for tube, label in zip(tubes, flat, strict=True):
        if label.any():
            tube[:] = label & binary_dilation(skeleton(label), iterations=_TUBE_RADIUS)
    return torch.from_numpy(tubes).reshape(masks.shape).to(masks.device)


def _removed_by_opening(maps: Tensor, outside: Tensor | None) -> Tensor:
    removed = functional.relu(maps - _dilate(_erode(maps, outside), outside))
    return removed if outside is None else removed.masked_fill(outside, 0.0)


def _erode(maps: Tensor, outside: Tensor | None) -> Tensor:
    # 1 is the largest value, so it never is a minimum that matters.
    maps = maps if outside is None else maps.masked_fill(outside, 1.0)
    vertical = -functional.max_pool2d(-maps, (3, 1), stride=1, padding=(1, 0))
    horizontal = -functional.max_pool2d(-maps, (1, 3), stride=1, padding=(0, 1))
    return torch.minimum(vertical, horizontal)


def _dilate(maps: Tensor, outside: Tensor | None) -> Tensor:
    maps = maps if outside is None else maps.masked_fill(outside, 0.0)
    return functional.max_pool2d(maps, 3, stride=1, padding=1)
