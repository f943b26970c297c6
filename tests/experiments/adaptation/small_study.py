"""A study as small as it gets: 32 px, a random SAM, everything is a pseudo-label."""

from pathlib import Path

import cv2
import numpy as np
import torch

from clients.data.simulator import simulate_frames
from experiments.adaptation.job import Job
from experiments.adaptation.plan import StudyPlan, plan_of
from experiments.adaptation.targets import Target
from models.registry import build_model

SIZE = 32
STUDY = {
    "model": "random",
    "name": "sam-tiny",
    "image-size": SIZE,
    "source-patients": 2,
    "source-frames-per-patient": 2,
    "target-patients": 3,
    "test-patients": 1,
    "target-frames-per-patient": 2,
}
ADAPT = {
    "source-frames": 4,
    "coarse-epochs": 1,
    "cleaning": "none",
    "threshold": 0.05,  # a network that has learned nothing finds devices everywhere
    "epochs": 2,
    "warmup-epochs": 1,
    "batch-size": 3,
    "ramp-steps": 1,
    "learning-rate": 1e-3,
}


def small_plan(variants: list[dict] | None = None, **study: object) -> StudyPlan:
    table = {"study": {**STUDY, **study}, "adapt": ADAPT, "variant": variants or []}
    return plan_of(table)


def small_target() -> Target:
    frames = simulate_frames(
        "neuro", patients=3, frames_per_patient=2, image_size=SIZE, seed=3
    )
    held_out = torch.arange(len(frames)) >= 4
    return Target(frames.subset(~held_out), frames.subset(held_out), {})


def small_job(target: Target, *, seed: int = 0) -> Job:
    return Job(
        start=build_model("sam-tiny", image_size=SIZE, seed=1),
        source=simulate_frames(
            "simulation", patients=2, frames_per_patient=2, image_size=SIZE, seed=1
        ),
        target=target,
        settings=small_plan().variants[0].settings,
        seed=seed,
        device=torch.device("cpu"),
    )


def write_folder(folder: Path, *, with_masks: bool = True, sequences: int = 4) -> Path:
    """Frames of two sizes, each sequence with two of them."""
    frames = simulate_frames(
        "neuro", patients=sequences, frames_per_patient=2, image_size=64, seed=7
    )
    for index in range(len(frames)):
        sequence = int(frames.sequences[index])
        name = f"SECRET{sequence}_{index % 2}.png"
        width = 48 if sequence % 2 else 56
        grey = (frames.images[index, 0].numpy() * 255).astype(np.uint8)[:, :width]
        mask = frames.masks[index].amax(dim=0).numpy()[:, :width] * np.uint8(255)
        _write(folder / "images" / name, grey)
        if with_masks:
            _write(folder / "masks" / name, mask)
    return folder


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
