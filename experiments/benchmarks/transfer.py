r"""Does what is learned from simulated frames hold on real ones?

    python -m experiments.benchmarks.transfer \
        --real phantom=/data/phantom_xa@256 --real chest=/data/picc_cxr@1024

A small U-Net learns from simulated hospitals only. The step is chosen on simulated
domains that training does not have; real frames are looked at once, at the end. Real
masks are scored as one class "device", by what they can bear: a mask drawn much wider
than its device has a right centre line and nothing else.
"""

import argparse
import dataclasses
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from clients.annotations.annotation import LabelMap
from clients.data.batches import evaluation_batches, predict
from clients.data.catalogue import FolderSpec
from clients.data.folders import load_folder
from clients.data.frames import Frames, FrameSet, join_frames
from clients.data.identity import SiteKey
from clients.data.simulator import simulate_frames
from clients.evaluation import evaluate
from clients.optimisation import TrainPlan
from clients.training import train_on_labels
from experiments.benchmarks import RESULTS
from models.centreline import centreline_scores
from models.classes import CLASS_NAMES
from models.overlap import cldice, dice
from strategies.data_settings import DataSettings
from strategies.train_settings import TrainSettings

NETWORK_SIZE = 256
FEATURES = (16, 16, 32, 64, 128, 16)  # of MONAI's BasicUNet: 0.5 million parameters
BATCH_SIZE = 4
NAMED_DOMAINS = ("human", "animal", "phantom", "simulation")
RANDOM_DOMAINS = 36  # random-0 ... train
VALIDATION_DOMAINS = tuple(f"random-{1000 + k}" for k in range(6))
TOLERANCE_SHARE = 1 / 100  # of the frame's side
OUTPUT = RESULTS / "transfer.json"


@dataclass(frozen=True)
class RealSet:
    """A folder of real frames and the size at which a network sees them."""

    name: str
    folder: Path
    size: int  # px


@dataclass(frozen=True)
class ImageScores:
    """One real frame, all classes together; every score from 0 to 1."""

    sequence: int
    dice: float
    cldice: float
    precision: float  # of the centre line, within the tolerance
    recall: float


