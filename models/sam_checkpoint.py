"""Official SAM files in, official SAM files out, at any image size.

The published checkpoints (and MedSAM's, which have the same keys) belong to images of
1024 px. Absolute positions are interpolated as a picture, the relative positions of
blocks with global attention as a line; windowed blocks keep theirs. `pixel_mean` and
`pixel_std` are not in the files.
"""

import pickle
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from models.sam import Sam
from models.weights import WeightsError

OWN_PARTS = ("detail.", "logit_bias")
"""What this project's networks have beyond SAM; never in an official file."""


def load_official(model: Sam, path: Path) -> None:
    """Load an official checkpoint into a network of any size, strictly.

    Args:
        model: Of the same width and depth. Changed in place; parts that SAM does not
            have keep their values.
        path: `sam_vit_b_01ec64.pth` and the like, or MedSAM's.

    Raises:
        WeightsError: If the file is no such checkpoint, or of another architecture.
    """
    state = _read(path)
    own = official_state(model)
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own)
    if missing or unknown:
        raise WeightsError(
            f"An official SAM checkpoint with {len(own)} tensors was wanted; "
            f"{len(missing)} are missing and {len(unknown)} unknown"
            + (f", first '{(missing or unknown)[0]}'" if missing or unknown else "")
            + ". Is it of another size (ViT-B, -L, -H)?"
        )
    fitted = {name: _fit(name, state[name], own[name]) for name in own}
    model.load_state_dict({**model.state_dict(), **fitted}, strict=True)


def save_official(model: Sam, path: Path) -> None:
    """Write a network's SAM part under its original keys.

    Args:
        model: With class tokens in the decoder; its own additions are left out.
        path: Of the new file; `segment_anything` loads it into a model of this image
            size.
    """
    state = {name: tensor.clone() for name, tensor in official_state(model).items()}
    torch.save(state, path)


def official_state(model: Sam) -> dict[str, Tensor]:
    """Return the tensors of a network that SAM has too, by their original names."""
    return {
        name: tensor.detach().cpu()
        for name, tensor in model.state_dict().items()
        if not name.startswith(OWN_PARTS)
    }


def _read(path: Path) -> dict[str, Tensor]:
    wanted = "An official SAM checkpoint (a dictionary of tensors) was wanted"
    try:
        # weights_only: a pickle from elsewhere must not run code here.
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
        raise WeightsError(
            f"{wanted}, but the file cannot be read as one. "
            "Is it complete, and does it hold weights only?"
        ) from None
    is_state = isinstance(state, dict) and all(
        isinstance(name, str) and isinstance(value, Tensor)
        for name, value in state.items()
    )
    if not is_state:
        raise WeightsError(f"{wanted}, got something else.")
    return dict(state)


def _fit(name: str, found: Tensor, own: Tensor) -> Tensor:
    """Resize position tables to the network's image size; check everything else."""
    fitted = found.float()
    if name.endswith("pos_embed"):  # (1, height, width, dim)
        fitted = functional.interpolate(
            fitted.permute(0, 3, 1, 2), size=own.shape[1:3], mode="bilinear"
        ).permute(0, 2, 3, 1)
    elif name.endswith(("rel_pos_h", "rel_pos_w")):  # (2 size - 1, head dim)
        fitted = functional.interpolate(
            fitted.T[None], size=own.shape[0], mode="linear"
        )[0].T
    if fitted.shape != own.shape:
        raise WeightsError(
            f"Tensor '{name}' of the checkpoint is {tuple(found.shape)}, the network "
            f"needs {tuple(own.shape)}. Is it of another size (ViT-B, -L, -H)?"
        )
    if not bool(torch.isfinite(fitted).all()):
        raise WeightsError(f"Tensor '{name}' of the checkpoint is not finite.")
    return fitted.to(own.dtype).contiguous()
