"""A file's format is found by looking inside, at its beginning only."""

import json
from pathlib import Path

import pytest

from clients.annotations import formats
from clients.annotations.formats import kind_of
from clients.data.errors import DataError

SHAPE = {"label": "x", "points": [[1, 2], [3, 4]], "shape_type": "line"}
IMAGE = {"id": 1, "file_name": "a.png", "height": 3, "width": 4}
OBJECT = {"image_id": 1, "category_id": 1, "segmentation": [[1, 2, 3, 4, 5, 6]]}
LONG = "A" * 2 * formats.HEAD_BYTES

JSON = {
    "labelme": [
        {"version": "5", "flags": {}, "shapes": [], "imagePath": "a.png"},
        {"shapes": [SHAPE] * 5_000, "imagePath": "a.png"},
        {"imageData": LONG, "imagePath": "a.png", "shapes": [SHAPE]},
        {"shapes": [{**SHAPE, "label": 'a "}]" b'}]},
        {"shapes": [], "imageHeight": 3},
    ],
    "coco": [
        {"info": {}, "images": [IMAGE], "annotations": [OBJECT], "categories": []},
        {"images": [], "annotations": [], "categories": []},
        {"info": {"description": "x"}, "images": [IMAGE] * 5_000, "annotations": []},
        {"annotations": [OBJECT] * 5_000, "images": [IMAGE]},
        {"categories": [{"id": 1, "name": "shapes"}], "images": []},
    ],
    None: [
        {},
        [],
        [IMAGE],
        "shapes",
        {"images": 3},
        {"shapes": [1, 2]},
        {"data": {"images": [IMAGE], "annotations": [], "shapes": []}},
        {"items": [{"images": [], "annotations": []}]},
        {"name": "images", "value": "annotations"},
    ],
}
CASES = [(kind, value) for kind, values in JSON.items() for value in values]


@pytest.mark.parametrize("kind, value", CASES, ids=[str(k) for k, _ in CASES])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_is_told_by_its_keys(
    tmp_path: Path, kind: str | None, value: object, encoding: str
) -> None:
    path = tmp_path / "a.JSON"
    path.write_text(json.dumps(value, indent=1), encoding=encoding)

    assert kind_of(path) == kind


@pytest.mark.parametrize(
    "text, kind",
    [
        ("<annotations><version>1.1</version></annotations>", "cvat"),
        ('<?xml version="1.0"?>\n<!-- <a> -->\n<annotations>\n <meta>', "cvat"),
        ('<annotations><image id="0"/></annotations>', "cvat"),
        ("<annotations/>", "cvat"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><annotations><meta/></annotations>', "cvat"),
        ("<annotation><folder/><object/></annotation>", None),
        ("<annotations><other/></annotations>", None),
        ("<html><annotations/></html>", None),
        ("", None),
        ("no XML", None),
    ],
)
def test_xml_is_told_by_its_first_elements(
    tmp_path: Path, text: str, kind: str | None
) -> None:
    path = tmp_path / "a.xml"
    path.write_text(text)

    assert kind_of(path) == kind


@pytest.mark.parametrize(
    "stored, kind",
    [
        (b"", None),
        (bytes(range(256)) * 9, None),
        (b'{"shapes": [{"points": [[1, 2', "labelme"),
        (b'{"images": [{"file_name": "a', "coco"),
        (b"[" * 100_000, None),
        (b"}" * 100_000, None),
        (b'"' * 99_999, None),
        (b'{"a": "' + b"\\" * 99_999, None),
    ],
)
def test_damaged_files_do_no_harm(
    tmp_path: Path, stored: bytes, kind: str | None
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(stored)

    assert kind_of(path) == kind


def test_other_files_are_not_even_opened(tmp_path: Path) -> None:
    assert kind_of(tmp_path / "missing.png") is None


def test_a_file_that_cannot_be_opened_says_so_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be opened") as caught:
        kind_of(tmp_path / "missing.json")

    assert str(tmp_path) not in str(caught.value)
