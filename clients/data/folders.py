"""Frames out of a hospital's own folder, prepared once and kept in the cache.

The folder is scanned (`clients.data.scan`), every annotated frame (of an unlabelled
folder every frame) decoded, prepared and stored. As long as no file, declaration or
setting changes, the next run opens what is stored and looks at nothing but the dates of
the files.
"""

import hashlib
import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache as remember
from functools import cached_property
from pathlib import Path

from clients.data.archive import Files, list_archive, read_archive
from clients.data.cache import load_or_build
from clients.data.catalogue import FolderSpec, Problem
from clients.data.errors import DataError
from clients.data.frame_tasks import FrameTask, is_inverted, plan_tasks
from clients.data.identity import SiteKey
from clients.data.scan import check_declaration, group_sources, scan_folder
from clients.data.store import StoredFrames
from models.classes import CLASS_NAMES
from strategies.data_settings import DataSettings

CACHE_VARIABLE = "ENDOFED_CACHE"
LIMIT_VARIABLE = "ENDOFED_CACHE_GB"
DEFAULT_LIMIT_GB = 64
"""Of all entries; 10,000 frames of 512 px take 8 GB."""
ELSEWHERE = ("polarity", "normalise", "augmentation")
"""Settings that matter after the cache, or only with a declaration of the site."""
NUM_SHOWN = 3
"""Problems that an error quotes; the check lists all."""

_log = logging.getLogger(__name__)


def load_folder(
    spec: FolderSpec,
    *,
    settings: DataSettings,
    key: SiteKey,
    cache: Path | None = None,
) -> StoredFrames:
    """Read, check and prepare all annotated frames of a folder, or all frames.

    Args:
        spec: The folder and what its site declares. With `unlabelled` every frame is
            read, masks are empty and no class counts as annotated.
        settings: How frames are prepared.
        key: Of the site; makes the pseudonyms in messages.
        cache: Folder of prepared frames; None = $ENDOFED_CACHE, else ~/.cache/endofed.

    Returns:
        The frames on disk, grey values in [0, 1]; sequences are numbered from 0 and
        sorted by their patients' tokens, the same on every machine.

    Raises:
        DataError: If the folder has errors, or a frame is damaged and the site does
            not leave such out. The text has pseudonyms, no name, path or pixel value.
    """
    check_declaration(spec)
    place = cache_folder(cache)
    if place.is_relative_to(spec.folder.resolve()):
        raise DataError(
            "The frame cache lies inside the data folder, where it would be read as "
            f"data; set ${CACHE_VARIABLE} to a folder elsewhere."
        )
    # Readers switch off warnings, which quote headers, one by one; that alone does not
    # hold where frames are decoded in several threads.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frames = load_or_build(
            place,
            _digest(list_archive(spec), spec, settings),
            _Tasks(spec, settings, key),
            size=settings.frame_size,
            num_classes=len(CLASS_NAMES),
            limit_bytes=_cache_limit(),
        )
    # Damaged frames may have been left out, and another source of the same files may
    # have stored them with a lower minimum.
    num_patients = len(frames.patients.unique())
    if num_patients < spec.min_patients:
        raise DataError(
            f"Usable frames of {num_patients} patient(s), at least {spec.min_patients} "
            "are needed; `endofed data check` tells which are missing."
        )
    return frames


def find(spec: FolderSpec, key: SiteKey, pseudonym: str) -> list[Path]:
    """Tell a person at the site which files a pseudonym stands for.

    The one place where names come out: for the screen of who asked, never for a log.

    Args:
        spec: The folder.
        key: Of the site, the one that made the pseudonym.
        pseudonym: Of a sequence, "S-…", or a patient, "P-…".

    Returns:
        Paths below the folder, in the order of the frames.

    Raises:
        DataError: If nothing in the folder has this pseudonym.
    """
    wanted = pseudonym.strip().upper()
    found = [
        Path(source.file.relative)
        for group in group_sources(read_archive(spec).sources, key)
        if wanted in (group.id, group.patient)
        for source in group.sources
    ]
    if not found:
        raise DataError(
            "Nothing in this folder has that pseudonym: it comes from another folder, "
            "layout or site key, or the files were moved since."
        )
    return found


