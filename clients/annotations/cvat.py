"""Outlines out of CVAT's XML 1.1, for images and for videos, as Guide3D has them.

Format: docs.cvat.ai, "XML annotation format". Coordinates are px from the corner of
the top left pixel. Polylines, polygons, boxes and masks are read. Points, ellipses,
cuboids and skeletons have no outline: they do no harm under an ignored label and are
an error under a class. Tags are skipped.

Images: an image without shapes was looked at, and nothing was there. Videos: CVAT
writes the shapes between key frames into the file, so what is listed is taken as it
stands. A frame counts as annotated if it has a shape that is not `outside`: CVAT ends
each track with an outside shape on the next frame, which nobody may have looked at.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse
from numpy.typing import NDArray

from clients.annotations.annotation import FrameOutlines, Outline
from clients.annotations.documents import (
    CANNOT_OPEN,
    check_size,
    image_stem,
    side_px,
    stated_side_px,
    to_points,
    whole_number,
)
from clients.annotations.run_lengths import RunLengths, from_rows
from clients.data.errors import DataError

WITHOUT_OUTLINE = ("points", "ellipse", "cuboid", "skeleton")
SHAPES = ("polyline", "polygon", "box", "mask", *WITHOUT_OUTLINE)
"""Every element that is a shape."""
PARTS = ("original_size", "image", "track")
"""The elements of a file that are read."""


def read_cvat(path: Path) -> dict[str | int, FrameOutlines]:
    """Read what was drawn on all images, or on all frames of a video.

    Args:
        path: Of the XML file.

    Returns:
        Name of an image without folders and suffix (identifying: never shown), or
        number of a frame of a video, from 0 -> its outlines with labels as written,
        and its size.

    Raises:
        DataError: If the file cannot be opened, is damaged, declares entities, holds
            more than one video, or two images have one name; the text quotes nothing
            of it.
    """
    check_size(path)
    images: dict[str | int, FrameOutlines] = {}
    frames: dict[str | int, list[Outline]] = {}
    sizes, tasks = set(), set()
    num_images = 0
    for part in _parts(path):
        if part.tag == "original_size":
            sizes.add((_side(part, "height"), _side(part, "width")))
        elif part.tag == "image":
            num_images += 1
            images[image_stem(_attribute(part, "name"))] = _read_image(part)
        else:
            tasks.add(part.get("task_id"))
            for number, outline in _read_track(part):
                frames.setdefault(number, []).append(outline)
    if len(images) < num_images:
        raise DataError(
            f"{num_images} images of a CVAT file have only {len(images)} different "
            "names; rename them, folders and suffixes do not count"
        )
    if len(tasks) > 1 or (images and tasks):
        raise DataError(
            "a CVAT file holds several tasks whose frames cannot be told apart; export "
            "each task on its own"
        )
    height, width = sizes.pop() if len(sizes) == 1 else (None, None)
    videos = {k: FrameOutlines(height, width, tuple(v)) for k, v in frames.items()}
    return images or videos


def _parts(path: Path) -> Iterator[Element]:
    """Yield every part once it is complete, and forget it afterwards."""
    try:
        with path.open("rb") as stream:
            parsed = iterparse(stream, events=("start", "end"), forbid_dtd=True)
            _, root = next(parsed)
            is_cvat = root.tag == "annotations"
            for event, element in parsed if is_cvat else ():
                if event == "end" and element.tag in PARTS:
                    yield element
                    root.clear()
    except OSError:
        raise DataError(CANNOT_OPEN) from None
    except DefusedXmlException:
        raise DataError(
            "a CVAT file declares a document type or entities, which CVAT never does "
            "and which can be an attack; export it again"
        ) from None
    except (ParseError, LookupError, ValueError):  # the last two: its encoding
        raise DataError(
            "a CVAT file is no valid XML; is it complete? Export it again"
        ) from None
    if not is_cvat:
        raise DataError("a CVAT file must hold `annotations`, got another XML")


def _read_image(image: Element) -> FrameOutlines:
    outlines = [_read_shape(shape) for shape in image if shape.tag in SHAPES]
    height, width = _side(image, "height"), _side(image, "width")
    return FrameOutlines(height, width, tuple(outlines))


def _read_track(track: Element) -> Iterator[tuple[int, Outline]]:
    label = _attribute(track, "label")
    for shape in track:
        if shape.tag in SHAPES and shape.get("outside") != "1":
            number = whole_number(shape.get("frame"), "the frame of a CVAT shape")
            yield number, _read_shape(shape, label)


def _read_shape(shape: Element, label: str | None = None) -> Outline:
    if label is None:
        label = _attribute(shape, "label")
    match shape.tag:
        case "polyline":
            return Outline(label, "polyline", (_read_points(shape, 2),))
        case "polygon":
            return Outline(label, "polygon", (_read_points(shape, 3),))
        case "box":
            return Outline(label, "polygon", (_read_box(shape),))
        case "mask":
            return Outline(label, "mask", mask=_read_mask(shape))
        case _:
            return Outline(label, "polygon")


def _read_points(shape: Element, at_least: int) -> NDArray[np.float64]:
    pairs = _attribute(shape, "points").strip("; ").split(";")
    numbers = [[_number(number) for number in pair.split(",")] for pair in pairs]
    return to_points(numbers, at_least)


def _read_box(shape: Element) -> NDArray[np.float64]:
    """Return the corners; boxes turn clockwise, in degrees, about their centre."""
    names = ("xtl", "ytl", "xbr", "ybr")
    x0, y0, x1, y1 = (_number(_attribute(shape, name)) for name in names)
    corners = to_points([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], 4)
    turn = np.deg2rad(_number(shape.get("rotation", "0")))
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    centre = corners.mean(axis=0)
    return (corners - centre) @ rotation + centre


def _read_mask(shape: Element) -> RunLengths:
    height, width, top, left = (
        whole_number(shape.get(name), "the box of a CVAT mask")
        for name in ("height", "width", "top", "left")
    )
    counts = [
        whole_number(count, "a run length of a CVAT mask")
        for count in _attribute(shape, "rle").split(",")
    ]
    return from_rows(counts, side_px(height), side_px(width), top=top, left=left)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError("a number in a CVAT file must be finite, got something else")
    return number


def _attribute(element: Element, name: str) -> str:
    value = element.get(name)
    if value is None:
        raise DataError(
            f"an element of a CVAT file has no `{name}`, which CVAT always writes; "
            "export it again"
        )
    return value


def _side(element: Element, name: str) -> int | None:
    """Read a side from an attribute or, for `original_size`, from a child."""
    return stated_side_px(element.get(name, element.findtext(name)))
