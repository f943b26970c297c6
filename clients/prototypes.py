"""A few feature tokens that stand for the frames of a site.

Prototypes leave the site: this is a privacy cost, which `fedefm.prototypes` must
allow. Each is a mean over tokens of the site's training frames through the accumulated
model, so nobody's frame is sent, but a mean of few tokens comes close to one: it may
show what kind of image a site holds and, to someone with the model, roughly how a patch
of it looks. What bounds this is that every mean covers at least `least` tokens; that
they come from several patients is not promised. No noise is added.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from clients.data.batches import training_batches
from clients.data.frames import Frames
from clients.optimisation import TrainingError
from models.network import SegmentationNetwork
from models.taps import forward_with_tap
from strategies.data_settings import DataSettings
from strategies.transport import pool_to_nodes

LEAST = 8
"""Tokens behind one prototype."""

MAX_FRAMES = 512
"""Frames that are looked at; more would cost memory and hardly move a mean."""


def find_prototypes(
    model: SegmentationNetwork,
    frames: Frames,
    *,
    count: int,
    tap: str,
    grid_size: int,
    settings: DataSettings,
    batch_size: int,
    device: torch.device,
    seed: int,
    least: int = LEAST,
) -> Tensor:
    """Cluster the tokens of a site's training frames by k-means.

    Args:
        model: The accumulated model, the same at every site; ends on the device in
            evaluation mode.
        frames: The site's training frames; those larger than the network are cut.
        count: Most prototypes to return, >= 1.
        tap: Where tokens are taken, see `models/taps.py`.
        grid_size: Tokens along each side of a frame, after pooling.
        settings: How frames are normalised; they are not augmented.
        batch_size: Frames per pass.
        device: Where to compute.
        seed: Of the choice of frames, of patches and of the clusters, >= 0.
        least: Smallest number of tokens that a mean may cover, >= 1.

    Returns:
        Means (k, dim), float32 on the CPU, k <= count. Fewer when clusters would be
        smaller than `least` (those are dropped) or tokens do not differ; none at all
        for a site with fewer than `least` tokens. The same arguments give the same
        bits on one machine.

    Raises:
        ValueError: If `count` or `least` is below 1, or the tap or the grid does not
            fit the network.
        TrainingError: If a token is not finite.
    """
    if count < 1 or least < 1:
        raise ValueError(
            f"Prototypes need count and least of at least 1, got {count} and {least}."
        )
    plain = replace(settings, augmentation="none")
    size = min(batch_size, len(frames))
    batches = training_batches(
        frames,
        batch_size=size,
        network_size=model.image_size,
        settings=plain,
        seed=seed,
        device=device,
    )
    # Batches go on for ever; every frame comes once before any comes again.
    wanted = min(len(frames), MAX_FRAMES)
    model.to(device).eval()
    with torch.no_grad():
        tokens = [
            pool_to_nodes(
                forward_with_tap(model, next(batches).images, tap).features, grid_size
            )
            for _ in range(math.ceil(wanted / size))
        ]
    together = torch.cat(tokens)[:wanted].flatten(0, 1)
    return _cluster(together.cpu().double(), count, least=least, seed=seed)


def _cluster(tokens: Tensor, count: int, *, least: int, seed: int) -> Tensor:
    """Return the means of large enough clusters of tokens (tokens, dim), float64."""
    if not bool(torch.isfinite(tokens).all()):
        raise TrainingError(
            "Tokens of training frames are not finite: the accumulated model has "
            "diverged. Lower train.learning-rate"
        )
    # Fewer clusters than that: then at least one of them is large enough.
    count = min(count, len(tokens) // least, len(torch.unique(tokens, dim=0)))
    if count == 0:
        return torch.zeros(0, tokens.shape[1])
    # Here, because importing them takes seconds and few runs need prototypes.
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    # One thread: several add up in whatever order they finish.
    with threadpool_limits(1):
        labels = KMeans(count, n_init=4, random_state=seed % 2**32).fit_predict(
            tokens.numpy()
        )
    sizes = np.bincount(labels, minlength=count)
    groups = torch.from_numpy(labels)
    means = [tokens[groups == k].mean(0) for k in range(count) if sizes[k] >= least]
    return torch.stack(means).float()