class _Tasks(Sequence[FrameTask]):
    """The tasks of a folder; it is scanned only if somebody asks for one."""

    def __init__(self, spec: FolderSpec, settings: DataSettings, key: SiteKey) -> None:
        self._arguments = (spec, settings, key)

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, position):  # noqa: ANN001, ANN204 - as of any Sequence
        return self._all[position]

    @cached_property
    def _all(self) -> list[FrameTask]:
        spec, settings, key = self._arguments
        catalogue = scan_folder(spec, key)
        _refuse(catalogue.errors)
        num_warnings = len(catalogue.problems)
        if num_warnings:
            _log.warning(
                "The data folder has %d warning(s); see `endofed data check`.",
                num_warnings,
            )
        return plan_tasks(catalogue, settings)


def _refuse(errors: Sequence[Problem]) -> None:
    if not errors:
        return
    shown = [_tell(problem) for problem in errors[:NUM_SHOWN]]
    more = len(errors) - len(shown)
    raise DataError(
        f"The data folder has {len(errors)} error(s): {' '.join(shown)} "
        + (f"And {more} more. " if more else "")
        + "`endofed data check` lists them all."
    )


def _tell(problem: Problem) -> str:
    where = [f"Sequence {problem.sequence}"] if problem.sequence else []
    where += [f"frame {problem.frame}"] if problem.frame is not None else []
    return f"{', '.join(where)}: {problem.what}" if where else problem.what


def cache_folder(cache: Path | None = None) -> Path:
    """Return where prepared frames are kept.

    Args:
        cache: A folder; None = $ENDOFED_CACHE, else ~/.cache/endofed.

    Returns:
        Its absolute path.

    Raises:
        DataError: If there is no such place.
    """
    chosen = cache or Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/endofed")
    try:
        return chosen.expanduser().resolve()
    except (OSError, RuntimeError):  # RuntimeError: no home folder, or links in circles
        raise DataError(
            "There is no place for the frame cache: set "
            f"${CACHE_VARIABLE} to a folder that this program's user may write."
        ) from None


def _digest(files: Files, spec: FolderSpec, settings: DataSettings) -> str:
    """Name all that decides what is stored: files, declarations, settings and code."""
    found = hashlib.sha256(_digest_of_code().encode())
    # Two folders may hold files of the same names, sizes and dates.
    found.update(os.fsencode(spec.folder.resolve()))
    labels = spec.labels
    declared = (
        (spec.layout, spec.skip_damaged, spec.unlabelled, is_inverted(spec, settings)),
        (labels.classes, labels.line_width, labels.line_unit),
        (sorted(labels.aliases.items()), sorted(labels.ignored)),
    )
    chosen = {k: v for k, v in asdict(settings).items() if k not in ELSEWHERE}
    not_seen = [problem.what for problem in files.problems]
    found.update(repr((declared, chosen, not_seen)).encode())
    for file in files.used:
        times = f"\0{file.size} {file.modified_ns} {file.changed_ns}\0"
        found.update(os.fsencode(file.relative) + times.encode())
    return found.hexdigest()


@remember
def _digest_of_code() -> str:
    """Tell whether an older version of this code made what is stored."""
    found = hashlib.sha256()
    clients = Path(__file__).parents[1]
    for room in ("annotations", "data", "images"):
        for path in sorted((clients / room).glob("*.py")):
            found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def _cache_limit() -> int:
    """Return how many bytes the cache may hold."""
    wanted = os.environ.get(LIMIT_VARIABLE) or str(DEFAULT_LIMIT_GB)
    try:
        limit = int(float(wanted) * 2**30)
    except (ValueError, OverflowError):
        limit = 0
    if limit <= 0:
        raise DataError(
            f"${LIMIT_VARIABLE} must be a number of GiB above 0, such as "
            f"{DEFAULT_LIMIT_GB}, got something else."
        )
    return limit
