"""Files and locks of the cache: lasting, private, and errors that do not name them.

Two kinds of locks, both of the operating system, so that a process that dies lets go
of them. `building` is held by the one process that makes an entry. Whoever reads an
entry shares its `used` file through flock(2); who wants to remove the entry must have
that file alone. POSIX only, as the rest of the platform's process handling.
"""

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from clients.data.errors import DataError

USED = "used"
"""Empty file of an entry: its lock, and the time of its last opening."""

_log = logging.getLogger(__name__)

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_UNLOCKABLE = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}


@contextmanager
def without_paths() -> Iterator[None]:
    """Say what failed in the cache without the path that Python's errors quote.

    Raises:
        DataError: Instead of every OSError.
    """
    try:
        yield
    except OSError as error:
        raise DataError(_explain(error.errno)) from None


def make_private_folder(folder: Path) -> None:
    """Make a folder that only its owner can enter; one that is there stays as it is.

    Args:
        folder: To be made, with what leads to it.

    Raises:
        OSError: If it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, would survive a power cut.

    Args:
        path: Of the file or folder.

    Raises:
        OSError: If it cannot be opened or written.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(folder: Path) -> None:
    """Remove a folder with all it holds; it need not be there.

    Args:
        folder: To be removed.

    Raises:
        OSError: If something in it cannot be removed.
    """
    if folder.exists():
        shutil.rmtree(folder)


def size_of(folder: Path) -> int:
    """Add up the files of a folder.

    Args:
        folder: Without folders in it.

    Returns:
        Bytes; files that vanish meanwhile count nothing.
    """
    total = 0
    for path in folder.glob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def share(entry: Path) -> int | None:
    """Keep an entry from being removed for as long as the answer stays open.

    Args:
        entry: Folder of the entry.

    Returns:
        A file descriptor for the caller to close, or None if the entry is not there.

    Raises:
        OSError: If its `used` file cannot be opened.
    """
    while True:
        try:
            descriptor = os.open(entry / USED, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        _lock(descriptor, fcntl.LOCK_SH)
        if _is_still(descriptor, entry / USED):
            return descriptor
        os.close(descriptor)  # it was removed between the two lines above: look again


@contextmanager
def alone(entry: Path) -> Iterator[bool]:
    """Try to be the only one who has an entry, for a moment.

    Args:
        entry: Folder of the entry.

    Yields:
        Whether no live process, this one included, shares the entry.
    """
    try:
        descriptor = os.open(entry / USED, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True  # nobody can share an entry that has lost the file
        return
    try:
        yield _is_locked(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def building(folder: Path, key: str) -> Iterator[None]:
    """Be the only process, and thread, that builds an entry; wait for it if need be.

    Args:
        folder: Of the cache.
        key: Of the entry.

    Raises:
        DataError: If the lock file cannot be made.
    """
    lock = FileLock(lock_path(folder, key), mode=0o600)
    with without_paths():
        try:
            lock.acquire(blocking=False)
        except Timeout:
            _log.info("Another process is preparing these frames; waiting for it.")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def built_by_nobody(folder: Path, key: str) -> Iterator[bool]:
    """Try to keep others from building an entry, without waiting.

    Args:
        folder: Of the cache.
        key: Of the entry.

    Yields:
        Whether nobody builds it, and nobody can until the end of the block. The lock's
        file may be removed in the block: whoever waits for it notices.
    """
    lock = FileLock(lock_path(folder, key), mode=0o600)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def lock_path(folder: Path, key: str) -> Path:
    """Return where the lock file of an entry lies, beside the entry.

    Args:
        folder: Of the cache.
        key: Of the entry.

    Returns:
        A path that need not exist.
    """
    return folder / f"{key}.lock"


def _lock(descriptor: int, how: int) -> None:
    try:
        fcntl.flock(descriptor, how)
    except OSError as error:
        if error.errno not in _UNLOCKABLE:
            os.close(descriptor)
            raise
        # A file system without locks: `alone` then never succeeds, nothing is removed.


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _explain(number: int | None) -> str:
    if number in _FULL:
        return (
            "The disk of the frame cache is full; free some space there, or lower "
            "data.frame-size, and start again."
        )
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            "The frame cache must be a folder that this program's user may write; "
            "correct its permissions or choose another one."
        )
    reason = os.strerror(number) if number else "no reason given"
    return f"A file of the frame cache could not be read or written ({reason})."
