"""Labelled frames of three hospitals, as they may lie in a hospital's folder."""

from pathlib import Path

import cv2
import numpy as np

from clients.data.simulator import simulate_sequence
from models.classes import CLASS_NAMES

SIZE = 64  # px
PATIENTS, FRAMES = 5, 2
SEED = 7


def write_frames(folder: Path, domain: str) -> Path:
    """Write simulated frames and their masks as PNG files.

    Args:
        folder: To make; patients get subfolders of `images` and `masks`.
        domain: Of the simulator, such as "human".

    Returns:
        The folder.
    """
    bits = 2 ** np.arange(len(CLASS_NAMES), dtype=np.uint8)[:, None, None]
    for patient in range(PATIENTS):
        film = simulate_sequence(
            domain, patient=patient, frames=FRAMES, image_size=SIZE, seed=SEED
        )
        for number in range(FRAMES):
            grey = (255 * film.images[number]).round().astype(np.uint8)
            # 1 = catheter, 2 = guidewire, 3 = both.
            mask = (film.masks[number] * bits).sum(axis=0).astype(np.uint8)
            for kind, pixels in (("images", grey), ("masks", mask)):
                name = folder / kind / f"patient{patient}" / f"frame_{number:02}.png"
                name.parent.mkdir(parents=True, exist_ok=True)
                name.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return folder
