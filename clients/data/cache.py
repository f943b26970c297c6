"""Decode once: prepared frames in a memory-mapped cache.

An entry is named by a key, a digest of everything that decides what is in it (files,
labels, settings): whatever changes gives another key, and the old entry is removed
when room is wanted. What is promised:

- Of several processes that want one entry, one builds it; the others wait, then open.
- A builder that fails, is killed or loses power leaves no entry, only a folder that
  the next builder of the machine removes. What it had prepared is prepared again.
- An entry that a live process has open is never removed; the process that dies lets
  go of it. Where a file system has no flock(2), nothing is removed.
- Opening looks at sizes, versions and the small tables, not at every pixel.
- Every folder made here can be entered by its owner only, and no name or file in it
  tells who or where.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

from clients.data.cache_entry import DamagedEntryError, MissingEntryError
from clients.data.cache_files import (
    building,
    flush_to_disk,
    make_private_folder,
    remove_tree,
    without_paths,
)
from clients.data.cache_layout import EncodedFrame, bytes_needed
from clients.data.cache_room import KEY_PATTERN, RESERVED, remove_damaged, reserve
from clients.data.cache_writer import EntryWriter
from clients.data.errors import DataError
from clients.data.store import (
    MAX_CLASSES,
    PreparedFrame,
    StoredFrames,
    encode_frame,
)

Task = Callable[[], PreparedFrame | None]
"""Prepares one frame, in any thread; None = this frame is left out."""

MAX_THREADS = 8
"""Preparing more frames at once gains nothing: decoders share the memory's speed."""

_log = logging.getLogger(__name__)


def load_or_build(
    folder: Path,
    key: str,
    tasks: Sequence[Task],
    *,
    size: int,
    num_classes: int,
    limit_bytes: int,
) -> StoredFrames:
    """Open an entry of the cache; build it first if it is not there.

    Args:
        folder: Of the cache; made if it is not there.
        key: Digest of all that decides what is in the entry; letters, digits, - and
            _ only.
        tasks: One for each frame, in order; called only to build, several at once,
            with no more than a few results waiting in memory.
        size: Side of a prepared frame, px.
        num_classes: Classes of a prepared frame, 1 to 7.
        limit_bytes: What all entries together may have on disk.

    Returns:
        The frames in the order of their tasks, without those left out.

    Raises:
        DataError: If a frame is not what was declared, there is none, the limit or
            the disk is too small, or the folder cannot be used.
        Exception: What a task raises comes through unchanged.
    """
    _check(key, size, num_classes)
    with without_paths():
        make_private_folder(folder)
    found = _open(folder / key)
    if found is not None:
        return found
    with building(folder, key):
        found = _open(folder / key)  # another process may have built it meanwhile
        if found is None:
            _build(folder, key, tasks, (size, num_classes), limit_bytes)
            found = StoredFrames.open(folder / key)
    return found


def _check(key: str, size: int, num_classes: int) -> None:
    if not KEY_PATTERN.fullmatch(key):
        raise DataError("The key of a cache entry is 1 to 128 letters and digits.")
    if size < 1:
        raise DataError(f"Prepared frames must be 1 px or larger, got {size}.")
    if not 1 <= num_classes <= MAX_CLASSES:
        raise DataError(
            f"The cache keeps 1 to {MAX_CLASSES} classes, got {num_classes}."
        )


def _open(entry: Path) -> StoredFrames | None:
    try:
        return StoredFrames.open(entry)
    except (MissingEntryError, DamagedEntryError):
        return None


def _build(
    folder: Path,
    key: str,
    tasks: Sequence[Task],
    shape: tuple[int, int],
    limit_bytes: int,
) -> None:
    """Write an entry beside its place, then move it there at once."""
    size, num_classes = shape
    needed = bytes_needed(len(tasks), size=size, num_classes=num_classes)
    if remove_damaged(folder, key):
        _log.warning("An entry of the frame cache was not whole; building it again.")
    partial = reserve(folder, key, needed=needed, limit_bytes=limit_bytes)
    began, count = time.monotonic(), 0
    try:
        with EntryWriter(partial, size=size, num_classes=num_classes) as writer:
            with closing(_prepared(tasks, size, num_classes)) as frames:
                for frame in frames:
                    writer.add(frame)
                    count += 1
            writer.finish()
        with without_paths():
            (partial / RESERVED).unlink()
            flush_to_disk(partial)
            partial.rename(folder / key)
            flush_to_disk(folder)
    finally:
        with suppress(OSError):  # the error that led here matters more
            remove_tree(partial)  # not there any more if all went well
    _log.info("Prepared %d frames in %.1f s.", count, time.monotonic() - began)


def _prepared(
    tasks: Sequence[Task], size: int, num_classes: int
) -> Generator[EncodedFrame, None, None]:
    """Yield prepared frames in the order of their tasks, without those left out."""

    def prepare(task: Task) -> EncodedFrame | None:
        frame = task()
        if frame is None:
            return None
        return encode_frame(frame, size=size, num_classes=num_classes)

    threads = min(MAX_THREADS, _num_cpus())
    waiting: deque[Future[EncodedFrame | None]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for task in tasks:
                waiting.append(pool.submit(prepare, task))
                # Few results in flight: memory stays small however many frames.
                if len(waiting) > 2 * threads:
                    yield from _present(waiting.popleft().result())
            while waiting:
                yield from _present(waiting.popleft().result())
        finally:
            for future in waiting:
                future.cancel()


def _present(frame: EncodedFrame | None) -> list[EncodedFrame]:
    return [] if frame is None else [frame]


def _num_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
