"""Which annotation format a file has, found out by looking inside.

Names tell nothing: Labelme, COCO and everything else end in .json. Only the beginning
of a file is read, for a COCO file may have hundreds of megabytes and is parsed once,
by its reader. A file is recognised even if it is damaged further on, so that its
reader can say so.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from clients.annotations.documents import CANNOT_OPEN
from clients.data.errors import DataError

Kind = Literal["labelme", "coco", "cvat"]
SUFFIXES = (".json", ".xml")
HEAD_BYTES = 2**16
"""Enough for the first image, object or shape after any header that tools write."""
TOKENS = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)("\s*:|"|$)|[{}\[\]]', re.DOTALL)
"""Of JSON: text, the key of an entry, a bracket; text may be cut off by the end."""
COMMENTS = re.compile(r"<!--.*?(-->|$)", re.DOTALL)
FIRST_ELEMENT = re.compile(r"<([A-Za-z_][\w.:-]*)")


def kind_of(path: Path) -> Kind | None:
    """Tell which reader a file needs.

    Args:
        path: Of any file; only .json and .xml are opened.

    Returns:
        Its format, or None if it is none of them.

    Raises:
        DataError: If it cannot be opened.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        return None
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError:
        raise DataError(CANNOT_OPEN) from None
    text = head.decode(json.detect_encoding(head), errors="ignore")
    return _kind_of_json(text) if suffix == ".json" else _kind_of_xml(text)


def _kind_of_json(head: str) -> Kind | None:
    keys = set(_keys(head))
    outer = {key for key, *inner in keys if not inner}
    beside_shapes = {"imagePath", "imageData", "imageHeight"} & outer
    if "shapes" in outer and (beside_shapes or ("shapes", "points") in keys):
        return "labelme"
    if "imageData" in outer:  # so large that nothing after it was read
        return "labelme"
    if len(outer & {"images", "annotations", "categories"}) >= 2:
        return "coco"
    if {("images", "file_name"), ("annotations", "image_id")} & keys:
        return "coco"
    return None


def _keys(head: str) -> Iterator[tuple[str, ...]]:
    """Yield every key of a JSON object after the keys that it lies under."""
    above: list[str | None] = []
    key = None
    for token in TOKENS.finditer(head):
        text, end = token.groups()
        if end is not None and end.endswith(":"):
            key = text
            yield *(name for name in above if name), key
        elif end is None and token[0] in "{[":
            above.append(key)
            key = None
        elif end is None and above:
            above.pop()


def _kind_of_xml(head: str) -> Kind | None:
    elements = FIRST_ELEMENT.findall(COMMENTS.sub("", head))
    is_cvat = elements[:1] == ["annotations"] and (
        len(elements) == 1 or elements[1] in ("version", "meta", "image", "track")
    )
    return "cvat" if is_cvat else None
