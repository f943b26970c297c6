"""Files of an export appear together and whole, or not at all."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from server.checkpoints import CheckpointError


class ExportError(CheckpointError):
    """A model does not fit the format; the message says what to do."""


@contextlib.contextmanager
def staged(output: Path) -> Iterator[Path]:
    """Give a folder to write to, whose entries move to the output at the end.

    Args:
        output: Made if missing. Entries of the same names are replaced, others stay.

    Yields:
        An empty folder on the same disk.

    Raises:
        ExportError: If the output cannot be written.
        Exception: Whatever the caller raises; then nothing is left behind.
    """
    existed = output.exists()
    hidden = output / f".{uuid.uuid4().hex}.part"
    try:
        hidden.mkdir(parents=True)
    except OSError:
        raise ExportError(
            "The output folder cannot be made or written. Name a folder, in a place "
            "where this program's user may write."
        ) from None
    try:
        yield hidden
        for entry in sorted(hidden.iterdir()):
            _take_place(entry, output / entry.name)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        if not existed:
            with contextlib.suppress(OSError):  # it has files: the export succeeded
                output.rmdir()


def _take_place(entry: Path, target: Path) -> None:
    """Move a file or folder; a folder of that name goes away first."""
    if target.is_dir():
        shutil.rmtree(target)
    os.replace(entry, target)
