"""Backgrounds from unlabelled frames: the B_i of eq. (1) of arXiv 2410.07460.

The paper pastes on "a random patch of real background" and never says how a patch is
found. Ours: what may be a device is searched for (`background_lines`), patches are
taken from where there is least of it, and what is left of it in them is filled
(`background_filling`). A device that stays in a background would be labelled as
"nothing there" and teach the network to overlook it.

Masks of the frames are never looked at.
"""

import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from clients.adaptation.background_filling import fill_lines
from clients.adaptation.background_lines import (
    UNIT,
    Field,
    Flags,
    extend,
    find_lines,
    lines_are_dark,
    spread,
)
from clients.data.errors import DataError
from clients.data.frames import FrameSet

METHODS = ("crop", "median", "inpaint")
NUM_CANDIDATES = 60  # crops of a frame
NUM_KEPT = 6  # of them, with the least lines
RIM = 3  # units beside the collimator's edge, in its half-shadow
MIN_FOR_MEDIAN = 3  # frames of a sequence
FLIPS = ((), (0,), (1,), (0, 1))  # axes
INVALID_WEIGHT = 10  # a pixel behind the collimator counts like so many of a line
MIN_PIXELS = 64  # of a frame whose noise is measured
NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
NOISE_GAIN = 6.0  # root of the sum of the kernel's squares
MEDIAN_OF_GAUSSIAN = 0.6744898  # of |N(0, 1)|

_log = logging.getLogger(__name__)


class Backgrounds(NamedTuple):
    """What lies behind devices that are pasted."""

    images: Tensor  # (count, 1, size, size) in [0, 1], 0 where not valid
    valid: Tensor  # bool, the same shape


class _Source(NamedTuple):
    """One picture without devices, and where backgrounds are cut from it."""

    image: Field
    valid: Flags
    boxes: list[tuple[int, int, int]]  # top, left, side, px
    noise: float  # sigma of the frame that it comes from


def collect_backgrounds(
    target: FrameSet, *, method: str, count: int, seed: int, dark: bool | None = None
) -> Backgrounds:
    """Collect backgrounds with the target's style from its unlabelled frames.

    - "crop": of each frame 60 squares of half the side or more are drawn, the 6 with
      the least lines are used. They are enlarged to full size, as a machine's zoom
      does; mirroring would keep the grain, but makes lines and crosses at its seams.
    - "median": over the frames of a sequence, which removes what moves. Sequences of
      fewer than 3 frames give crops.
    - "inpaint": whole frames, with their collimators.

    What enlarging or the median takes from the finest noise is added again.

    Every frame is used before one is used again, then with another crop or flip, as
    far as there are any. The first backgrounds of a larger count are those of a
    smaller one.

    Args:
        target: Unlabelled frames; masks are not looked at.
        method: One of the above.
        count: Number of backgrounds, >= 1.
        seed: >= 0.
        dark: Whether devices are darker than their ground; None = found out.

    Returns:
        The backgrounds. A crop is valid everywhere unless the valid region is smaller
        than half the frame.

    Raises:
        DataError: If the method is unknown, the count too small or no pixel is valid.
    """
    _check(target, method, count)
    rng = np.random.default_rng(seed)
    is_dark = lines_are_dark(target) if dark is None else dark
    builders = _builders(target, method, is_dark)
    size = target.images.shape[-1]
    images = torch.empty(count, 1, size, size)
    valid = torch.empty(count, 1, size, size, dtype=torch.bool)
    sources: dict[int, _Source] = {}
    looks: dict[int, Iterator[tuple[int, int]]] = {}
    numbers = draw_numbers(len(builders), rng)
    for place, number in zip(range(count), numbers, strict=False):
        if number not in sources:
            sources[number] = builders[number](rng)
            looks[number] = _looks(len(sources[number].boxes), rng)
        image, seen = _cut(sources[number], next(looks[number]), rng)
        images[place, 0] = torch.from_numpy(image)
        valid[place, 0] = torch.from_numpy(seen)
    return Backgrounds(images, valid)


def draw_numbers(available: int, rng: np.random.Generator) -> Iterator[int]:
    """Draw with replacement, but each once before one comes again.

    Args:
        available: What there is to draw from, >= 1.
        rng: Source of randomness.

    Yields:
        Numbers from 0 to available - 1, without end.
    """
    while True:
        yield from rng.permutation(available).tolist()


def estimate_noise(target: FrameSet) -> float:
    """Estimate the standard deviation of white noise in frames.

    Immerkaer's difference of Laplacians, which is blind to planes and to straight
    edges [Computer Vision and Image Understanding 64(2), 1996], with the median in
    place of the mean, so that lines do not count as noise. Noise that a detector or
    scaling has smoothed is seen with its finest part only, hence too small.

    Args:
        target: Frames; pixels behind the collimator and pixels at 0 or 1, which
            clipping has freed of noise, are left out. Masks are not looked at.

    Returns:
        Sigma in units of the range, >= 0: the median over at most 64 frames. 0 where
        no frame has enough pixels.
    """
    found = [
        _noise(target.images[number, 0].numpy(), target.valid[number, 0].numpy())
        for number in spread(len(target), 64)
    ]
    measured = [one for one in found if one is not None]
    return float(np.median(measured)) if measured else 0.0


