"""Where the frames of a hospital come from: a simulated domain or a folder.

Each source says of which data type its frames are, and how they are loaded. What is
written in a sites file is read in `clients.sites`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from clients.annotations.annotation import LabelMap
from clients.data.catalogue import FolderSpec
from clients.data.errors import DataError
from clients.data.folders import load_folder
from clients.data.frames import Frames, FrameSet
from clients.data.identity import SiteKey, patient_token
from clients.data.simulator import simulate_frames
from clients.data.splits import take_part
from clients.fluoroscopy.domains import DOMAINS
from clients.fluoroscopy.random_domain import random_domain
from models.classes import CLASS_NAMES
from strategies.data_settings import DataSettings


@dataclass(frozen=True)
class SimulatedSource:
    """Frames that the simulator makes."""

    domain: str  # a name that `clients.data.simulator.is_domain` accepts
    patients: int = 12  # one sequence each
    frames_per_patient: int = 4
    classes: tuple[str, ...] = CLASS_NAMES  # what its masks show; () = unlabelled

    @property
    def data_type(self) -> str:
        """Return the type of data: the domain."""
        return self.domain


@dataclass(frozen=True)
class FolderSource:
    """Frames of a folder, or of some of its patients."""

    folder: Path = field(repr=False)
    data_type: str = "real"
    layout: str = "auto"
    classes: tuple[str, ...] = CLASS_NAMES  # what its masks show; () = unlabelled
    labels: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # -> class
    ignored_labels: tuple[str, ...] = field(default=(), repr=False)
    line_width: float = LabelMap.line_width
    line_unit: Literal["px", "mm"] = LabelMap.line_unit
    skip_damaged: bool = False
    device_polarity: str = "unknown"  # dark | bright | unknown
    part: tuple[int, int] = (1, 1)  # (2, 5) = the second of five parts of the patients

    def folder_spec(self, min_patients: int) -> FolderSpec:
        """Return what the readers of folders want to know.

        Args:
            min_patients: How many patients the whole folder must have.

        Returns:
            The folder with all that the site declares of it.
        """
        labels = LabelMap()  # of an unlabelled folder nobody asks it
        if self.classes:
            labels = LabelMap(
                classes=self.classes,
                aliases={label.strip().casefold(): name for label, name in self.labels},
                ignored=frozenset(
                    label.strip().casefold() for label in self.ignored_labels
                ),
                line_width=self.line_width,
                line_unit=self.line_unit,
            )
        return FolderSpec(
            folder=self.folder,
            layout=self.layout,
            labels=labels,
            min_patients=min_patients,
            skip_damaged=self.skip_damaged,
            device_polarity=self.device_polarity,
            unlabelled=not self.classes,
        )


SourceSpec = SimulatedSource | FolderSource
"""Either kind of source; all have `data_type` and `classes`."""


def load_simulated(
    source: SimulatedSource, *, settings: DataSettings, seed: int, number: int = 0
) -> FrameSet:
    """Simulate the frames of a source.

    Args:
        source: The source.
        settings: Of them `frame_size` (in px, so no longer 0) and `polarity` matter:
            "dark" inverts domains with bright devices where the frame is valid.
        seed: Of the frames.
        number: How many sources with the same domain the hospital has before this
            one: their patients are others, though of the same seed.

    Returns:
        The frames; patients that are added later change no token of the first ones.
        Classes that the source does not declare are marked as not annotated, and their
        masks are empty: all, if it is unlabelled, whose truth nobody sees then.

    Raises:
        DataError: If the domain or a number is wrong.
    """
    frames = simulate_frames(
        source.domain,
        patients=source.patients,
        frames_per_patient=source.frames_per_patient,
        image_size=settings.frame_size,
        seed=seed,
    )
    tokens = torch.tensor(
        [
            patient_token(f"simulated {source.domain} {number} {sequence}")
            for sequence in range(source.patients)
        ]
    )
    seen = torch.tensor([name in source.classes for name in CLASS_NAMES])
    images = frames.images
    if settings.polarity == "dark" and _has_bright_devices(source.domain):
        images = torch.where(frames.valid, 1 - images, images)
    return replace(
        frames,
        images=images,
        masks=frames.masks * seen[:, None, None],
        annotated=frames.annotated & seen,
        patients=tokens[frames.sequences],
    )


def load_folder_source(
    source: FolderSource,
    *,
    settings: DataSettings,
    key: SiteKey,
    min_patients: int,
    cache: Path | None = None,
) -> Frames:
    """Load the frames of a folder, or of the part of its patients that is asked for.

    Args:
        source: The source.
        settings: How frames are prepared.
        key: Of the site, for pseudonyms.
        min_patients: How many patients the folder must have; asked of the whole
            folder, so give 1 for a part.
        cache: Folder for prepared frames; None = the default one. Sources that take
            parts of one folder share what is in it.

    Returns:
        The frames on disk.

    Raises:
        DataError: If the folder cannot be used, or no patient falls into the part.
    """
    frames = load_folder(
        source.folder_spec(min_patients), settings=settings, key=key, cache=cache
    )
    return take_part(frames, *source.part)


def devices_are_dark(source: SourceSpec, settings: DataSettings) -> bool | None:
    """Tell how the devices of prepared frames look, as far as the site has said.

    Args:
        source: The source.
        settings: How frames are prepared.

    Returns:
        Whether they are darker than what is around them; None = nobody has said.
    """
    declared = source.device_polarity if isinstance(source, FolderSource) else "unknown"
    if declared == "unknown":
        return None
    return declared == "dark" or settings.polarity == "dark"


def into_memory(frames: Frames) -> FrameSet:
    """Return all frames as tensors; those that are on disk are read."""
    if isinstance(frames, FrameSet):
        return frames
    if len(frames) == 0:
        raise DataError("At least one frame is needed, got none.")
    return frames.subset(torch.arange(len(frames)))


def number_of_sequences(parts: Sequence[Frames], numbers: Sequence[int]) -> Tensor:
    """Tell of every sequence from which part it comes.

    Args:
        parts: What `join_frames` puts together, or a single one.
        numbers: One of each part.

    Returns:
        int64 (sequences,): the part's number by that of a sequence after joining.
    """
    if len(parts) == 1:  # whose sequences keep their numbers
        return torch.full((int(parts[0].sequences.max()) + 1,), numbers[0])
    # Joining numbers sequences anew, source after source.
    counts = torch.tensor([len(part.sequences.unique()) for part in parts])
    return torch.tensor(list(numbers)).repeat_interleave(counts)


def _has_bright_devices(domain: str) -> bool:
    known = DOMAINS.get(domain)
    if known is None:
        known = random_domain(int(domain.removeprefix("random-")))
    return (
        known.display.bright_devices > 0.5
    )  # a chance that every domain has as 0 or 1
