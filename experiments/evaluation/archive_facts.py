"""What archives say of the frames of a site: pseudonyms, numbers and the pixel size.

Prepared frames have another pixel size than the archive's: they are cut, padded to a
square and scaled (`clients.data.placement`). What is known of a pixel follows them.
"""

import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from clients.data.archive import read_archive
from clients.data.catalogue import Catalogue, FrameEntry, SequenceEntry
from clients.data.frame_tasks import FrameTask, is_inverted, plan_tasks
from clients.data.frames import Frames
from clients.data.identity import SiteKey
from clients.data.preprocessing import prepare_frame
from clients.data.scan import scan_folder
from clients.sites import SiteSpec
from clients.sources import FolderSource, load_folder_source
from strategies.data_settings import DataSettings


@dataclass(frozen=True)
class FrameFacts:
    """One entry a frame, in the order of the frames."""

    sequence: NDArray[np.object_]  # "S-…", or a number where nothing has a pseudonym
    patient: NDArray[np.object_]  # "P-…", or a number
    number: NDArray[np.int64]  # of the frame within its sequence, from 1
    spacing_mm: NDArray[np.float64]  # of a pixel of the prepared frame; NaN = unknown

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.number)

    def take(self, chosen: NDArray[np.bool_]) -> "FrameFacts":
        """Return the facts of some of the frames."""
        return FrameFacts(*(getattr(self, one.name)[chosen] for one in fields(self)))


@dataclass(frozen=True)
class SiteFacts:
    """What is known of a site's frames."""

    facts: FrameFacts
    patients_known: bool
    notes: tuple[str, ...]


def numbered_facts(frames: Frames) -> FrameFacts:
    """Return facts of frames of which nothing else is known.

    Args:
        frames: Of a site.

    Returns:
        Sequences and patients by number, from 1; no pixel size.
    """
    sequences = frames.sequences.numpy()
    _, patients = np.unique(frames.patients.numpy(), return_inverse=True)
    numbers = np.zeros(len(sequences), np.int64)
    for sequence in np.unique(sequences):
        mine = sequences == sequence
        numbers[mine] = np.arange(1, mine.sum() + 1)
    return FrameFacts(
        np.array([str(one + 1) for one in sequences], object),
        np.array([str(one + 1) for one in patients], object),
        numbers,
        np.full(len(sequences), np.nan),
    )


def facts_of_site(
    spec: SiteSpec, frames: Frames, settings: DataSettings, key: SiteKey | None = None
) -> SiteFacts:
    """Find out what the archives of a site say of its frames.

    Args:
        spec: The site.
        frames: All its frames, as `clients.sites.load_frames` gives them.
        settings: How they were prepared.
        key: Of the site; None = the key file of this machine.

    Returns:
        The facts; notes say where a pixel size comes from, or why there is none.

    Raises:
        DataError: If a folder cannot be read any more.
    """
    facts = numbered_facts(frames)
    sequences = frames.sequences.numpy()
    first, known, notes = 0, True, list[str]()
    for source in spec.sources:
        if isinstance(source, FolderSource):
            key = key or SiteKey.load_or_create()
            folder = _Folder.read(source, settings, key)
            part = load_folder_source(
                source, settings=settings, key=key, min_patients=1
            )
            own = part.sequences.unique().tolist()
            # `join_frames` numbers the sequences of several sources anew, in order.
            names = range(first, first + len(own)) if len(spec.sources) > 1 else own
            for number, name in zip(own, names, strict=True):
                folder.fill_in(facts, np.flatnonzero(sequences == name), number)
            known &= folder.patients_known
            notes += folder.notes
        else:
            own = list(range(source.patients))
            notes.append(f"no metric is in mm: {source.domain} is simulated.")
        first += len(own)
    return SiteFacts(facts, known, tuple(dict.fromkeys(notes)))


class _Folder:
    """The sequences of one folder by the numbers that its frames have."""

    def __init__(
        self, catalogue: Catalogue, settings: DataSettings, patients_known: bool
    ) -> None:
        self.patients_known = patients_known
        self.notes: list[str] = []
        self._spec, self._settings = catalogue.spec, settings
        self._entries: dict[tuple, tuple[SequenceEntry, FrameEntry]] = {
            (frame.path, frame.index): (entry, frame)
            for entry in catalogue.sequences
            for frame in entry.frames
        }
        self._tasks: dict[int, list[FrameTask]] = defaultdict(list)
        for task in plan_tasks(catalogue, settings):
            self._tasks[task.sequence].append(task)

    @classmethod
    def read(
        cls, source: FolderSource, settings: DataSettings, key: SiteKey
    ) -> "_Folder":
        spec = source.folder_spec(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote headers
            guessed = any(one.is_guessed for one in read_archive(spec).sources)
            return cls(scan_folder(spec, key), settings, not guessed)

    def fill_in(
        self, facts: FrameFacts, places: NDArray[np.int64], sequence: int
    ) -> None:
        """Write down what is known of the frames of one sequence."""
        tasks = self._tasks[sequence]
        entry, _ = self._entry(tasks[0])
        facts.sequence[places] = entry.id
        facts.patient[places] = entry.patient
        is_whole = len(tasks) == len(places)
        if is_whole:
            facts.number[places] = [self._entry(one)[1].number for one in tasks]
        else:
            self.notes.append(
                "damaged frames were left out; the others of their sequence are "
                "numbered without them."
            )
        spacing = entry.facts.spacing_mm
        if spacing is None:
            self.notes.append("no metric is in mm: files give no pixel size.")
        elif self._settings.crop == "none":
            side = max(entry.facts.height, entry.facts.width)
            facts.spacing_mm[places] = spacing * side / self._settings.frame_size
            self.notes.append(f"mm: {entry.facts.spacing_origin}.")
        elif is_whole:
            sides = np.array(list(self._sides(tasks)))
            facts.spacing_mm[places] = spacing * sides / self._settings.frame_size
            self.notes.append(f"mm: {entry.facts.spacing_origin}.")
        else:
            self.notes.append(
                "some metrics in mm are missing: where damaged frames were left out, "
                "the cut of each frame and so its scale is not known."
            )

    def _sides(self, tasks: list[FrameTask]) -> Iterator[int]:
        """Yield the side of what was cut out of each frame, px of the archive."""
        invert = is_inverted(self._spec, self._settings)
        for task in tasks:
            pixels = task.opened.source(task.path).read_frame(task.index)
            prepared = prepare_frame(pixels, self._settings, invert=invert)
            yield prepared.placement.side

    def _entry(self, task: FrameTask) -> tuple[SequenceEntry, FrameEntry]:
        return self._entries[task.path, task.index]
