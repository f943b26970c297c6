"""Random changes of training frames that leave their meaning alone.

Masks and valid regions move with their frames; grey changes leave them where they are.
Every number comes from the generator that is passed in, and as many are drawn for any
content, so that a run repeats whatever its frames show.
"""

from dataclasses import replace

import torch

from clients.data.errors import DataError
from clients.data.frames import FrameSet
from clients.data.photometric import (
    change_lightly,
    change_strongly,
    change_weakly,
    two_sided,
)
from clients.data.spatial import flip_and_turn, mirror, rotate_and_scale
from strategies.data_settings import AUGMENTATIONS

# FGA-Net, doi 10.21037/qims-2024-2926, its released recipe (nnU-Net style).
ROTATION_CHANCE = 0.2
MAX_ROTATION = 180.0  # degrees
SCALE_CHANCE = 0.2
SCALE_RANGE = (0.7, 1.4)


def augment(frames: FrameSet, recipe: str, *, generator: torch.Generator) -> FrameSet:
    """Change every frame of a batch at random, each in its own way.

    Args:
        frames: A batch; stays as it is.
        recipe: "none"; "light": flips, quarter turns and mild grey changes (ours);
            "weak": nnU-Net's rotation, scale, noise, blur, brightness, contrast, low
            resolution, gamma and mirrors as FGA-Net has them; "strong": the strong
            view of sim-to-real adaptation, see `views`.
        generator: Source of all randomness, on the CPU.

    Returns:
        New frames, 0 outside of their valid regions ("none": the same frames).

    Raises:
        DataError: If the recipe is unknown.
    """
    if recipe == "none":
        return frames
    if recipe == "light":
        return _light(frames, generator)
    if recipe == "weak":
        return _weak(frames, generator)
    if recipe == "strong":
        return views(frames, generator=generator)[1]
    raise DataError(
        f"An augmentation must be one of {', '.join(AUGMENTATIONS)}, got '{recipe}'."
    )


def views(frames: FrameSet, *, generator: torch.Generator) -> tuple[FrameSet, FrameSet]:
    """Make the two views of sim-to-real adaptation, arXiv 2410.07460.

    Args:
        frames: A batch; stays as it is.
        generator: Source of all randomness, on the CPU.

    Returns:
        Weak and strong view. They share their flips, so pixels correspond and masks
        are equal.
    """
    weak = weak_view(frames, generator=generator)
    return weak, strong_view(weak, generator=generator)


def weak_view(frames: FrameSet, *, generator: torch.Generator) -> FrameSet:
    """Flip frames in none, one or both directions, each of the four equally often.

    The paper's list is a flip of any kind, a horizontal and a vertical one, each with
    probability 0.5; the last two alone already make all four equally likely.

    Args:
        frames: A batch.
        generator: Source of all randomness, on the CPU.

    Returns:
        Flipped frames; grey values are untouched.
    """
    draws = torch.rand(len(frames), 2, generator=generator)
    return mirror(frames, draws[:, 0] < 0.5, draws[:, 1] < 0.5)


def strong_view(frames: FrameSet, *, generator: torch.Generator) -> FrameSet:
    """Change the grey values of a weak view strongly; nothing moves.

    Args:
        frames: A batch.
        generator: Source of all randomness, on the CPU.

    Returns:
        The same frames with new images.
    """
    images = change_strongly(frames.images, frames.valid, generator=generator)
    return replace(frames, images=images)


def _light(frames: FrameSet, generator: torch.Generator) -> FrameSet:
    turns = torch.randint(4, (len(frames),), generator=generator).tolist()
    flips = torch.randint(2, (len(frames),), generator=generator).tolist()
    images, masks, valid = (
        flip_and_turn(batch, flips, turns)
        for batch in (frames.images, frames.masks, frames.valid)
    )
    images = change_lightly(images, valid, generator=generator)
    return replace(frames, images=images, masks=masks, valid=valid)


def _weak(frames: FrameSet, generator: torch.Generator) -> FrameSet:
    draws = torch.rand(len(frames), 7, generator=generator)
    angles = MAX_ROTATION * (2 * draws[:, 1] - 1)
    degrees = torch.where(draws[:, 0] < ROTATION_CHANCE, angles, 0.0)
    factors = two_sided(draws[:, 3:5], SCALE_RANGE)
    scales = torch.where(draws[:, 2] < SCALE_CHANCE, factors, 1.0)
    moved = rotate_and_scale(frames, degrees, scales)
    images = change_weakly(moved.images, moved.valid, generator=generator)
    changed = replace(moved, images=images)
    return mirror(changed, draws[:, 5] < 0.5, draws[:, 6] < 0.5)
