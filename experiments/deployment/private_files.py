"""Folders and keys that only their owner may read."""

import os
from collections.abc import Iterable
from pathlib import Path


def make_private_folders(folders: Iterable[Path]) -> bool:
    """Make folders for their owner only; those that exist stay as they are.

    Args:
        folders: The first is the one to write in; parents are made, too.

    Returns:
        Whether all are there and this program's user may write in the first.
    """
    first, *others = folders
    try:
        for folder in (first, *others):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.access(first, os.W_OK | os.X_OK)
    except OSError:
        return False


def is_open_to_others(key: Path) -> bool:
    """Tell whether users beside the owner may do anything with a file that exists."""
    return bool(key.stat().st_mode & 0o077)
