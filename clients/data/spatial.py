"""Moves of frames with their masks and valid regions.

Flips and quarter turns are exact on the pixel grid. Any other rotation or scale goes
through an interpolation, and there a mask keeps its thin wires in one piece.
"""

from dataclasses import replace

import numpy as np
import torch
from skimage.morphology import skeletonize
from torch import Tensor

from clients.data.frames import FrameSet
from models.torchvision_ops import make_torchvision_importable

make_torchvision_importable()

from torchvision.transforms import InterpolationMode  # noqa: E402 - as below
from torchvision.transforms.v2 import functional  # noqa: E402 - needs the line above

MIN_COVERAGE = 0.5
"""A pixel belongs to a device, or is valid, from this interpolated share on."""
STEPS = 4
"""Points between neighbours of a moved skeleton: enough up to a scale of 2.8."""


def flip_and_turn(batch: Tensor, flips: list[int], turns: list[int]) -> Tensor:
    """Flip images, masks or regions from left to right, then turn them by quarters.

    Args:
        batch: (frames, channels, size, size), any type.
        flips: 1 = flip, one per frame.
        turns: Quarter turns against the clock, one per frame.

    Returns:
        New tensor; together all eight symmetries of the square can be had.
    """
    moved = [
        torch.rot90(sample.flip(-1) if flip else sample, turn, dims=(-2, -1))
        for sample, turn, flip in zip(batch, turns, flips, strict=True)
    ]
    return torch.stack(moved)


def mirror(frames: FrameSet, across: Tensor, along: Tensor) -> FrameSet:
    """Mirror frames.

    Args:
        frames: Any frames.
        across: bool (frames,), exchange left and right.
        along: bool (frames,), exchange top and bottom.

    Returns:
        New frames.
    """

    def move(batch: Tensor) -> Tensor:
        moved = torch.where(across[:, None, None, None], batch.flip(-1), batch)
        return torch.where(along[:, None, None, None], moved.flip(-2), moved)

    return replace(
        frames,
        images=move(frames.images),
        masks=move(frames.masks),
        valid=move(frames.valid),
    )


def rotate_and_scale(frames: FrameSet, degrees: Tensor, scales: Tensor) -> FrameSet:
    """Rotate frames about their centre and scale them.

    Frames are interpolated linearly over their valid pixels. What comes from outside
    of a frame is 0 and not valid.

    Args:
        frames: Any frames.
        degrees: (frames,), clockwise as seen on the screen.
        scales: (frames,), above 1 = larger, up to 2.8.

    Returns:
        New frames; those with neither rotation nor scale are the same to the bit.
    """
    images, masks, valid = (
        frames.images.clone(),
        frames.masks.clone(),
        frames.valid.clone(),
    )
    moved = torch.nonzero((degrees != 0) | (scales != 1))[:, 0].tolist()
    for number in moved:
        degree, scale = float(degrees[number]), float(scales[number])
        share = frames.valid[number].float()
        layers = [frames.images[number] * share, share, frames.masks[number].float()]
        image, inside, devices = functional.affine(
            torch.cat(layers),
            angle=degree,
            translate=[0, 0],
            scale=scale,
            shear=[0, 0],
            interpolation=InterpolationMode.BILINEAR,
        ).split([1, 1, masks.shape[1]])
        valid[number] = inside >= MIN_COVERAGE
        weighted = (image / inside.clamp_min(MIN_COVERAGE)).clamp(0, 1)
        images[number] = torch.where(valid[number], weighted, 0.0)
        masks[number] = devices >= MIN_COVERAGE
        for layer, original in zip(masks[number], frames.masks[number], strict=True):
            rows, columns = _move_skeleton(original, degree, scale)
            layer[rows, columns] = 1
    return replace(frames, images=images, masks=masks, valid=valid)


def _move_skeleton(mask: Tensor, degrees: float, scale: float) -> tuple[Tensor, Tensor]:
    """Return the pixels that the moved skeleton of a mask runs through.

    Rotation moves the neighbours in a wire of one pixel apart; points between them
    keep it connected, where interpolated coverage alone would tear it.

    Args:
        mask: (size, size), nonzero = device.
        degrees: Clockwise about the centre.
        scale: Above 1 = larger.

    Returns:
        Rows and columns inside the frame.
    """
    size = mask.shape[-1]
    thin = np.pad(skeletonize(mask.numpy() != 0), 1)
    points = [np.argwhere(thin).astype(np.float64)]
    for step in ((0, 1), (1, 0), (1, 1), (1, -1)):
        pairs = np.argwhere(thin & np.roll(thin, (-step[0], -step[1]), axis=(0, 1)))
        points += [pairs + np.array(step) * part / STEPS for part in range(1, STEPS)]
    rows, columns = (np.concatenate(points) - 1 + 0.5 - size / 2).T
    cosine, sine = (scale * of(np.deg2rad(degrees)) for of in (np.cos, np.sin))
    moved = np.stack([cosine * rows + sine * columns, cosine * columns - sine * rows])
    moved = np.floor(moved + size / 2).astype(np.int64)
    inside = ((moved >= 0) & (moved < size)).all(axis=0)
    rows, columns = torch.from_numpy(moved[:, inside])
    return rows, columns
