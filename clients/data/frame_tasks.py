"""Preparing the frames of a catalogue that are used, one by one, in any thread."""

import logging
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from clients.annotations.annotation import Annotation
from clients.data.catalogue import Catalogue, FolderSpec
from clients.data.errors import DataError
from clients.data.preprocessing import prepare_frame
from clients.data.store import PreparedFrame
from clients.images.opening import open_source
from clients.images.source import ImageSource
from models.classes import CLASS_NAMES
from strategies.data_settings import DataSettings

_log = logging.getLogger(__name__)


class OpenFile(threading.local):
    """The file that a thread read last: its next frame is most likely in it, too."""

    def __init__(self) -> None:
        """Open nothing yet; every thread comes by here."""
        self._path: Path | None = None
        self._source: ImageSource | None = None

    def source(self, path: Path) -> ImageSource:
        """Return the file, opened now or by the frame before.

        Args:
            path: Of the file.

        Returns:
            Its frames, for this thread alone.

        Raises:
            DataError: If it cannot be read.
        """
        if self._source is None or path != self._path:
            self._source = None  # let go of the last file before the next one
            self._source, self._path = open_source(path), path
        return self._source


@dataclass(frozen=True)
class FrameTask:
    """Prepares one frame when called.

    Attributes:
        spec: Of the folder.
        settings: How frames are prepared.
        opened: Shared by the tasks of a folder.
        path: Of the frame's file.
        index: Of the frame within the file.
        annotation: Of the frame; None in an unlabelled folder.
        spacing_mm: Of a pixel, or None.
        where: What messages call the frame.
        sequence: Number of its sequence, from 0.
        patient: Token of its patient.
    """

    spec: FolderSpec
    settings: DataSettings
    opened: OpenFile = field(repr=False)
    path: Path = field(repr=False)
    index: int
    annotation: Annotation | None = field(repr=False)
    spacing_mm: float | None
    where: str
    sequence: int
    patient: int = field(repr=False)

    def __call__(self) -> PreparedFrame | None:
        """Decode and prepare the frame.

        Returns:
            The frame, or None if it is damaged and the site leaves such out.

        Raises:
            DataError: If it is damaged and the site does not.
        """
        try:
            return self._prepare()
        except DataError as error:
            reason = str(error)
        except OSError:
            reason = "the file cannot be opened any more"
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - its text may quote the file
            reason = f"an unexpected {type(error).__name__}; please report it"
        if not self.spec.skip_damaged:
            raise DataError(f"{self.where}: {reason}")
        _log.warning("%s is left out: %s", self.where, reason)
        return None

    def _prepare(self) -> PreparedFrame:
        pixels = self.opened.source(self.path).read_frame(self.index)
        invert = is_inverted(self.spec, self.settings)
        prepared = prepare_frame(pixels, self.settings, invert=invert)
        drawn = self.annotation
        layers = drawn.layers(*pixels.shape, self.spacing_mm) if drawn else {}
        side = self.settings.frame_size
        masks = np.zeros((len(CLASS_NAMES), side, side), np.uint8)
        for name, layer in layers.items():
            masks[CLASS_NAMES.index(name)] = prepared.placement.mask(layer)
        return PreparedFrame(
            image=prepared.image,
            masks=masks,
            annotated=np.array([name in layers for name in CLASS_NAMES]),
            valid=prepared.valid,
            sequence=self.sequence,
            patient=self.patient,
        )


def is_inverted(spec: FolderSpec, settings: DataSettings) -> bool:
    """Tell whether dark and bright are exchanged.

    Args:
        spec: What the site declares of its devices.
        settings: What the run wants.

    Returns:
        True if the run wants dark devices and the site's are bright.
    """
    return settings.polarity == "dark" and spec.device_polarity == "bright"


def plan_tasks(catalogue: Catalogue, settings: DataSettings) -> list[FrameTask]:
    """Return a task for every annotated frame; for every frame if none shall be.

    Args:
        catalogue: Of a folder.
        settings: How frames are prepared.

    Returns:
        Tasks in the order of patients, sequences and frames; sequences are numbered
        in that order, which is the same on every machine.
    """
    used = [
        sequence
        for sequence in catalogue.sequences
        if any(catalogue.spec.uses(frame) for frame in sequence.frames)
    ]
    # Not by pseudonym: that would give every site key a numbering of its own.
    folder = catalogue.spec.folder
    used.sort(
        key=lambda one: (
            one.patient_token,
            os.fsencode(one.frames[0].path.relative_to(folder)),
        )
    )
    opened = OpenFile()
    return [
        FrameTask(
            spec=catalogue.spec,
            settings=settings,
            opened=opened,
            path=frame.path,
            index=frame.index,
            annotation=frame.annotation,
            spacing_mm=sequence.facts.spacing_mm,
            where=f"Sequence {sequence.id}, frame {frame.number}",
            sequence=number,
            patient=sequence.patient_token,
        )
        for number, sequence in enumerate(used)
        for frame in sequence.frames
        if catalogue.spec.uses(frame)
    ]
