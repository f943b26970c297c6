"""Outlines out of Labelme's JSON: one file for each image, as TCGSeg has them.

Coordinates are px from the corner of the top left pixel, as on Labelme's canvas
[labelme/widgets/canvas.py, labelme/shape.py]. Polygons, rectangles, lines, line strips
and masks are read. Points, circles and other shapes have no outline: they do no harm
under an ignored label and are an error under a class.

The copy of the image that Labelme keeps in the file (`imageData`) is not looked at.
"""

import base64
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
    stated_side_px,
    to_points,
)
from clients.annotations.mask_pixels import decode_mask
from clients.annotations.run_lengths import RunLengths, encode_mask
from clients.data.errors import DataError


def read_labelme(path: Path) -> FrameOutlines:
    """Read what was drawn on one image.

    Args:
        path: Of the JSON file.

    Returns:
        The outlines with their labels as written, and the image's size.

    Raises:
        DataError: If the file cannot be opened or is damaged; the text quotes nothing
            of it.
    """
    document = read_json(path)
    shapes = as_list(document.get("shapes"), "`shapes` of a Labelme file")
    return FrameOutlines(
        height=stated_side_px(document.get("imageHeight")),
        width=stated_side_px(document.get("imageWidth")),
        outlines=tuple(_read_shape(shape) for shape in shapes),
    )


def image_name(path: Path) -> str:
    """Tell which image was annotated.

    Args:
        path: Of the JSON file.

    Returns:
        The image's name without folders and suffix. Identifying: never shown.

    Raises:
        DataError: If the file cannot be opened, is damaged or does not say.
    """
    name = read_json(path).get("imagePath")
    return image_stem(as_text(name, "`imagePath` of a Labelme file"))


def _read_shape(value: object) -> Outline:
    shape = as_object(value, "a shape of a Labelme file")
    label = as_text(shape.get("label"), "the label of a shape of a Labelme file")
    points = as_list(shape.get("points"), "the points of a shape of a Labelme file")
    match shape.get("shape_type") or "polygon":  # old versions wrote none or null
        case "polygon":
            return Outline(label, "polygon", (to_points(points, 3),))
        case "rectangle":
            return Outline(label, "polygon", (_read_rectangle(points),))
        case "line" | "linestrip":
            return Outline(label, "polyline", (to_points(points, 2),))
        case "mask":
            return Outline(label, "mask", mask=_read_mask(shape, points))
        case _:
            return Outline(label, "polygon")


def _read_rectangle(points: list[object]) -> NDArray[np.float64]:
    corners = to_points(points, 2)
    if len(corners) == 2:  # opposite ones; some editors write all four
        (x0, y0), (x1, y1) = corners
        corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    if len(corners) != 4:
        raise DataError(f"a rectangle needs 2 or 4 corners, got {len(corners)}")
    return corners


def _read_mask(shape: dict[str, Any], points: list[object]) -> RunLengths:
    """Read the mask of a box; its first point is the top left pixel [labelme 5.2]."""
    written = as_text(shape.get("mask"), "the mask of a shape of a Labelme file")
    try:
        stored = base64.b64decode(written, validate=True)
    except ValueError:
        raise DataError("a mask in a Labelme file is damaged; save it again") from None
    left, top = to_points(points, 1)[0].astype(int)
    return encode_mask(decode_mask(stored, None) != 0, top=int(top), left=int(left))