def _check(target: FrameSet, method: str, count: int) -> None:
    if method not in METHODS:
        raise DataError(
            f"Backgrounds come from one of {', '.join(METHODS)}, got '{method}'."
        )
    if count < 1:
        raise DataError(f"At least one background is needed, got a count of {count}.")
    if not target.valid.any():
        raise DataError(
            "Backgrounds are cut from the valid region of unlabelled frames, and these "
            "frames have none; check the collimator of the target's data."
        )


def _builders(
    target: FrameSet, method: str, dark: bool
) -> list[Callable[[np.random.Generator], _Source]]:
    """Return what makes each picture; frames that show nothing are left out."""

    def of(indices: Tensor, whole: bool) -> Callable[[np.random.Generator], _Source]:
        return lambda rng: _build(target, indices, rng, whole=whole, dark=dark)

    usable = target.valid.flatten(1).any(dim=1)
    singles = [torch.tensor([k]) for k in usable.nonzero()[:, 0].tolist()]
    if method != "median":
        return [of(one, method == "inpaint") for one in singles]
    groups = [
        ((target.sequences == number) & usable).nonzero()[:, 0]
        for number in target.sequences[usable].unique().tolist()
    ]
    is_long = [
        len(group) >= MIN_FOR_MEDIAN and bool(target.valid[group].all(dim=0).any())
        for group in groups
    ]
    long = [group for group, enough in zip(groups, is_long, strict=True) if enough]
    short = [group for group, enough in zip(groups, is_long, strict=True) if not enough]
    if short:
        _log.info(
            "%d of %d sequences have fewer than %d frames: crops in place of a median.",
            len(short),
            len(groups),
            MIN_FOR_MEDIAN,
        )
    crops = [of(one, False) for group in short for one in group[:, None]]
    return [of(group, True) for group in long] + crops


def _build(
    target: FrameSet,
    indices: Tensor,
    rng: np.random.Generator,
    *,
    whole: bool,
    dark: bool,
) -> _Source:
    """Take one frame, or the median of several, fill its lines and choose crops."""
    first = indices[0]
    image, valid = target.images[first, 0].numpy(), target.valid[first, 0].numpy()
    noise = _noise(image, valid) or 0.0
    if len(indices) > 1:
        valid = target.valid[indices, 0].all(dim=0).numpy()
        image = np.median(target.images[indices, 0].numpy(), axis=0)
    lines = find_lines(image, valid, dark=dark)
    size = len(image)
    boxes = [(0, 0, size)] if whole else _calm_boxes(lines, valid, rng)
    return _Source(fill_lines(image, lines, valid, rng), valid, boxes, noise)


def _calm_boxes(
    lines: Flags, valid: Flags, rng: np.random.Generator
) -> list[tuple[int, int, int]]:
    """Return squares with few lines and few pixels behind the collimator."""
    size = len(lines)
    reach = 2 * round(RIM * max(1.0, size / UNIT)) + 1
    core = cv2.erode(valid.astype(np.uint8), np.ones((reach, reach), np.uint8))
    cost = lines + INVALID_WEIGHT * (1.0 - core)
    total = np.pad(cost, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    least = (size + 1) // 2
    # Small ones more often: they fit into a round field.
    sides = least + ((size - least + 1) * rng.random(NUM_CANDIDATES) ** 2).astype(int)
    corners = rng.random((NUM_CANDIDATES, 2)) * (size - sides + 1)[:, None]
    corners = corners.astype(int)
    scores = [
        (total[y + a, x + a] - total[y, x + a] - total[y + a, x] + total[y, x]) / a**2
        for (y, x), a in zip(corners, sides, strict=True)
    ]
    best = np.argsort(scores, kind="stable")[:NUM_KEPT]
    return [(int(corners[k, 0]), int(corners[k, 1]), int(sides[k])) for k in best]


def _looks(num_boxes: int, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Yield box and flip, each pair once before one comes again."""
    for pair in draw_numbers(num_boxes * len(FLIPS), rng):
        yield divmod(pair, len(FLIPS))


def _cut(
    source: _Source, look: tuple[int, int], rng: np.random.Generator
) -> tuple[Field, Flags]:
    """Cut a box, enlarge it to full size, flip it and make up for lost noise."""
    top, left, side = source.boxes[look[0]]
    shape = source.image.shape
    part = slice(top, top + side), slice(left, left + side)
    # Black from behind the collimator must not bleed into what is enlarged.
    image = extend(source.image, source.valid)[part]
    valid = source.valid[part].astype(np.uint8)
    if side < len(source.image):
        image = cv2.resize(image, shape, interpolation=cv2.INTER_LINEAR)
        valid = cv2.resize(valid, shape, interpolation=cv2.INTER_NEAREST)
    seen = np.flip(valid > 0, FLIPS[look[1]])
    image = np.flip(image, FLIPS[look[1]])
    left_over = _noise(image, seen)
    lacking = source.noise**2 - (source.noise if left_over is None else left_over) ** 2
    image = image + rng.normal(0, max(0.0, lacking) ** 0.5, shape)
    return np.where(seen, np.clip(image, 0, 1), 0).astype(np.float32), seen.copy()


def _noise(image: Field, valid: Flags) -> float | None:
    """Estimate sigma of one frame, None where too few pixels tell."""
    told = valid & (image > 0) & (image < 1)
    told = cv2.erode(told.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    told[[0, -1]] = told[:, [0, -1]] = False  # the kernel needs all neighbours
    if told.sum() < MIN_PIXELS:
        return None
    residual = cv2.filter2D(image.astype(np.float32), -1, NOISE_KERNEL)
    return float(np.median(np.abs(residual[told])) / MEDIAN_OF_GAUSSIAN / NOISE_GAIN)
