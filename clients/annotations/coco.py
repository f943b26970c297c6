"""Outlines out of COCO's JSON: one file for many images.

Format: cocodataset.org/#format-data [Lin et al., "Microsoft COCO", ECCV 2014].
Coordinates are px from the corner of the top left pixel. The polygons of an object
are its visible parts and add up, as in pycocotools; holes need run lengths. Objects
marked as a crowd count like all others. An image without objects was looked at, and
nothing was there. Objects with only a box have no outline: they do no harm under an
ignored label and are an error under a class.

`pycocotools.coco` is not used: it prints, and believes what the file says.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.annotations.annotation import FrameOutlines, Outline
from clients.annotations.documents import (
    as_list,
    as_object,
    as_text,
    image_stem,
    read_json,
    side_px,
    stated_side_px,
    to_points,
)
from clients.annotations.run_lengths import RunLengths, from_code, from_counts
from clients.data.errors import DataError

Key = int | str
"""Numbers of images and categories; some tools write text."""


def read_coco(path: Path) -> dict[str, FrameOutlines]:
    """Read what was drawn on all images.

    Args:
        path: Of the JSON file.

    Returns:
        Name of an image without folders and suffix (identifying: never shown) -> its
        outlines with the category's name as label, and its size.

    Raises:
        DataError: If the file cannot be opened, is damaged, or two images have one
            name; the text quotes nothing of it.
    """
    document = read_json(path)
    images = _by_id(document, "images")
    labels = {
        key: as_text(category.get("name"), "the name of a category of a COCO file")
        for key, category in _by_id(document, "categories").items()
    }
    outlines: dict[Key, list[Outline]] = {key: [] for key in images}
    for value in as_list(document.get("annotations"), "`annotations` of a COCO file"):
        annotation = as_object(value, "an annotation of a COCO file")
        image_id = _known_id(annotation.get("image_id"), images)
        label = labels[_known_id(annotation.get("category_id"), labels)]
        outlines[image_id] += _read_object(annotation, label, images[image_id])
    return _by_stem(images, outlines)


def _by_id(document: dict[str, Any], name: str) -> dict[Key, dict[str, Any]]:
    entries = as_list(document.get(name), f"`{name}` of a COCO file")
    found: dict[Key, dict[str, Any]] = {}
    for value in entries:
        entry = as_object(value, f"an entry of `{name}` of a COCO file")
        key = entry.get("id")
        if not isinstance(key, int | str) or key in found:
            raise DataError(
                f"every entry of `{name}` of a COCO file needs an id of its own"
            )
        found[key] = entry
    return found


def _known_id(key: object, entries: Mapping[Key, Any]) -> Key:
    if not isinstance(key, int | str) or key not in entries:
        raise DataError(
            "an annotation of a COCO file belongs to an image or a category that the "
            "file does not list; export it again"
        )
    return key


def _by_stem(
    images: dict[Key, dict[str, Any]], outlines: dict[Key, list[Outline]]
) -> dict[str, FrameOutlines]:
    found: dict[str, FrameOutlines] = {}
    for key, image in images.items():
        name = as_text(image.get("file_name"), "`file_name` of a COCO file")
        height, width = _size(image)
        found[image_stem(name)] = FrameOutlines(height, width, tuple(outlines[key]))
    if len(found) < len(images):
        raise DataError(
            f"{len(images)} images of a COCO file have only {len(found)} different "
            "names; rename them, folders and suffixes do not count"
        )
    return found


def _size(image: dict[str, Any]) -> tuple[int | None, int | None]:
    return stated_side_px(image.get("height")), stated_side_px(image.get("width"))


def _read_object(
    annotation: dict[str, Any], label: str, image: dict[str, Any]
) -> list[Outline]:
    segmentation = annotation.get("segmentation")
    if not segmentation:  # only a box
        return [Outline(label, "polygon")]
    if isinstance(segmentation, list):
        rings = [as_list(ring, "a polygon of a COCO file") for ring in segmentation]
        return [Outline(label, "polygon", (_read_ring(ring),)) for ring in rings]
    encoded = as_object(segmentation, "`segmentation` of a COCO file")
    return [Outline(label, "mask", mask=_read_runs(encoded, image))]


def _read_ring(ring: list[object]) -> NDArray[np.float64]:
    if len(ring) % 2:
        raise DataError("a polygon of a COCO file has an odd number of coordinates")
    return to_points(zip(ring[::2], ring[1::2], strict=True), 3)


def _read_runs(encoded: dict[str, Any], image: dict[str, Any]) -> RunLengths:
    size = as_list(encoded.get("size"), "the size of a mask of a COCO file")
    if len(size) != 2:
        raise DataError("the size of a mask of a COCO file must be height and width")
    height, width = (side_px(side) for side in size)
    stated = _size(image)
    if (stated[0] or height, stated[1] or width) != (height, width):
        raise DataError("a mask of a COCO file has another size than its image")
    counts = encoded.get("counts")
    if isinstance(counts, str):
        return from_code(counts, height, width)
    counts = as_list(counts, "the run lengths of a mask of a COCO file")
    return from_counts(counts, height, width)
