"""Where an unlabelled frame may show a catheter or a wire.

Devices are thin lines, and so are ribs, sutures and vessels: without labels they cannot
be told apart, so the strongest lines of a frame are all suspected. Thresholds are
shares of the frame's own strongest lines. On simulated hospitals and on a real phantom
at 128 px the suspicion covers 96 % or more of the devices' pixels and 8 to 23 % of the
frame (ours; arXiv 2410.07460 does not say how its backgrounds were found).
"""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from clients.data.frames import FrameSet

Field = NDArray[np.float32]
Flags = NDArray[np.bool_]

WORKING_SIDE = 512
"""Larger frames are searched at this size, px: a wire is still a pixel wide there."""
UNIT = 128  # parts of the side; widths of lines are counted in them
WIDTHS = (1, 2)  # standard deviations of the ridge filter, units, at least as many px
TOP = 99  # percentile of the response that counts as a strong line
STRONG, WEAK = 0.7, 0.35  # shares of it where a line begins and how far it is followed
MARGIN = 5  # units beside a collimator that say nothing of polarity
CLEARLY = 0.15  # log ratio; fluoroscopy shows devices dark unless bright lines prevail
NUM_ASKED, SIDE_ASKED = 64, 256  # frames that vote on polarity, and their side, px


def find_lines(image: Field, valid: Flags, *, dark: bool) -> Flags:
    """Mark the strongest lines of a frame, and a little beside them.

    Sato's ridge filter (Medical Image Analysis 2(2), 1998) over two widths, followed
    by hysteresis: lines begin where they are strong and go on while they are weaker.

    Args:
        image: (size, size) in [0, 1].
        valid: The same shape, False behind the collimator.
        dark: Whether devices are darker than their ground.

    Returns:
        bool (size, size), False outside the valid region; all False on an even frame.
    """
    # Importing skimage.filters takes a while, which `--help` need not wait for.
    from skimage.filters import apply_hysteresis_threshold

    size = len(image)
    side = min(size, WORKING_SIDE)
    small, seen = _at_side(image, valid, side)
    if not seen.any():
        return np.zeros_like(valid)
    response = line_response(small, seen, dark=dark)
    top = np.percentile(response[seen], TOP)
    if top < 1e-4:  # rounding, not a line
        return np.zeros_like(valid)
    found = apply_hysteresis_threshold(response, WEAK * top, STRONG * top) & seen
    beside = np.ones((3, 3), np.uint8)
    wide = cv2.dilate(
        found.astype(np.uint8), beside, iterations=max(1, round(side / UNIT))
    )
    whole = cv2.resize(wide, (size, size), interpolation=cv2.INTER_NEAREST)
    return (whole > 0) & valid


def line_response(
    image: Field, valid: Flags, *, dark: bool, widths: tuple[int, ...] = WIDTHS
) -> Field:
    """Filter a frame for lines.

    Args:
        image: (size, size) in [0, 1].
        valid: The same shape.
        dark: Whether dark lines are looked for, or bright ones.
        widths: Standard deviations, in units of `UNIT`.

    Returns:
        (size, size), >= 0. The collimator's edge gives no response.
    """
    from skimage.filters import sato  # as above

    unit = max(1.0, len(image) / UNIT)
    rim = round(4 * unit * max(widths))
    # Slopes go on beyond the frame; mirrored or cut off they would end in a line.
    padded = np.pad(extend(image, valid), rim, mode="reflect", reflect_type="odd")
    sigmas = [unit * width for width in widths]
    response = sato(padded, sigmas=sigmas, black_ridges=dark)[rim:-rim, rim:-rim]
    return np.where(valid, response, 0).astype(np.float32)


def extend(image: Field, valid: Flags) -> Field:
    """Go on behind the collimator with the nearest valid pixel.

    Args:
        image: (size, size).
        valid: The same shape.

    Returns:
        (size, size); the image itself where nothing or everything is valid.
    """
    if valid.all() or not valid.any():
        return image
    nearest = distance_transform_edt(
        ~valid, return_distances=False, return_indices=True
    )
    extended: Field = image[tuple(nearest)]
    return extended


def lines_are_dark(frames: FrameSet) -> bool:
    """Tell from unlabelled frames whether devices are darker than their ground.

    Thin dark lines are weighed against thin bright ones. Of 21 simulated hospitals
    (8 frames each, 128 and 256 px) two were judged wrongly, and so are chest films,
    where ribs and lungs have lines of both kinds. Who knows the display should not ask.

    Args:
        frames: Of one display; masks are not looked at.

    Returns:
        False if bright lines clearly prevail.
    """
    ratios = []
    for number in spread(len(frames), NUM_ASKED):
        image, valid = _at_side(
            frames.images[number, 0].numpy(),
            frames.valid[number, 0].numpy(),
            min(frames.images.shape[-1], SIDE_ASKED),
        )
        reach = 2 * round(MARGIN * max(1.0, len(image) / UNIT)) + 1
        core = cv2.erode(
            np.pad(valid, 1).astype(np.uint8), np.ones((reach, reach), np.uint8)
        )[1:-1, 1:-1]
        core = core > 0
        if not core.any():
            continue
        dark, bright = (
            np.percentile(
                line_response(image, valid, dark=way, widths=WIDTHS[:1])[core], TOP
            )
            for way in (True, False)
        )
        ratios.append(np.log((dark + 1e-6) / (bright + 1e-6)))
    return not ratios or bool(np.mean(ratios) > -CLEARLY)


def spread(count: int, most: int) -> list[int]:
    """Choose frames at even distances.

    Args:
        count: Frames to choose from, >= 1.
        most: At most so many are chosen.

    Returns:
        Numbers in order, each once.
    """
    return torch.linspace(0, count - 1, min(count, most)).round().int().tolist()


def _at_side(image: Field, valid: Flags, side: int) -> tuple[Field, Flags]:
    if len(image) == side:
        return image, valid
    shape = (side, side)
    small = cv2.resize(extend(image, valid), shape, interpolation=cv2.INTER_AREA)
    seen = cv2.resize(valid.astype(np.uint8), shape, interpolation=cv2.INTER_NEAREST)
    return small, seen > 0
