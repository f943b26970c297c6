"""From stored frames to what a network sees: draw, cut, change, normalise.

Training and evaluation both pass here, so a network is never tested on frames that
were prepared otherwise than those it learned from.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from clients.data.augmentation import augment
from clients.data.frames import Frames, FrameSet
from clients.data.patches import draw_patches
from clients.data.preprocessing import Moments, standardise, valid_moments
from clients.data.tiles import predict_tiled
from strategies.data_settings import DataSettings
from strategies.randomness import generator_from


@dataclass(frozen=True)
class Batch:
    """Frames on the device, ready for a network."""

    images: Tensor  # (batch, 1, size, size) float32, normalised as the settings say
    masks: Tensor  # (batch, classes, size, size) uint8
    annotated: Tensor  # (batch, classes) bool
    valid: Tensor  # (batch, 1, size, size) bool
    sequences: Tensor  # (batch,) int64

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.images)

    def frame(self, index: int) -> "Batch":
        """Return one of the frames, as a batch of its own."""
        tensors = vars(self).items()
        return Batch(**{name: one[index : index + 1] for name, one in tensors})


def training_batches(
    frames: Frames,
    *,
    batch_size: int,
    network_size: int,
    settings: DataSettings,
    seed: int,
    device: torch.device,
) -> Iterator[Batch]:
    """Yield augmented batches for ever, every frame once before any comes again.

    Args:
        frames: The training frames.
        batch_size: Frames in a batch; fewer if there are fewer frames.
        network_size: Side of what the network takes, px; from larger frames patches
            are cut [FGA-Net, section on preprocessing].
        settings: Augmentation and normalisation.
        seed: Decides order, patches and augmentation, >= 0.
        device: Where the batches are wanted.

    Returns:
        An iterator without end.
    """
    generator = generator_from(seed)
    order = torch.empty(0, dtype=torch.int64)
    size = min(batch_size, len(frames))

    def change(part: FrameSet) -> FrameSet:
        return augment(part, settings.augmentation, generator=generator)

    while True:
        while len(order) < size:
            shuffled = torch.randperm(len(frames), generator=generator)
            order = torch.cat([order, shuffled])
        part, order = frames.subset(order[:size]), order[size:]
        # Of whole and unchanged frames: a z-score of the changed patch would take
        # back changes of brightness and contrast, and differ from what is tested.
        moments = (
            valid_moments(part.images, part.valid)
            if settings.normalise == "z-score"
            else None
        )
        if part.images.shape[-1] > network_size:
            part = draw_patches(part, network_size, generator=generator, change=change)
        else:
            part = change(part)
        yield to_batch(part, settings, device, moments)


def evaluation_batches(
    frames: Frames, *, batch_size: int, settings: DataSettings, device: torch.device
) -> Iterator[Batch]:
    """Yield all frames once, in order, whole and unchanged but for normalisation.

    Args:
        frames: What to measure on.
        batch_size: Frames in a batch; the last one may be smaller.
        settings: Normalisation.
        device: Where the batches are wanted.

    Returns:
        An iterator over the batches.
    """
    for start in range(0, len(frames), batch_size):
        end = min(start + batch_size, len(frames))
        yield to_batch(frames.subset(torch.arange(start, end)), settings, device)


def to_batch(
    frames: FrameSet,
    settings: DataSettings,
    device: torch.device,
    moments: Moments | None = None,
) -> Batch:
    """Normalise frames and send them to a device.

    Args:
        frames: Of any size.
        settings: Normalisation.
        device: Where the batch is wanted.
        moments: For a z-score: mean and deviation of the whole frames; None = these
            are whole.

    Returns:
        All the frames.
    """
    images = frames.images
    if settings.normalise == "z-score":
        images = standardise(images, frames.valid, moments=moments)
    return Batch(
        images=images.to(device),
        masks=frames.masks.to(device),
        annotated=frames.annotated.to(device),
        valid=frames.valid.to(device),
        sequences=frames.sequences.to(device),
    )


def predict(
    network: Callable[[Tensor], Tensor], images: Tensor, network_size: int
) -> Tensor:
    """Return the logits of whole frames, tile by tile where they are larger.

    Args:
        network: (batch, 1, network_size, network_size) -> (batch, classes, the same).
        images: (batch, 1, size, size), normalised.
        network_size: px.

    Returns:
        (batch, classes, size, size).
    """
    if images.shape[-1] == network_size:
        return network(images)
    return predict_tiled(network, images, network_size)
