"""Does a gate know whose frame it sees?

    python -m experiments.benchmarks.gate_accuracy MODEL [TAP ...]

Four simulated hospitals of one domain each show prototype tokens of their training
frames; new frames of the four domains come in mixed batches, as on proxies, and the
score names a hospital for each. Chance is 0.25. No label of a frame is used, so a
federation can choose `fedefm.score` and `fedefm.tap` by this on frames of its own.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from clients.data.batches import evaluation_batches
from clients.data.frames import Frames
from clients.data.simulator import simulate_frames
from clients.prototypes import find_prototypes
from experiments.benchmarks.learning import DOMAINS
from experiments.model_source import ModelSource, open_model
from experiments.run_config import default_run_config
from models.taps import forward_with_tap
from strategies.fedefm_settings import FedEFMSettings
from strategies.settings import RunSettings
from strategies.transport import pool_to_nodes
from strategies.weighing import common_scores, standardised_scores

SCORES = {"common": common_scores, "standardised": standardised_scores}
TAPS = ("", "image_encoder.blocks.0", "detail.stride_2", "detail.stride_4")
HOME_SEED, SHOWN_SEED = 5, 77
PATIENTS, FRAMES_PER_PATIENT = 12, 2  # of each domain
BATCH, PROTOTYPES = 4, 16
DRAWS = 8  # of the order in which frames share batches
CPU = torch.device("cpu")


def gate_accuracy(
    source: ModelSource,
    homes: Mapping[str, Frames],
    shown: Mapping[str, Frames],
    settings: FedEFMSettings,
    *,
    batch_size: int = BATCH,
    draws: int = DRAWS,
) -> float:
    """Measure how often the best score is that of the hospital of a frame's kind.

    Args:
        source: Through whose encoder all look, and how frames are prepared.
        homes: Training frames of every hospital, by name.
        shown: Frames of the same kinds, by the same names.
        settings: `score` "common" or "standardised", tap, grid and prototypes.
        batch_size: Frames that come together, of any kinds.
        draws: How often they are put together anew.

    Returns:
        Share of the frames, 0 to 1.

    Raises:
        ValueError: If the tap or the grid does not fit the network.
    """
    settings = replace(settings, weight_per="sample")
    known = {
        name: find_prototypes(
            source.network,
            frames,
            count=settings.prototypes,
            tap=settings.tap,
            grid_size=settings.grid_size,
            settings=source.data,
            batch_size=16,
            device=CPU,
            seed=0,
        )
        for name, frames in homes.items()
    }
    tokens = [_tokens(source, shown[name], settings) for name in homes]
    owner = torch.cat([torch.full((len(one),), k) for k, one in enumerate(tokens)])
    together = torch.cat(tokens)
    score_of, hits = SCORES[settings.score], []
    for draw in range(draws):
        order = torch.randperm(
            len(owner), generator=torch.Generator().manual_seed(draw)
        )
        for batch in order.split(batch_size):
            named = score_of(together[batch], known, settings).score.argmax(0)
            hits.append(named == owner[batch])
    return float(torch.cat(hits).double().mean())


@torch.no_grad()
def _tokens(source: ModelSource, frames: Frames, settings: FedEFMSettings) -> Tensor:
    network = source.network.eval()
    batches = evaluation_batches(
        frames, batch_size=16, settings=source.data, device=CPU
    )
    return torch.cat(
        [
            pool_to_nodes(
                forward_with_tap(network, batch.images, settings.tap).features,
                settings.grid_size,
            )
            for batch in batches
        ]
    )


def _main(path: str, *taps: str) -> None:
    source = open_model(path)
    homes, shown = (
        {
            domain: simulate_frames(
                domain,
                patients=PATIENTS,
                frames_per_patient=FRAMES_PER_PATIENT,
                image_size=source.network.image_size,
                seed=seed,
            )
            for domain in DOMAINS
        }
        for seed in (HOME_SEED, SHOWN_SEED)
    )
    fedefm = RunSettings.from_run_config(default_run_config()).fedefm
    for tap in taps or TAPS:
        for score in SCORES:
            settings = replace(fedefm, score=score, tap=tap, prototypes=PROTOTYPES)
            found = gate_accuracy(source, homes, shown, settings)
            sys.stdout.write(f"{tap or 'deepest':24} {score:12} {found:.2f}\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
