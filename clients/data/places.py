"""What folders and file names say: role, patient, sequence and number of a frame.

Used where no header tells. The rules err towards putting too much into one sequence:
that costs sequences, and the too few are reported; splitting frames of one patient over
training and test is an error that nobody sees.

- A folder named masks, labels ... (`MASK_FOLDERS`) holds masks, in subfolders per class
  if these are named after classes. Folders named images, dicom ... (`IMAGE_FOLDERS`)
  say nothing more and are passed over.
- The first other folder below the top is the patient. Without one, every sequence is
  a patient of its own.
- A trailing number is that of a frame, and what comes before it is the sequence, if
  `_` or `-` precedes it (IM1_02), or nothing (0007), or a word for a frame (frame7), or
  if one number after the same letters is padded with zeros (scan08, scan09, scan10).
  Else it is part of the name: case1 and case2 are two sequences.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath

from clients.images.opening import (
    ARRAY_SUFFIXES,
    DICOM_SUFFIXES,
    STILL_SUFFIXES,
    VIDEO_SUFFIXES,
)

MASK_FOLDERS = frozenset(
    {"masks", "mask", "labels", "label", "annotations", "segmentations"}
)
IMAGE_FOLDERS = frozenset(
    {"images", "image", "imgs", "img", "frames", "dicom", "dcm", "videos", "video"}
)
DOCUMENT_SUFFIXES = (".json", ".xml")
MASK_SUFFIXES = (*STILL_SUFFIXES, *ARRAY_SUFFIXES)
FRAME_WORDS = ("frame", "image", "img")
"""Before a number, these say that it is a frame's."""

_ROLES = MASK_FOLDERS | IMAGE_FOLDERS
_SUFFIXES = frozenset(
    (*MASK_SUFFIXES, *DICOM_SUFFIXES, *VIDEO_SUFFIXES, *DOCUMENT_SUFFIXES)
)
_NUMBERED = re.compile(r"(.*?)([0-9]+)", re.DOTALL)


@dataclass(frozen=True)
class Place:
    """Where a file lies, without what only says which kind of file it is.

    Attributes:
        folders: Below the top folder, but for names of `IMAGE_FOLDERS` and
            `MASK_FOLDERS`.
        stem: The file's name without a known suffix: 1.2.840.7 is whole.
    """

    folders: tuple[str, ...]
    stem: str

    @classmethod
    def of(cls, folders: Iterable[str], stem: str) -> "Place":
        """Return a place whose accents are written in the one way that is compared."""
        return cls(tuple(map(_compose, folders)), _compose(stem))

    @property
    def name(self) -> str:
        """Return folders and stem as one text."""
        return "/".join((*self.folders, self.stem))


def is_below_masks(relative: PurePath) -> bool:
    """Tell whether a file lies below a folder of masks.

    Args:
        relative: Path below the top folder.

    Returns:
        True if one of its folders has a name of `MASK_FOLDERS`.
    """
    return any(part.casefold() in MASK_FOLDERS for part in relative.parts[:-1])


def place_of(relative: PurePath) -> Place:
    """Return the place of a file.

    Args:
        relative: Path below the top folder.

    Returns:
        The same place for an image and the mask that belongs to it, in both ways that
        Unicode has to write an accent.
    """
    folders = [part for part in relative.parts[:-1] if part.casefold() not in _ROLES]
    is_known = relative.suffix.casefold() in _SUFFIXES
    return Place.of(folders, relative.stem if is_known else relative.name)


def split_number(stem: str) -> tuple[str, str, str] | None:
    """Take a name apart that ends in a number.

    Args:
        stem: As in `Place`.

    Returns:
        What precedes the number, the `_` or `-` between them or "", and the digits;
        None if it does not end in a digit.
    """
    found = _NUMBERED.fullmatch(stem)
    if found is None:
        return None
    before, digits = found.groups()
    separator = before[-1:] if before.endswith(("_", "-")) else ""
    return before.removesuffix(separator), separator, digits


def sequences_of(stills: Iterable[Place]) -> dict[Place, tuple[str, int]]:
    """Tell which stills are frames of one sequence, by their names.

    Args:
        stills: All files with one frame and without a header that tells.

    Returns:
        For every place the name of its sequence among all patients, and its frame's
        number, -1 if it has none.
    """
    places = list(stills)
    padded = set()
    for place in places:
        parts = split_number(place.stem)
        if parts and len(parts[2]) > 1 and parts[2].startswith("0"):
            padded.add((place.folders, parts[0]))
    found = {}
    for place in places:
        parts = split_number(place.stem)
        if parts and (_is_frame_number(parts) or (place.folders, parts[0]) in padded):
            found[place] = (Place(place.folders, parts[0]).name, int(parts[2]))
        else:
            found[place] = (place.name, -1)
    return found


def patient_of(place: Place, sequence: str) -> str:
    """Tell whom a file shows, by its folder.

    Args:
        place: Of the file.
        sequence: Its sequence's name.

    Returns:
        The name of the first folder, else that of the sequence.
    """
    return place.folders[0] if place.folders else sequence


def _is_frame_number(parts: tuple[str, str, str]) -> bool:
    before, separator, _ = parts
    return bool(separator) or not before or before.casefold().endswith(FRAME_WORDS)


def _compose(text: str) -> str:
    return unicodedata.normalize("NFC", text)
