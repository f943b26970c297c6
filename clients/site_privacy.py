"""Clips what a training changed and adds noise to it, before it leaves the site.

The change is all that a reply tells beyond what the centre sent: trained minus received
weights, all floating-point tensors together as one vector. Its L2 norm is clipped to C
(McMahan et al., "Learning Differentially Private Recurrent Language Models", ICLR
2018), then Gaussian noise of standard deviation z C is added to every number.

No (epsilon, delta) is claimed. The norm of a whole site's change is bounded, not that
of one patient; rounds add up; losses and scores leave as they are; floating-point noise
is not the noise of the proofs (Mironov, CCS 2012). What is promised is the bound and
the noise.

Flower's helpers for the same (`flwr.supercore.differential_privacy`) draw their noise
from NumPy's global generator, which a run seeds: who knows the seed could take the
noise off again. The centre chooses the run's seed, so noise here never depends on it.
"""

import secrets
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from clients.data.errors import DataError
from clients.site_file import Privacy
from models.weights import VARIANCE

SEED_BITS = 128


def guard_change(
    trained: Mapping[str, Tensor], received: Mapping[str, Tensor], privacy: Privacy
) -> dict[str, Tensor]:
    """Return trained weights of which the change is clipped and noisy.

    Args:
        trained: Weights after training, by name.
        received: Weights before it, with the same names and shapes.
        privacy: Of the site; with `clip_norm` = 0 the weights stay as they are.

    Returns:
        Weights that may leave, on the CPU where they were changed. Whole numbers, such
        as counters of batches, stay as they are.

    Raises:
        DataError: If the change is no finite number.
    """
    if privacy.clip_norm <= 0:
        return dict(trained)
    changes = {
        name: tensor.detach().cpu() - received[name].cpu()
        for name, tensor in trained.items()
        if tensor.is_floating_point()
    }
    norm = float(get_total_norm(list(changes.values())))
    if not np.isfinite(norm):
        raise DataError(
            "What the training changed is no finite number, so it cannot be clipped; "
            "nothing leaves. Lower train.learning-rate."
        )
    scale = min(1.0, privacy.clip_norm / norm) if norm > 0 else 1.0
    std = privacy.noise_multiplier * privacy.clip_norm
    if scale == 1.0 and std == 0:
        return dict(trained)
    generator = np.random.Generator(np.random.PCG64DXSM(secrets.randbits(SEED_BITS)))
    guarded = dict(trained)
    for name, change in changes.items():
        change *= scale
        if std > 0:
            noise = generator.standard_normal(tuple(change.shape), dtype=np.float32)
            change += std * torch.from_numpy(np.asarray(noise)).to(change.dtype)
        weight = received[name].cpu() + change
        guarded[name] = weight.clamp(min=0) if name.endswith(VARIANCE) else weight
    return guarded
