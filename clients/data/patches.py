"""Patches of frames that are larger than what the network takes.

FGA-Net's training (doi 10.21037/qims-2024-2926): patches of 602 px are cut from the
frame, augmented, and reduced to 512 px; the last part of every batch is forced to
contain foreground. Its release reduces as nnU-Net does, by the **central crop**, not
by scaling (602 is 512 / 0.85, nnU-Net's margin for rotations): wires keep the width
that they have in the tiles of inference.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from clients.data.errors import DataError
from clients.data.frames import FrameSet

OVERSIZE = 602 / 512


def draw_patches(
    frames: FrameSet,
    size: int,
    *,
    generator: torch.Generator,
    oversize: float = OVERSIZE,
    foreground_share: float = 0.43,
    change: Callable[[FrameSet], FrameSet] | None = None,
) -> FrameSet:
    """Cut one patch out of every frame.

    A patch lies anywhere in its frame. For the last `foreground_share` of the batch it
    lies about a random pixel of a random class among those that its frame shows; a
    frame that shows none gets a random patch. What reaches beyond the frame is 0 and
    not valid, and shows no device.

    Args:
        frames: A batch, any size.
        size: Side of the patches, px, >= 1.
        generator: Source of all randomness, on the CPU; as many numbers are drawn for
            any content.
        oversize: Side of what `change` sees, in sides of the patch, >= 1.
        foreground_share: Of the batch, 0 to 1; rounded as nnU-Net does.
        change: Augments the larger patches, before they are reduced; their margin
            fills the corners of a rotated patch. None = no change.

    Returns:
        As many frames of that side.

    Raises:
        DataError: If a number is out of range.
    """
    if size < 1 or oversize < 1 or not 0 <= foreground_share <= 1:
        raise DataError(
            "Patches need a side of at least 1 px, an oversize of at least 1 and a "
            f"foreground share from 0 to 1, got {size}, {oversize} and "
            f"{foreground_share}."
        )
    count, whole = len(frames), frames.images.shape[-1]
    draws = torch.rand(count, 4, generator=generator)
    forced = torch.arange(count) >= round(count * (1 - foreground_share))
    margin = (round(size * oversize) - size + 1) // 2 if change else 0
    around = margin + max(0, size - whole)  # enough zeros for any position
    corners = [
        _place(masks, size, whole, numbers, bool(force)) + (around - margin)
        for masks, numbers, force in zip(frames.masks, draws, forced, strict=True)
    ]
    side = size + 2 * margin
    large = _cut(frames, corners, side, around)
    return large if change is None else _centre(change(large), size)


def _place(
    masks: Tensor, size: int, whole: int, numbers: Tensor, force: bool
) -> Tensor:
    """Return row and column of a patch's first pixel; negative beyond the frame.

    Args:
        masks: (classes, whole, whole) of one frame.
        size: Side of the patch, px.
        whole: Side of the frame, px.
        numbers: (4,), uniform in [0, 1): class, pixel, row and column.
        force: Lie about a pixel of a device.
    """
    if size >= whole:
        return torch.full((2,), -((size - whole) // 2))
    room = whole - size
    present = torch.nonzero(masks.any(dim=-1).any(dim=-1))[:, 0]
    if not force or not len(present):
        return (numbers[2:] * (room + 1)).long().clamp(max=room)
    chosen = present[_pick(numbers[0], len(present))]
    pixels = torch.nonzero(masks[chosen])
    return (pixels[_pick(numbers[1], len(pixels))] - size // 2).clamp(0, room)


def _pick(number: Tensor, count: int) -> int:
    return min(int(number.double() * count), count - 1)


def _cut(frames: FrameSet, corners: list[Tensor], side: int, around: int) -> FrameSet:
    """Cut squares out of the frames after padding them on all sides."""
    starts = [corner.tolist() for corner in corners]

    def cut(batch: Tensor) -> Tensor:
        padded = pad(batch, [around] * 4)
        patches = [
            one[:, row : row + side, column : column + side]
            for one, (row, column) in zip(padded, starts, strict=True)
        ]
        return torch.stack(patches)

    return replace(
        frames,
        images=cut(frames.images),
        masks=cut(frames.masks),
        valid=cut(frames.valid),
    )


def _centre(frames: FrameSet, size: int) -> FrameSet:
    start = (frames.images.shape[-1] - size) // 2
    middle = slice(start, start + size)
    return replace(
        frames,
        images=frames.images[..., middle, middle],
        masks=frames.masks[..., middle, middle],
        valid=frames.valid[..., middle, middle],
    )
