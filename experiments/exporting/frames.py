"""Frames to calibrate quantisation with and frames to measure its loss on.

Never test frames, and never one patient in both: with a folder, its training part
calibrates and its validation part measures; without, both are simulated patients that
no federation draws.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from clients.data.catalogue import FolderSpec
from clients.data.folders import load_folder
from clients.data.frames import Frames
from clients.data.identity import SiteKey
from clients.data.simulator import is_domain, simulate_frames
from clients.data.splits import split_by_patient
from experiments.model_source import ModelSource

DOMAIN = "phantom"  # of models whose card names no simulated one
SEED = 20260702  # of the simulated patients
CALIBRATION = 24  # frames at most
VALIDATION = 48  # frames at most
PATIENTS = (6, 12)  # simulated ones that calibrate and that validate
FRAMES_PER_PATIENT = 4


@dataclass(frozen=True)
class ExportFrames:
    """Two sets without a patient in common, and where they are from."""

    calibration: Frames
    validation: Frames
    origin: str  # for `export.json`, without names or paths


def simulated_frames(source: ModelSource) -> ExportFrames:
    """Simulate both sets.

    Args:
        source: The model; its card names domains.

    Returns:
        Frames as large as the model's prepared frames.
    """
    named = [name for name in source.card.get("domains", ()) if is_domain(name)]
    domain = named[0] if named else DOMAIN
    calibrating, validating = PATIENTS
    frames = simulate_frames(
        domain,
        patients=calibrating + validating,
        frames_per_patient=FRAMES_PER_PATIENT,
        image_size=source.data.frame_size,
        seed=SEED,
    )
    return ExportFrames(
        calibration=frames.subset(frames.patients < calibrating),
        validation=frames.subset(frames.patients >= calibrating),
        origin=f"simulated, domain {domain}, seed {SEED}",
    )


def folder_frames(
    source: ModelSource, spec: FolderSpec, key: Path | None = None
) -> ExportFrames:
    """Read both sets from a site's folder.

    Args:
        source: The model; decides how frames are prepared and the split's seed.
        spec: The folder and what its site declares.
        key: Key file of the site, None = its own.

    Returns:
        At most `CALIBRATION` and `VALIDATION` frames, evenly out of the training and
        the validation part that a federation with the model's seed would make.

    Raises:
        DataError: If the folder has errors or fewer than three patients.
    """
    frames = load_folder(spec, settings=source.data, key=SiteKey.load_or_create(key))
    split = split_by_patient(frames, seed=source.recipe.seed)
    return ExportFrames(
        calibration=_evenly(split.train, CALIBRATION),
        validation=_evenly(split.validation, VALIDATION),
        origin=f"folder: training and validation part of seed {source.recipe.seed}",
    )


def _evenly(frames: Frames, most: int) -> Frames:
    """Take frames from everywhere: neighbours are near-duplicates."""
    count = min(most, len(frames))
    return frames.view(torch.linspace(0, len(frames) - 1, count).round().long())
