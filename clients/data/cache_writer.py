"""Writing an entry of the cache, frame after frame."""

import json
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray

from clients.data.cache_files import USED, flush_to_disk, without_paths
from clients.data.cache_layout import (
    FORMAT,
    INDEX,
    TABLES,
    EncodedFrame,
    digest_of,
    digest_tables,
    rows_of,
)
from clients.data.errors import DataError


class EntryWriter:
    """Writes the files of one entry, frame after frame.

    Files are written, not mapped: a full disk is then an error, not a killed process.
    """

    def __init__(self, folder: Path, *, size: int, num_classes: int) -> None:
        """Start an entry without frames.

        Args:
            folder: There, private and empty but for files of other names.
            size: Side of all frames, px.
            num_classes: Classes of all frames.

        Raises:
            DataError: If a file cannot be made.
        """
        self._folder = folder
        self._arrays: dict[str, _GrowingArray] = {}
        with without_paths():
            for name, (dtype, shape) in rows_of(size, num_classes).items():
                self._arrays[name] = _GrowingArray(folder / f"{name}.npy", dtype, shape)
        self._facts = {"format": FORMAT, "size": size, "classes": num_classes}

    def __enter__(self) -> "EntryWriter":
        """Return the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all files, whatever happened."""
        for array in self._arrays.values():
            array.close()

    def add(self, frame: EncodedFrame) -> None:
        """Append a frame.

        Args:
            frame: Of the entry's size and number of classes.

        Raises:
            DataError: If the disk is full or a file cannot be written.
        """
        with without_paths():
            self._arrays["images"].append(frame.image)
            self._arrays["labels"].append(frame.labels)
            self._arrays["annotated"].append(frame.annotated)
            self._arrays["sequences"].append(np.array(frame.sequence, np.int64))
            self._arrays["patients"].append(np.array(frame.patient, np.int64))
            digest = np.frombuffer(frame.digest, np.uint8)
            self._arrays["digests"].append(digest)

    def finish(self) -> None:
        """Complete the files and wait until they are on disk.

        Raises:
            DataError: If there is no frame, or a file cannot be written.
        """
        num_frames = self._arrays["images"].count
        if num_frames == 0:
            raise DataError(
                "No frame is left to work with: all were left out as damaged or "
                "without labels; look at them with `endofed data check`."
            )
        with without_paths():
            for array in self._arrays.values():
                array.finish()
            (self._folder / USED).touch(mode=0o600)
            tables = {name: np.load(self._folder / f"{name}.npy") for name in TABLES}
            facts = {
                **self._facts,
                "frames": num_frames,
                "bytes": {
                    name: (self._folder / f"{name}.npy").stat().st_size
                    for name in self._arrays
                },
                "digest": digest_of(tables["digests"]),
                "tables": digest_tables(tables),
            }
            index = self._folder / INDEX
            index.write_text(json.dumps(facts, indent=2), encoding="utf-8")
            flush_to_disk(index)
            flush_to_disk(self._folder)


class _GrowingArray:
    """An .npy file that gets row after row; its header is put right at the end."""

    def __init__(self, path: Path, dtype: DTypeLike, row: tuple[int, ...]) -> None:
        self._dtype, self._row = np.dtype(dtype), row
        self.count = 0
        self._stream = path.open("wb")
        self._write_header()
        self._start = self._stream.tell()

    def append(self, row: NDArray[Any]) -> None:
        if row.shape != self._row:
            raise DataError(f"All frames must be {self._row}, got {row.shape}.")
        self._stream.write(np.ascontiguousarray(row, self._dtype).data)
        self.count += 1

    def finish(self) -> None:
        self._stream.seek(0)
        self._write_header()
        # NumPy leaves room for the number of rows to grow; without it the first rows
        # would have been written over.
        if self._stream.tell() != self._start:
            raise RuntimeError("This version of NumPy writes headers of changing size.")
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()

    def close(self) -> None:
        with suppress(OSError):  # the write that failed has been reported
            self._stream.close()

    def _write_header(self) -> None:
        npy.write_array_header_1_0(
            self._stream,
            {
                "descr": npy.dtype_to_descr(self._dtype),
                "fortran_order": False,
                "shape": (self.count, *self._row),
            },
        )
