"""The files of a folder by what they are for, with whom and what the images show.

Headers are read, no frame is decoded. What is found here still has names: it goes no
further than `clients.data.scan`, which puts pseudonyms in their place.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from clients.data.catalogue import FolderSpec, Problem, Severity
from clients.data.errors import DataError
from clients.data.listing import FoundFile, list_files
from clients.data.places import (
    DOCUMENT_SUFFIXES,
    MASK_SUFFIXES,
    Place,
    is_below_masks,
    patient_of,
    place_of,
    sequences_of,
)
from clients.images.opening import STILL_SUFFIXES, is_dicom, is_image, open_source
from clients.images.source import Identity, SourceFacts

LAYOUTS = ("auto", "pairs", "dicom")
NO_PATIENT, ONLY_STUDY = "sequence|", "study|"
"""How the patient of a header that names nobody begins; see `read_identity`."""


@dataclass(frozen=True)
class Source:
    """One file with frames."""

    file: FoundFile = field(repr=False)
    place: Place = field(repr=False)
    is_dicom: bool
    facts: SourceFacts | None  # None = it cannot be read
    damage: str = ""  # why not
    patient: str = field(default="", repr=False)
    sequence: str = field(default="", repr=False)  # unique among all patients
    number: int = -1  # of the frame in its sequence, where the name tells
    is_guessed: bool = False  # the patient: told by neither header nor folder

    @property
    def order(self) -> tuple[int, tuple[bytes, ...]]:
        """Return what sorts the files of one sequence."""
        return self.number, self.file.order


@dataclass(frozen=True)
class Archive:
    """All files that matter, in sorted order."""

    sources: tuple[Source, ...]
    masks: tuple[FoundFile, ...]
    documents: tuple[FoundFile, ...]  # may hold outlines, or something else
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Files:
    """The files of an archive before any is opened as an image."""

    images: tuple[FoundFile, ...]
    masks: tuple[FoundFile, ...]
    documents: tuple[FoundFile, ...]
    problems: tuple[Problem, ...]

    @property
    def used(self) -> Iterable[FoundFile]:
        """Return all files that may change what is read."""
        return (*self.images, *self.masks, *self.documents)


def severity_of_damage(spec: FolderSpec) -> Severity:
    """Tell how bad a damaged file is.

    Args:
        spec: What the site declares.

    Returns:
        A warning if the site leaves damaged frames out, else an error.
    """
    return Severity.WARNING if spec.skip_damaged else Severity.ERROR


def list_archive(spec: FolderSpec) -> Files:
    """Sort the files of a folder by what they are for.

    Args:
        spec: The folder and its layout.

    Returns:
        The files in sorted order, and what could not be looked at. Annotations of an
        unlabelled folder are not among them, so nobody opens one.

    Raises:
        DataError: If there is no such folder, or the layout has an unknown name.
    """
    if spec.layout not in LAYOUTS:
        raise DataError(f"layout must be one of {', '.join(LAYOUTS)}.")
    if not _is_folder(spec):
        raise DataError(
            "The data folder does not exist on this machine, or this program's user "
            "may not enter it; correct `folder` or its permissions."
        )
    listing = list_files(spec.folder)
    images, masks, documents = [], [], []
    for file in listing.files:
        suffix = file.relative.suffix.casefold()
        if suffix in DOCUMENT_SUFFIXES:
            documents += [] if spec.unlabelled else [file]
        elif is_below_masks(file.relative):
            is_mask = suffix in MASK_SUFFIXES and not spec.unlabelled
            masks += [file] if is_mask else []
        elif _belongs(file, spec.layout):
            images.append(file)
    problems = listing.problems(severity_of_damage(spec))
    return Files(tuple(images), tuple(masks), tuple(documents), tuple(problems))


def read_archive(spec: FolderSpec) -> Archive:
    """Open all images of a folder and tell whom they show.

    Args:
        spec: The folder and its layout.

    Returns:
        Sources and annotation files in sorted order. A file that cannot be read is a
        source without facts.

    Raises:
        DataError: As in `list_archive`.
    """
    files = list_archive(spec)
    opened = [_open(file) for file in files.images]
    names = sequences_of(
        source.place for source, identity in opened if _is_still(source, identity)
    )
    sources = (_name(source, identity, names) for source, identity in opened)
    return Archive(tuple(sources), files.masks, files.documents, files.problems)


def _is_folder(spec: FolderSpec) -> bool:
    try:
        return spec.folder.is_dir()
    except OSError:
        return False


def _belongs(file: FoundFile, layout: str) -> bool:
    try:
        if layout == "auto":
            return is_image(file.path)
        return is_dicom(file.path) == (layout == "dicom") and is_image(file.path)
    except OSError:  # may not be opened: `_open` will say so
        return True


def _open(file: FoundFile) -> tuple[Source, Identity | None]:
    place = place_of(file.relative)
    try:
        dicom = is_dicom(file.path)
        opened = open_source(file.path)
        return Source(file, place, dicom, opened.facts), opened.identity
    except DataError as error:
        damage = str(error)
    except OSError:
        dicom, damage = False, "cannot be opened; check its permissions"
    return Source(file, place, dicom, None, damage), None


def _is_still(source: Source, identity: Identity | None) -> bool:
    if source.facts is None:  # what it holds nobody knows
        return source.file.relative.suffix.casefold() in STILL_SUFFIXES
    says_nothing = identity is None or not identity.sequence
    return source.facts.num_frames == 1 and says_nothing


def _name(
    source: Source, identity: Identity | None, names: dict[Place, tuple[str, int]]
) -> Source:
    """Fill in patient and sequence: from the header, else from folders and names."""
    if _is_still(source, identity):
        run, number = names[source.place]
        own_name = run
    else:  # what has several frames is a sequence of its own
        run, number = source.file.relative.as_posix(), -1
        own_name = source.place.name
    said = identity.patient if identity else ""
    if said.startswith(NO_PATIENT) and source.place.folders:
        said = ""  # a folder joins sequences of one patient, at least
    patient = said or patient_of(source.place, own_name)
    return replace(
        source,
        patient=patient,
        sequence="\0".join((patient, (identity and identity.sequence) or run)),
        number=number,
        is_guessed=said.startswith((NO_PATIENT, ONLY_STUDY))
        or not (said or source.place.folders),
    )
