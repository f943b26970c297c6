"""What `endofed predict` reads: files and folders, each file with a number.

A number stands for a file wherever something is said or written of it, because names
of files often are names of patients.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from clients.data.listing import list_files
from clients.data.places import is_below_masks
from clients.images.opening import is_image


@dataclass(frozen=True)
class InputFile:
    """One file with frames."""

    number: int  # from 1, in the order of the command line
    path: Path = field(repr=False)


def list_inputs(named: Iterable[Path]) -> list[InputFile]:
    """Number all files to predict.

    Args:
        named: Files and folders. Of a folder, all files that are meant to hold frames
            are taken, in sorted order, but none below a folder of masks; a file named
            itself is taken whatever it is.

    Returns:
        The files. A path that leads nowhere is one of them: opening it says so.
    """
    paths = [path for one in named for path in _files_of(one)]
    return [InputFile(number, path) for number, path in enumerate(paths, 1)]


def folder_names(inputs: Iterable[InputFile], *, keep_names: bool) -> dict[int, str]:
    """Choose what the results of every input are called.

    Args:
        inputs: The files.
        keep_names: Call them after the files, the user's own wish; else by number.

    Returns:
        Number of an input -> name of its folder, all different whatever their case.
    """
    names: dict[int, str] = {}
    taken = set[str]()
    for one in inputs:
        wanted = name = one.path.stem if keep_names else f"{one.number:04d}"
        copies = 1
        while name.casefold() in taken:
            copies += 1
            name = f"{wanted}-{copies}"
        taken.add(name.casefold())
        names[one.number] = name
    return names


def _files_of(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for file in list_files(path).files:
        if not is_below_masks(file.relative) and is_image(file.path):
            yield file.path
