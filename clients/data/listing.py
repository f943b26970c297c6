"""All files below a folder, however it was put together.

Archives have links in circles, folders that this program's user may not open, names in
the bytes of another age. None of that may hang or stop the listing: it is counted.
Hidden files, what operating systems leave behind and folders of caches
(https://bford.info/cachedir/) are passed over.
"""

import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from clients.data.catalogue import Problem, Severity

LEFT_BEHIND = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir", "dicomdir"})
"""Names, casefolded, that hold no frame; a DICOMDIR only lists other files."""
CACHE_TAG = "CACHEDIR.TAG"


@dataclass(frozen=True)
class FoundFile:
    """One file of the archive, not yet opened."""

    path: Path = field(repr=False)
    relative: PurePath = field(repr=False)  # to the top folder
    size: int  # bytes
    modified_ns: int  # since 1970
    changed_ns: int  # the same of content, name or rights: no program can set it back

    @property
    def order(self) -> tuple[bytes, ...]:
        """Return what sorts files the same on every machine, whatever its language."""
        return tuple(os.fsencode(part) for part in self.relative.parts)


@dataclass
class Listing:
    """What was found, and how much could not be looked at."""

    files: list[FoundFile] = field(default_factory=list, repr=False)  # sorted
    closed: int = 0  # files and folders that this user may not open
    lost: int = 0  # links that lead nowhere
    repeated: int = 0  # links to folders that were read already, circles among them

    def problems(self, severity: Severity) -> list[Problem]:
        """Say what could not be looked at.

        Args:
            severity: Of what may have held frames.

        Returns:
            At most one problem of each kind, with its count.
        """
        found = []
        if self.closed:
            found.append(
                Problem(
                    severity,
                    f"{self.closed} file(s) or folder(s) may not be opened by this "
                    "program's user; change their permissions or take them out.",
                )
            )
        if self.lost:
            found.append(
                Problem(
                    severity,
                    f"{self.lost} link(s) lead to nothing; mend or remove them.",
                )
            )
        if self.repeated:
            found.append(
                Problem(
                    Severity.WARNING,
                    f"{self.repeated} link(s) lead back to a folder that was read "
                    "already (a circle?); its files count once.",
                )
            )
        return found


def list_files(folder: Path) -> Listing:
    """List all ordinary files below a folder, in sorted order.

    Args:
        folder: The top folder; links below it are followed, each folder is read once,
            under its own name if that lies below the top folder, too.

    Returns:
        The files and the counts of what could not be looked at. Nothing is opened but
        folders: pipes and devices are passed over.
    """
    listing, seen = Listing(), set[tuple[int, int]]()
    folders, links = [PurePath()], list[PurePath]()
    while folders or links:
        # Links wait, so that a folder goes by its own name and not by that of a link.
        below = folders.pop() if folders else links.pop(0)
        try:
            status = os.stat(folder / below)
            if (status.st_dev, status.st_ino) in seen:
                listing.repeated += 1
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder / below) as entries:
                inside = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError:
            listing.closed += 1
            continue
        if any(entry.name == CACHE_TAG for entry in inside):
            continue
        for entry in inside:
            if not _is_passed_over(entry.name):
                _sort_in(entry, below / entry.name, listing, folders, links)
    listing.files.sort(key=lambda file: file.order)
    return listing


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name.casefold() in LEFT_BEHIND


def _sort_in(
    entry: os.DirEntry[str],
    relative: PurePath,
    listing: Listing,
    folders: list[PurePath],
    links: list[PurePath],
) -> None:
    try:
        status = entry.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            listing.repeated += 1
        elif isinstance(error, FileNotFoundError):
            listing.lost += 1
        else:
            listing.closed += 1
        return
    if stat.S_ISDIR(status.st_mode):
        (links if entry.is_symlink() else folders).append(relative)
    elif stat.S_ISREG(status.st_mode):
        path = Path(entry.path)
        listing.files.append(
            FoundFile(
                path, relative, status.st_size, status.st_mtime_ns, status.st_ctime_ns
            )
        )