class SmallUNet(nn.Module):
    """MONAI's BasicUNet at a tenth of its width, one logit per class."""

    def __init__(self, image_size: int) -> None:
        """Build it with random weights."""
        super().__init__()
        # Importing monai takes seconds that `--help` need not wait for.
        from monai.networks.nets import BasicUNet

        self.image_size = image_size
        self.network = BasicUNet(
            spatial_dims=2,
            in_channels=1,
            out_channels=len(CLASS_NAMES),
            features=FEATURES,
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map (batch, 1, height, width) to logits (batch, classes, height, width)."""
        return self.network(images)


def data_settings(frame_size: int) -> DataSettings:
    """Return how frames of this study are prepared, simulated and real ones alike."""
    return DataSettings(
        frame_size=frame_size,
        crop="none",
        clip_percentile=0.5,
        polarity="keep",
        normalise="z-score",
        augmentation="weak",
    )


def simulated_frames(
    domains: Sequence[str], *, patients: int, frames: int, seed: int
) -> FrameSet:
    """Simulate patients of several domains.

    Args:
        domains: Names that the simulator knows.
        patients: Of each domain.
        frames: Of each patient.
        seed: Of the frames, >= 0.

    Returns:
        All frames at the network's size.
    """
    parts = [
        simulate_frames(
            domain,
            patients=patients,
            frames_per_patient=frames,
            image_size=NETWORK_SIZE,
            seed=seed,
        )
        for domain in track(domains, "simulating", console=Console(stderr=True))
    ]
    return join_frames(parts)


def train(steps: int, seed: int) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train on simulated frames and keep the weights that validate best.

    Args:
        steps: Optimiser steps, in ten phases with a look at validation after each.
        seed: Of weights, frames and batches.

    Returns:
        The network and what validation said after every phase.
    """
    torch.manual_seed(seed)
    network = SmallUNet(NETWORK_SIZE)
    training = join_frames(
        [
            simulated_frames(NAMED_DOMAINS, patients=40, frames=2, seed=seed),
            simulated_frames(
                [f"random-{k}" for k in range(RANDOM_DOMAINS)],
                patients=10,
                frames=2,
                seed=seed,
            ),
        ]
    )
    held_out = simulated_frames(VALIDATION_DOMAINS, patients=4, frames=1, seed=seed)
    history: list[dict[str, float]] = []
    best: dict[str, Tensor] = {}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for phase, plan in enumerate(_plans(steps, seed)):
        report = train_on_labels(network, training, plan, device)
        found = evaluate(
            network,
            held_out,
            settings=plan.data,
            batch_size=8,
            device=device,
            measures="overlap",
        )
        scores = found.counts.scores()
        entry = {"step": (phase + 1) * plan.steps, "loss": np.mean(report.losses)}
        history.append({**entry, "dice": scores["dice"], "cldice": scores["cldice"]})
        if scores["dice"] >= max(one["dice"] for one in history):
            best = {name: t.clone() for name, t in network.state_dict().items()}
        Console(stderr=True).print(history[-1])
    network.load_state_dict(best)
    return network, history


@torch.no_grad()
def score_images(network: nn.Module, frames: Frames, size: int) -> list[ImageScores]:
    """Score every real frame by itself.

    Args:
        network: On any device; stays in evaluation mode.
        frames: At the size of the study.
        size: That size, px.

    Returns:
        One entry a frame, in order.
    """
    network.eval()
    device = next(network.parameters()).device
    tolerance = TOLERANCE_SHARE * size
    scores: list[ImageScores] = []
    batches = evaluation_batches(
        frames, batch_size=4, settings=data_settings(size), device=device
    )
    for batch in batches:
        logits = predict(network, batch.images, NETWORK_SIZE)
        for one, label in zip(logits, batch.masks, strict=True):
            predicted = (one > 0).any(0).cpu().numpy()
            wanted = (label > 0).any(0).cpu().numpy()
            near = centreline_scores(predicted, wanted, tolerance_px=tolerance)
            scores.append(
                ImageScores(
                    sequence=int(frames.sequences[len(scores)]),
                    dice=dice(predicted, wanted),
                    cldice=cldice(predicted, wanted),
                    precision=near.precision,
                    recall=near.recall,
                )
            )
    return scores


def _plans(steps: int, seed: int) -> Iterator[TrainPlan]:
    settings = TrainSettings(
        steps=max(1, steps // 10),
        batch_size=BATCH_SIZE,
        learning_rate=2e-3,
        weight_decay=0.01,
        warmup_steps=5,
        schedule="cosine",
        cldice_weight=0.0,
    )
    for phase in range(10):
        yield TrainPlan(
            steps=settings.steps,
            learning_rate=settings.learning_rate_in(phase, 10),
            settings=settings,
            data=data_settings(NETWORK_SIZE),
            seed=1000 * seed + phase,
            deadline_s=24 * 3600,
        )


def _table(found: dict[str, list[ImageScores]]) -> Table:
    table = Table(title="trained on simulated frames only, tested on real ones")
    for heading in ("set", "sequence", "frames", "Dice", "clDice"):
        table.add_column(heading)
    table.add_column("centre line: precision")
    table.add_column("recall")
    for name, scores in found.items():
        for sequence in sorted({one.sequence for one in scores}):
            part = [one for one in scores if one.sequence == sequence]
            table.add_row(name, str(sequence + 1), str(len(part)), *_means(part))
        table.add_row(name, "all", str(len(scores)), *_means(scores), style="bold")
    return table


def _means(scores: list[ImageScores]) -> Iterator[str]:
    for field in ("dice", "cldice", "precision", "recall"):
        yield f"{np.mean([getattr(one, field) for one in scores]):.3f}"


def _parse_real(text: str) -> RealSet:
    name, equals, rest = text.partition("=")
    folder, at, size = rest.rpartition("@")
    if not (equals and at and name and folder and size.isdigit()):
        raise argparse.ArgumentTypeError("wanted NAME=FOLDER@SIZE")
    return RealSet(name, Path(folder), int(size))


def main() -> None:
    """Train, test, print and write the numbers."""
    parser = argparse.ArgumentParser(description="Transfer from simulation to real.")
    parser.add_argument("--real", type=_parse_real, action="append", required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    network, history = train(arguments.steps, arguments.seed)
    found = {}
    for real in arguments.real:
        spec = FolderSpec(
            folder=real.folder, layout="pairs", labels=LabelMap(classes=("catheter",))
        )
        frames = load_folder(
            spec, settings=data_settings(real.size), key=SiteKey.load_or_create()
        )
        found[real.name] = score_images(network, frames, real.size)
    Console(width=110).print(_table(found))
    content = {
        "steps": arguments.steps,
        "seed": arguments.seed,
        "sizes": {real.name: real.size for real in arguments.real},
        "tolerance-share-of-side": TOLERANCE_SHARE,
        "validation": history,
        "images": {
            name: [dataclasses.asdict(one) for one in scores]
            for name, scores in found.items()
        },
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(content, indent=1, default=float) + "\n")


if __name__ == "__main__":
    main()
