"""All annotations of an archive, each with the names of the image that it may fit."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients.annotations.annotation import FrameOutlines, LabelMap
from clients.annotations.coco import read_coco
from clients.annotations.cvat import read_cvat
from clients.annotations.drawing import DrawnAnnotation
from clients.annotations.formats import kind_of
from clients.annotations.labelme import image_name, read_labelme
from clients.annotations.labels import find_class
from clients.data.archive import Archive, severity_of_damage
from clients.data.catalogue import FolderSpec, Problem, Severity
from clients.data.errors import DataError
from clients.data.listing import FoundFile
from clients.data.pairing import Claim
from clients.data.places import Place, place_of
from clients.images.opening import ARRAY_SUFFIXES, open_source
from models.classes import CLASS_NAMES

TIFF_SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True)
class LabelmeFile:
    """An `Annotation` that is parsed when asked for: most of its file is an image."""

    path: Path = field(repr=False)
    labels: LabelMap = field(repr=False)

    def layers(
        self, height: int, width: int, spacing_mm: float | None
    ) -> dict[str, NDArray[np.uint8]]:
        """Read and draw the masks of a frame; see `DrawnAnnotation.layers`."""
        drawn = DrawnAnnotation(read_labelme(self.path), self.labels)
        return drawn.layers(height, width, spacing_mm)


def find_claims(
    archive: Archive, spec: FolderSpec
) -> tuple[list[Claim], list[Problem]]:
    """Collect the annotations of an archive.

    Args:
        archive: Its files.
        spec: What the site declares.

    Returns:
        All annotations in the order of their files, and what is wrong with those that
        cannot be used.
    """
    masks, problems = _mask_claims(archive, spec.labels)
    drawn, num_others = [], 0
    for file in archive.documents:
        try:
            kind = kind_of(file.path)
            num_others += kind is None
            drawn += _drawn_claims(file, kind, spec.labels)
        except DataError as error:
            text = f"A file of annotations cannot be used: {error}"
            problems.append(Problem(severity_of_damage(spec), text))
    if num_others:
        text = (
            f"{num_others} JSON or XML file(s) are passed over: they are neither "
            "Labelme nor COCO nor CVAT 1.1."
        )
        problems.append(Problem(Severity.WARNING, text))
    return masks + drawn, problems


def _drawn_claims(
    file: FoundFile, kind: str | None, labels: LabelMap
) -> Iterator[Claim]:
    place = place_of(file.relative)
    if kind == "labelme":
        yield Claim(_labelme_places(file.path, place), LabelmeFile(file.path, labels))
    elif kind is not None:
        found: dict[str | int, FrameOutlines] = {}
        found.update(read_coco(file.path) if kind == "coco" else read_cvat(file.path))
        for name, outlines in found.items():
            drawn = DrawnAnnotation(outlines, labels)
            if isinstance(name, int):
                yield Claim((place,), drawn, number=name)
            else:
                yield Claim((Place.of(place.folders, name),), drawn)


def _labelme_places(path: Path, own: Place) -> Iterator[Place]:
    yield own
    try:
        yield Place.of(own.folders, image_name(path))
    except DataError:  # the file belongs to no image, which is what will be reported
        return


def _mask_claims(
    archive: Archive, labels: LabelMap
) -> tuple[list[Claim], list[Problem]]:
    images = {name for one in archive.sources for name in one.place.folders}
    claims, unknown, num_undeclared = [], set[str](), 0
    for file in archive.masks:
        place = place_of(file.relative)
        # What is no folder of images, too, must say which class its masks show.
        layer = next((name for name in place.folders if name not in images), "")
        if layer:
            try:
                found = find_class(layer, labels)
            except DataError:
                unknown.add(layer)
                continue
            if found not in labels.classes:  # None: its label is to be ignored
                num_undeclared += found is not None
                continue
            rest = list(place.folders)
            rest.remove(layer)
            place, layer = Place(tuple(rest), place.stem), found
        claims.append(
            Claim((place,), file.path, layer=layer, pages=_num_pages(file.path))
        )
    return claims, _folder_problems(len(unknown), num_undeclared)


def _num_pages(path: Path) -> int:
    """Count the frames of a mask file; one where its reader will say what is wrong."""
    suffix = path.suffix.casefold()
    try:
        if suffix in ARRAY_SUFFIXES:  # also of truth values, which no image has
            shape = np.lib.format.open_memmap(path, mode="r").shape
            return shape[0] if len(shape) == 3 and shape[2] > 1 else 1
        return open_source(path).facts.num_frames if suffix in TIFF_SUFFIXES else 1
    except (DataError, OSError, ValueError, EOFError):
        return 1


def _folder_problems(num_unknown: int, num_undeclared: int) -> list[Problem]:
    found = []
    if num_unknown:
        text = (
            f"{num_unknown} folder(s) of masks have the name of no class "
            f"({', '.join(CLASS_NAMES)}) and of no folder of images: name them after "
            "one, or add their names to `labels` or `ignore-labels` of the site."
        )
        found.append(Problem(Severity.ERROR, text))
    if num_undeclared:
        text = (
            f"{num_undeclared} mask(s) lie in folders of classes that the site does "
            "not declare and are passed over; add the class to `classes` if all its "
            "frames were annotated for it."
        )
        found.append(Problem(Severity.WARNING, text))
    return found
