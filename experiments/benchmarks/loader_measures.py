"""What the loader benchmark measures, one number at a time."""

import gc
import itertools
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from clients.data.batches import Batch, training_batches
from clients.data.catalogue import FolderSpec
from clients.data.folders import load_folder
from clients.data.frames import Frames
from clients.data.identity import SiteKey
from clients.data.store import StoredFrames
from clients.optimisation import take_step
from models.losses import SegmentationLoss
from models.registry import build_model
from strategies.data_settings import DataSettings

_MIB = 2**20
_WARM_UP = 2  # steps that are not counted


@dataclass(frozen=True)
class Setup:
    """What is loaded, and how."""

    archive: Path
    cache: Path
    size: int  # px
    batch_size: int
    device: torch.device
    threads: int

    def load(self) -> StoredFrames:
        """Load the archive as a hospital does."""
        return load_folder(
            FolderSpec(self.archive),
            settings=self.settings("none"),
            key=SiteKey(bytes(32)),  # the frames are simulated: nothing to hide
            cache=self.cache,
        )

    def batches(self, frames: Frames, augmentation: str) -> Iterator[Batch]:
        """Draw random batches as training does."""
        return training_batches(
            frames,
            batch_size=self.batch_size,
            network_size=self.size,
            settings=self.settings(augmentation),
            seed=0,
            device=self.device,
        )

    def settings(self, augmentation: str) -> DataSettings:
        """Prepare frames as the defaults of a run do."""
        return DataSettings(
            frame_size=self.size,
            crop="none",
            clip_percentile=0.5,
            polarity="keep",
            normalise="unit",
            augmentation=augmentation,
        )


def seconds_to_first_batch(setup: Setup) -> float:
    """Measure from asking for the folder to the first batch on the device.

    Args:
        setup: Its cache may be empty or full.

    Returns:
        Seconds, without the import of any module.
    """
    gc.collect()
    began = time.perf_counter()
    next(setup.batches(setup.load(), "light"))
    _wait(setup.device)
    return time.perf_counter() - began


def loader_rate(
    setup: Setup, frames: Frames, augmentation: str, *, seconds: float
) -> float:
    """Measure how many frames come out of the loader.

    Args:
        setup: Batch size and device.
        frames: On disk or in memory.
        augmentation: Its name.
        seconds: How long to measure, at least.

    Returns:
        Frames per second.
    """
    batches = setup.batches(frames, augmentation)
    return _rate(lambda: len(next(batches)), setup.device, seconds)


def training_rate(
    setup: Setup, frames: Frames, model_name: str, *, seconds: float
) -> float:
    """Measure how many frames a network takes in training, the batch being there.

    A step as in `clients.training`: forward, loss, backward, clipping, AdamW.

    Args:
        setup: Size, batch size and device.
        frames: Where the one batch comes from that is used again and again.
        model_name: Of `models.registry`.
        seconds: How long to measure, at least.

    Returns:
        Frames per second.
    """
    batch = next(setup.batches(frames, "none"))
    model = build_model(model_name, image_size=setup.size, seed=0)
    model.to(setup.device).train()
    parameters = [one for one in model.parameters() if one.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    criterion = SegmentationLoss()

    def step() -> int:
        loss = criterion(model(batch.images), batch.masks, batch.annotated)
        take_step(optimiser, loss)
        return len(batch)

    return _rate(step, setup.device, seconds)


def memory_of_an_epoch(setup: Setup) -> dict[str, float]:
    """Load all frames and draw each once; to be called in a process of its own.

    Args:
        setup: Of the frames; its cache is full.

    Returns:
        MiB. What the process had before, what it had at most, and what the epoch
        added: memory of its own, and pages of the mapped files, which the operating
        system takes back whenever it needs them.
    """
    torch.set_num_threads(setup.threads)
    before = _resident()
    frames = setup.load()
    num_batches = -(-len(frames) // setup.batch_size)
    own = mapped = 0.0
    for _ in itertools.islice(setup.batches(frames, "light"), num_batches):
        now = _resident()
        own = max(own, now["own"] - before["own"])
        mapped = max(mapped, now["mapped"] - before["mapped"])
    return {
        "before": before["own"] + before["mapped"],
        "peak": _highest_resident(),
        "added-own": own,
        "added-mapped": mapped,
    }


def memory_of_tensors(num_frames: int, *, size: int, num_classes: int) -> float:
    """Calculate what the same frames take as a `FrameSet`.

    Args:
        num_frames: Of the set.
        size: px.
        num_classes: Of the masks.

    Returns:
        MiB: four bytes of image, one of each mask and one of `valid` a pixel; nothing
        for what making the set takes on top.
    """
    return num_frames * size * size * (4 + num_classes + 1) / _MIB


def _rate(step: Callable[[], int], device: torch.device, seconds: float) -> float:
    for _ in range(_WARM_UP):
        step()
    _wait(device)
    began, count = time.perf_counter(), 0
    while True:
        count += step()
        _wait(device)
        passed = time.perf_counter() - began
        if passed >= seconds:
            return count / passed


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _highest_resident() -> float:
    """Return the most that this process has ever had in memory, MiB; Linux only."""
    # Not getrusage: its maximum is that of the parent if the parent had more.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0]) / 1024


def _resident() -> dict[str, float]:
    """Return MiB of this process in memory: its own, and of mapped files."""
    found = psutil.Process().memory_info()
    shared = getattr(found, "shared", 0)  # Linux only
    return {"own": (found.rss - shared) / _MIB, "mapped": shared / _MIB}
