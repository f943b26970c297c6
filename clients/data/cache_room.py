"""How much the cache may hold: what is in it, and what goes when it is full.

An entry KEY is a folder of that name. Beside it may lie KEY.lock (held by its
builder), KEY.partial (being built, with the number of bytes set aside for it in
`reserved`) and KEY.removed (being removed). Everything else in the folder is left
alone. All that reserves or removes holds one lock of the folder meanwhile.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from clients.data.cache_files import (
    USED,
    alone,
    built_by_nobody,
    lock_path,
    make_private_folder,
    remove_tree,
    size_of,
    without_paths,
)
from clients.data.cache_layout import INDEX
from clients.data.errors import DataError

KEY_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,128}")
"""What names an entry: a digest of what is in it, nothing that tells who or where."""

RESERVED = "reserved"
_GIB = 2**30


class Usage(NamedTuple):
    """What a cache holds."""

    num_entries: int  # that can be opened
    num_bytes: int  # with what is being built


class _Entry(NamedTuple):
    path: Path
    num_bytes: int
    used: int  # ns since 1970, of the last opening


def usage(folder: Path) -> Usage:
    """Tell how full a cache is.

    Args:
        folder: Of the cache; need not be there.

    Returns:
        Entries and bytes.

    Raises:
        DataError: If the folder may not be read.
    """
    with without_paths():
        entries = _entries(folder)
        partials = sum(size_of(path) for path in _partials(folder))
    return Usage(len(entries), sum(entry.num_bytes for entry in entries) + partials)


def clear(folder: Path) -> Usage:
    """Remove every entry that no live process uses.

    Args:
        folder: Of the cache; need not be there. What is not the cache's own stays.

    Returns:
        What is left: entries in use, or being built, by a live process.

    Raises:
        DataError: If something may not be removed.
    """
    with without_paths():
        if folder.is_dir():
            with _locked(folder):
                _sweep(folder, besides="")
                for entry in _entries(folder):
                    _remove_unused(entry.path)
    return usage(folder)


def reserve(folder: Path, key: str, *, needed: int, limit_bytes: int) -> Path:
    """Make room for an entry, and a folder to build it in.

    The least recently used entries go first, never one that a live process uses. If
    removing all of those would not help, nothing is removed.

    Args:
        folder: Of the cache.
        key: Of the entry; the caller holds its lock.
        needed: Bytes of the entry.
        limit_bytes: What all entries together may have.

    Returns:
        A new private folder, empty but for the note of what is reserved.

    Raises:
        DataError: If there is no room, telling what to do.
    """
    if needed > limit_bytes:
        raise DataError(
            f"The prepared frames need {_gib(needed)} of cache, its limit is "
            f"{_gib(limit_bytes)}. Raise $ENDOFED_CACHE_GB or lower data.frame-size."
        )
    with without_paths(), _locked(folder):
        _sweep(folder, besides=key)
        partial = folder / f"{key}.partial"
        remove_tree(partial)  # of a builder that died: its lock is ours now
        _make_room(folder, needed, limit_bytes)
        make_private_folder(partial)
        (partial / RESERVED).write_text(str(needed), encoding="ascii")
        return partial


def remove_damaged(folder: Path, key: str) -> bool:
    """Remove an entry that cannot be opened.

    Args:
        folder: Of the cache.
        key: Of the entry; the caller holds its lock.

    Returns:
        Whether there was anything to remove.

    Raises:
        DataError: If it may not be removed.
    """
    with without_paths(), _locked(folder):
        if not (folder / key).exists():
            return False
        _remove(folder / key)
        return True


def _make_room(folder: Path, needed: int, limit_bytes: int) -> None:
    entries, free = _entries(folder), shutil.disk_usage(folder).free
    building, unwritten = 0, 0
    for partial in _partials(folder):
        written = size_of(partial)
        building += max(written, _reserved(partial))
        unwritten += max(_reserved(partial) - written, 0)
    held = sum(entry.num_bytes for entry in entries) + building
    over_limit, over_disk = held + needed - limit_bytes, needed + unwritten - free
    short = max(over_limit, over_disk)
    unused = [entry for entry in entries if _is_unused(entry.path)]
    if short > sum(entry.num_bytes for entry in unused):
        raise DataError(_refusal(needed, limit_bytes, free, over_limit > over_disk))
    for entry in sorted(unused, key=lambda entry: (entry.used, entry.path.name)):
        if short <= 0:
            break
        if _remove_unused(entry.path):
            short -= entry.num_bytes
    if short > 0:  # an entry was opened in between
        raise DataError(_refusal(needed, limit_bytes, free, over_limit > over_disk))


def _refusal(needed: int, limit_bytes: int, free: int, is_limit: bool) -> str:
    if is_limit:
        return (
            f"The prepared frames need {_gib(needed)} of cache; of its "
            f"{_gib(limit_bytes)} too much is in use by running programs. Wait for "
            "them, raise $ENDOFED_CACHE_GB or lower data.frame-size."
        )
    return (
        f"The prepared frames need {_gib(needed)} of disk for the cache, "
        f"{_gib(free)} are free. Free some space there or lower data.frame-size."
    )


def _sweep(folder: Path, *, besides: str) -> None:
    """Remove what builders and removers that died have left."""
    for path in folder.glob("*.removed"):
        if KEY_PATTERN.fullmatch(path.stem):
            remove_tree(path)
    keys = {path.stem for path in (*folder.glob("*.lock"), *_partials(folder))}
    for key in sorted(keys - {besides}):
        if not KEY_PATTERN.fullmatch(key):
            continue
        with built_by_nobody(folder, key) as free:
            if free:
                remove_tree(folder / f"{key}.partial")
                lock_path(folder, key).unlink(missing_ok=True)


def _remove_unused(entry: Path) -> bool:
    with built_by_nobody(entry.parent, entry.name) as free:
        if not free or not _remove_if_alone(entry):
            return False
        lock_path(entry.parent, entry.name).unlink(missing_ok=True)
    return True


def _remove_if_alone(entry: Path) -> bool:
    with alone(entry) as unused:
        if unused:
            _remove(entry)
    return unused


def _remove(entry: Path) -> None:
    """Let an entry vanish at once, then take its files away."""
    aside = entry.with_name(f"{entry.name}.removed")
    remove_tree(aside)
    entry.rename(aside)
    remove_tree(aside)


def _is_unused(entry: Path) -> bool:
    with alone(entry) as unused:
        return unused


def _entries(folder: Path) -> list[_Entry]:
    found = []
    for path in folder.glob("*"):
        is_ours = KEY_PATTERN.fullmatch(path.name) and path.is_dir()
        if is_ours and ((path / USED).exists() or (path / INDEX).exists()):
            stamp = path / USED if (path / USED).exists() else path
            found.append(_Entry(path, size_of(path), stamp.stat().st_mtime_ns))
    return found


def _partials(folder: Path) -> list[Path]:
    found = (path for path in folder.glob("*.partial") if path.is_dir())
    return sorted(path for path in found if KEY_PATTERN.fullmatch(path.stem))


def _reserved(partial: Path) -> int:
    try:
        return int((partial / RESERVED).read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return 0


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with FileLock(folder / ".room.lock", mode=0o600):
        yield


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / _GIB:.2f} GiB"
