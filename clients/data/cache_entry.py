"""Opening an entry of the cache: its files are mapped, not read."""

import json
import os
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.data.cache_files import USED, share, without_paths
from clients.data.cache_layout import (
    FORMAT,
    INDEX,
    TABLES,
    digest_of,
    digest_tables,
    rows_of,
)
from clients.data.errors import DataError


class MissingEntryError(DataError):
    """There is no such entry."""


class DamagedEntryError(DataError):
    """An entry is there but not whole; it must be built again."""


class OpenEntry:
    """The mapped files of an entry, which cannot be removed while this lives.

    Attributes:
        folder: Of the entry.
        size: Side of the frames, px.
        num_classes: Classes of the frames.
        digest: Of all frames in order; see `digest_of`.
        images: uint16 (frames, size, size), mapped.
        labels: uint8 (frames, size, size), mapped.
        tables: The small arrays by name, in memory.
    """

    def __init__(self, folder: Path) -> None:
        """Open an entry, and note that it was used.

        Args:
            folder: Of the entry.

        Raises:
            MissingEntryError: If there is no entry.
            DamagedEntryError: If a file is missing, cut short or of another format.
            DataError: If a file may not be read.
        """
        with without_paths():
            shared = share(folder)
            if shared is None and folder.exists():
                raise DamagedEntryError("An entry of the frame cache is not whole.")
        if shared is None:
            raise MissingEntryError(
                "The frames are no longer in the frame cache; load them again."
            )
        stop_sharing = weakref.finalize(self, os.close, shared)
        self.folder = folder
        try:
            with without_paths():
                self._map(_read_index(folder))
        except DataError:
            stop_sharing()
            raise
        with suppress(OSError):  # a cache that may only be read works too
            os.utime(folder / USED)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.images)

    def _map(self, index: dict[str, Any]) -> None:
        try:
            self.size, self.num_classes = int(index["size"]), int(index["classes"])
            self.digest = str(index["digest"])
            expected, checksum = dict(index["bytes"]), index["tables"]
            layout = rows_of(self.size, self.num_classes)
            if any(_bytes(self.folder, name) != expected[name] for name in layout):
                raise ValueError
            arrays = {
                name: _load(self.folder, name, mapped=name not in TABLES)
                for name in layout
            }
            for name, (dtype, shape) in layout.items():
                if arrays[name].shape != (index["frames"], *shape):
                    raise ValueError
                if arrays[name].dtype != np.dtype(dtype):
                    raise ValueError
            self.images, self.labels = arrays["images"], arrays["labels"]
            self.tables = {name: arrays[name] for name in TABLES}
            if digest_tables(self.tables) != checksum:
                raise ValueError
            if digest_of(self.tables["digests"]) != self.digest:
                raise ValueError
        except (EOFError, KeyError, TypeError, ValueError, FileNotFoundError):
            raise DamagedEntryError(
                "An entry of the frame cache is not whole; it must be built again."
            ) from None


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        index = None
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise DamagedEntryError(
            "An entry of the frame cache has no readable index; it must be built again."
        )
    return index


def _load(folder: Path, name: str, *, mapped: bool = False) -> NDArray[Any]:
    array = np.load(folder / f"{name}.npy", mmap_mode="r" if mapped else None)
    # The base class: np.memmap costs time in every slice and gives nothing here.
    return np.asarray(array)


def _bytes(folder: Path, name: str) -> int:
    return (folder / f"{name}.npy").stat().st_size
