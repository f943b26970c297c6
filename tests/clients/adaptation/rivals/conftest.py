"""Frames with a bright line, a tiny SAM and short settings for the rivals."""

from collections.abc import Callable

import pytest
import torch

from clients.data.frames import FrameSet
from models.registry import build_model
from models.sam import Sam
from strategies.adaptation_settings import AdaptationSettings
from strategies.settings import RunSettings, SettingValue

SIZE = 32  # px


@pytest.fixture(scope="session")
def tiny_sam() -> Sam:
    """Never changed: every rival works on copies."""
    sam = build_model("sam-tiny", image_size=SIZE, seed=0)
    assert isinstance(sam, Sam)
    return sam.eval()


@pytest.fixture
def line_frames() -> Callable[..., FrameSet]:
    """Return a builder of noisy frames, each with a catheter and a guidewire."""

    def build(count: int, seed: int = 0) -> FrameSet:
        generator = torch.Generator().manual_seed(seed)
        images = 0.3 * torch.rand(count, 1, SIZE, SIZE, generator=generator)
        masks = torch.zeros(count, 2, SIZE, SIZE, dtype=torch.uint8)
        for frame in range(count):
            row = 4 + 3 * frame % 20
            masks[frame, 0, row : row + 3, 4:28] = 1
            masks[frame, 1, 4:28, row] = 1
        images = torch.where(masks.amax(dim=1, keepdim=True) > 0, 0.9, images)
        return FrameSet(
            images=images,
            masks=masks,
            annotated=torch.ones(count, 2, dtype=torch.bool),
            sequences=torch.arange(count),
        )

    return build


@pytest.fixture
def adapt_settings(
    run_config: dict[str, SettingValue],
) -> Callable[..., AdaptationSettings]:
    """Return a builder of settings: two epochs, batches of two, no ramp."""

    def build(**changes: SettingValue) -> AdaptationSettings:
        short = {"epochs": 2, "warmup-epochs": 1, "batch-size": 2, "ramp-steps": 0}
        given = {key.replace("_", "-"): value for key, value in changes.items()}
        own = {f"adapt.{key}": value for key, value in {**short, **given}.items()}
        return RunSettings.from_run_config({**run_config, **own}).adapt

    return build
