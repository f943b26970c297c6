"""Simulated frames with the polarity of the target.

Many simulators show devices bright on black, fluoroscopy shows them dark. Eq. (1) of
arXiv 2410.07460 pastes grey values as they are, so frames of the other polarity are
inverted before.
"""

import torch

from clients.adaptation.background_lines import spread
from clients.data.frames import FrameSet
from clients.data.polarity import judge_polarity, measure_polarity

NUM_MEASURED = 64  # frames; all of a simulator agree


def devices_are_dark(labelled: FrameSet) -> bool:
    """Tell from labelled frames whether devices are darker than their ground.

    Args:
        labelled: Frames with masks.

    Returns:
        False if devices are clearly brighter; True also where it is unclear, since
        fluoroscopy shows them dark.
    """
    with_device = labelled.masks.flatten(1).any(dim=1).nonzero()[:, 0].tolist()
    if not with_device:
        return True
    chosen = [with_device[k] for k in spread(len(with_device), NUM_MEASURED)]
    scores = [
        measure_polarity(
            labelled.images[number, 0].numpy(),
            labelled.masks[number].amax(dim=0).numpy(),
        )
        for number in chosen
    ]
    return judge_polarity(scores) != "bright"


def inverted(frames: FrameSet) -> FrameSet:
    """Exchange dark and bright inside the valid region.

    Args:
        frames: Values in [0, 1].

    Returns:
        The same frames with 1 - grey; behind the collimator they stay as they are.
    """
    images = torch.where(frames.valid, 1 - frames.images, frames.images)
    return FrameSet.trusted(
        images=images,
        masks=frames.masks,
        annotated=frames.annotated,
        sequences=frames.sequences,
        patients=frames.patients,
        valid=frames.valid,
    )
