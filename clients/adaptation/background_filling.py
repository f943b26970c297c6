"""Make lines of a frame disappear: their ground goes on beneath, with its noise.

A band that is filled smoothly would itself be a line, of missing noise; so the grain
of the same frame is laid over it.
"""

import cv2
import numpy as np

from clients.adaptation.background_lines import Field, Flags, extend

SMOOTHING = 1.5  # px, standard deviation; what is finer counts as grain
INPAINT_RADIUS = 3  # px
SIXTEEN_BITS = 65535
RIM = 3  # px beside the collimator's edge, whose step is no grain
LARGEST_GRAIN = 5.0  # medians of its size; Gaussian noise goes there once in 1,400
NUM_SHIFTS = 12  # tries to find grain for every pixel that is filled


def fill_lines(
    image: Field, lines: Flags, valid: Flags, rng: np.random.Generator
) -> Field:
    """Replace lines by what may lie beneath.

    Args:
        image: (size, size) in [0, 1].
        lines: Pixels to replace.
        valid: Pixels that show something.
        rng: Chooses where the grain comes from.

    Returns:
        (size, size) in [0, 1]; pixels that are not replaced keep their value. A frame
        that shows nothing but lines stays as it is.
    """
    lines = lines & valid
    known = valid & ~lines
    if not lines.any() or not known.any():
        return image
    ground = ground_beneath(image, lines, valid)
    grain = np.where(known, image - ground, 0)
    grain = _borrowed(grain, _is_grain(grain, known, valid), lines, rng)
    return np.where(lines, np.clip(ground + grain, 0, 1), image).astype(np.float32)


def ground_beneath(image: Field, lines: Flags, valid: Flags) -> Field:
    """Estimate a frame without its lines and without its grain.

    The frame is smoothed without them, then they are inpainted along lines of equal
    grey [Bertalmio et al., "Navier-Stokes, fluid dynamics, and image and video
    inpainting", CVPR 2001].

    Args:
        image: (size, size) in [0, 1].
        lines: Pixels to disregard.
        valid: Pixels that show something.

    Returns:
        (size, size) in [0, 1]; means something in the valid region only.
    """
    known = valid & ~lines
    weight = known.astype(np.float32)
    total = cv2.GaussianBlur(image * weight, (0, 0), SMOOTHING)
    share = cv2.GaussianBlur(weight, (0, 0), SMOOTHING)
    smooth = np.where(known, total / np.maximum(share, 1e-6), image)
    # Neither black nor a line may creep in from behind the collimator.
    smooth = extend(smooth.clip(0, 1).astype(np.float32), known)
    # cv2 5.0 inpaints floats from 0 to 1 less exactly than integers.
    filled = cv2.inpaint(
        np.rint(smooth * SIXTEEN_BITS).astype(np.uint16),
        lines.astype(np.uint8),
        INPAINT_RADIUS,
        cv2.INPAINT_NS,
    )
    return filled.astype(np.float32) / SIXTEEN_BITS


def _is_grain(grain: Field, known: Flags, valid: Flags) -> Flags:
    """Tell noise from edges of anatomy and of the collimator."""
    rim = 2 * RIM + 1
    core = cv2.erode(valid.astype(np.uint8), np.ones((rim, rim), np.uint8)) > 0
    usual = LARGEST_GRAIN * float(np.median(np.abs(grain[known])))
    # On a frame without noise nothing is above and nothing is left out.
    fine = known & core & (np.abs(grain) <= usual)
    return fine if fine.any() else known


def _borrowed(
    grain: Field, known: Flags, wanted: Flags, rng: np.random.Generator
) -> Field:
    """Return grain from elsewhere in the frame for the wanted pixels.

    The frame's grain is turned and shifted as a whole, so that it keeps its texture:
    noise of real detectors is not white.
    """
    borrowed = np.zeros_like(grain)
    missing = wanted.copy()
    for _ in range(NUM_SHIFTS):
        if not missing.any():
            break
        shift = tuple(int(one) for one in rng.integers(0, len(grain), 2))
        flip = tuple(int(one) for one in rng.choice((1, -1), 2))
        donor, usable = (
            np.roll(field[:: flip[0], :: flip[1]], shift, axis=(0, 1))
            for field in (grain, known)
        )
        found = missing & usable
        borrowed[found] = donor[found]
        missing &= ~usable
    if missing.any():  # hardly anything in the frame is known
        borrowed[missing] = rng.choice(grain[known], int(missing.sum()))
    return borrowed
