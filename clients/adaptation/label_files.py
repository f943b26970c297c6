"""Pseudo-labels in files, so that a later stage can go on where another ended."""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clients.adaptation.label_quality import PseudoLabelQuality
from clients.adaptation.pseudo_labels import PseudoLabels, with_labels
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from models.weights import load_weights, read_metadata, save_weights

FORMAT = "pseudo-labels 1"


def save_pseudo_labels(path: Path, labels: PseudoLabels, frames: FrameSet) -> None:
    """Keep pseudo-labels in a safetensors file, for a later stage to go on from.

    Args:
        path: Of the file; its folder must exist. An earlier file is replaced.
        labels: Of `pseudo_labelled`.
        frames: All frames, as they were given there. Only a digest of them is kept.

    Raises:
        DataError: If the file cannot be written.
    """
    # Eight pixels a byte: 200 frames of 1024 px and two classes are 52 MB, not 420.
    packed = np.packbits(labels.frames.masks.numpy(), axis=-1)
    tensors = {"masks": torch.from_numpy(packed), "kept": labels.kept}
    header = {
        "format": FORMAT,
        "frames": _digest(frames),
        "quality": json.dumps(labels.quality.to_dict()),
    }
    try:
        save_weights(path, tensors, metadata=header)
    except OSError as error:
        raise DataError(
            f"Pseudo-labels could not be kept: {error.strerror}. Choose a folder that "
            "exists and has room."
        ) from None


def load_pseudo_labels(path: Path, frames: FrameSet) -> PseudoLabels:
    """Read what `save_pseudo_labels` has kept.

    Args:
        path: Of the file.
        frames: The same frames, all of them.

    Returns:
        The pseudo-labels of then, bit for bit.

    Raises:
        DataError: If there is no such file, it is damaged or of other frames.
    """
    try:
        header, tensors = read_metadata(path), load_weights(path)
    except (OSError, ValueError):
        raise DataError(
            "A file of pseudo-labels was wanted, got none or a damaged one. Run the "
            "coarse stage again."
        ) from None
    if header.get("format") != FORMAT:
        raise DataError(
            f"A file of the format '{FORMAT}' was wanted, got another. Run the coarse "
            "stage again."
        )
    if header.get("frames") != _digest(frames):
        raise DataError(
            "Pseudo-labels of these frames were wanted, got those of others: frames, "
            "their size or their preparation have changed. Run the coarse stage again."
        )
    try:
        return _unpack(header["quality"], tensors["masks"], tensors["kept"], frames)
    except (KeyError, ValueError):  # a DataError, too
        raise DataError(
            "A file of pseudo-labels was wanted, got one that lacks a part of them. "
            "Run the coarse stage again."
        ) from None


def _unpack(
    described: str, packed: Tensor, kept: Tensor, frames: FrameSet
) -> PseudoLabels:
    quality = PseudoLabelQuality.from_dict(json.loads(described))
    size = frames.images.shape[-1]
    masks = torch.from_numpy(np.unpackbits(packed.numpy(), axis=-1, count=size))
    labelled = with_labels(frames, kept, masks, tuple(quality.classes))
    return PseudoLabels(labelled, kept, quality)


def _digest(frames: FrameSet) -> str:
    """Return SHA-256 of what a network can see of frames, and of no labels."""
    found = hashlib.sha256(str(tuple(frames.images.shape)).encode())
    for tensor in (frames.images, frames.valid):
        found.update(tensor.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
