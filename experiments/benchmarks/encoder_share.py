"""What is a SAM's image encoder worth to it?

    python -m experiments.benchmarks.encoder_share MODEL

The network segments simulated frames of four domains three times: as it is, with its
encoder's features set to zero, and with those of another frame. Where the Dice stays,
the decoder works without the encoder, and a score that compares the encoder's features
(the EMD, with the default `fedefm.tap`) compares what does not matter.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from clients.data.frames import Frames, join_frames
from clients.data.simulator import simulate_frames
from clients.evaluation import evaluate
from experiments.benchmarks.learning import DOMAINS
from experiments.model_source import ModelSource, open_model
from models.sam import Sam
from strategies.settings import SettingsError

SEED = 77  # of frames that no model here was trained on
PATIENTS, FRAMES_PER_PATIENT = 4, 4  # of each domain


def next_frames(features: Tensor) -> Tensor:
    """Give every frame of a batch the features of the one before it."""
    return features.roll(1, 0)


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda features: features,
    "zero": torch.zeros_like,
    "of another frame": next_frames,
}
"""What is done to the encoder's features, by name."""


def encoder_share(
    source: ModelSource, frames: Frames, *, device: torch.device | None = None
) -> dict[str, float]:
    """Measure a SAM with and without what its encoder sees.

    Args:
        source: A SAM and how its frames are prepared.
        frames: Labelled frames of its size, two or more.
        device: Where to compute; None = the CPU.

    Returns:
        Dice, 0 to 1, pooled over frames and classes, by the names of `CHANGES`.

    Raises:
        SettingsError: If the model is no SAM.
    """
    network = source.network
    if not isinstance(network, Sam):
        raise SettingsError(
            f"Only a SAM has such an encoder, got a {type(network).__name__}. Name a "
            "checkpoint of a sam-... network."
        )
    found = {}
    for name, change in CHANGES.items():
        with _changed(network, change):
            measured = evaluate(
                network,
                frames,
                settings=source.data,
                batch_size=16,
                device=device or torch.device("cpu"),
                measures="overlap",
            )
        found[name] = measured.counts.scores()["dice"]
    return found


@contextmanager
def _changed(network: Sam, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    handle = network.image_encoder.neck.register_forward_hook(
        lambda module, inputs, output: change(output)
    )
    try:
        yield
    finally:
        handle.remove()


def _main(path: str) -> None:
    source = open_model(path)
    parts = [
        simulate_frames(
            domain,
            patients=PATIENTS,
            frames_per_patient=FRAMES_PER_PATIENT,
            image_size=source.network.image_size,
            seed=SEED,
        )
        for domain in DOMAINS
    ]
    for name, dice in encoder_share(source, join_frames(parts)).items():
        sys.stdout.write(f"encoder's features {name}: Dice {dice:.4f}\n")


if __name__ == "__main__":
    _main(sys.argv[1])
