"""Labelme files become outlines; damaged ones become one sentence."""

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from clients.annotations.annotation import LabelMap
from clients.annotations.drawing import DrawnAnnotation
from clients.annotations.labelme import image_name, read_labelme
from clients.data.errors import DataError

PNG = base64.b64encode(
    cv2.imencode(".png", np.eye(3, dtype=np.uint8) * 255)[1]
).decode()


def make_shape(kind: str | None, points: object, label: object = "guidewire") -> dict:
    shape = {"label": label, "points": points, "group_id": None, "flags": {}}
    return shape if kind is None else {**shape, "shape_type": kind}


def make_document(*shapes: object, **changes: object) -> dict[str, Any]:
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": "..\\SECRET\\Jörg 1.2.png",
        "imageData": "SECRET no image at all",
        "imageHeight": 8,
        "imageWidth": 10,
        **changes,
    }


def write(folder: Path, document: object, encoding: str = "utf-8") -> Path:
    path = folder / "labelme.json"
    path.write_text(json.dumps(document, ensure_ascii=False), encoding=encoding)
    return path


def draw(path: Path) -> np.ndarray:
    labels = LabelMap(classes=("guidewire",), line_width=1.0)
    return DrawnAnnotation(read_labelme(path), labels).layers(8, 10, None)["guidewire"]


@pytest.mark.parametrize("kind", ["polygon", None])
def test_polygons_are_filled_also_where_the_type_is_missing(
    tmp_path: Path, kind: str | None
) -> None:
    shape = make_shape(kind, [[2, 2], [6.0, 2], [6, 6], [2, 6]])

    drawn = draw(write(tmp_path, make_document(shape)))

    assert drawn.sum() == drawn[2:6, 2:6].sum() == 16


def test_a_null_type_is_a_polygon(tmp_path: Path) -> None:
    shape = {**make_shape(None, [[0, 0], [4, 0], [4, 4]]), "shape_type": None}

    assert read_labelme(write(tmp_path, make_document(shape))).outlines[0].kind == (
        "polygon"
    )


@pytest.mark.parametrize(
    "points", [[[6, 2], [2, 7]], [[2, 2], [6, 2], [6, 7], [2, 7]]], ids=["2", "4"]
)
def test_rectangles_are_filled_from_any_two_or_all_four_corners(
    tmp_path: Path, points: list
) -> None:
    drawn = draw(write(tmp_path, make_document(make_shape("rectangle", points))))

    assert drawn.sum() == drawn[2:7, 2:6].sum() == 20


@pytest.mark.parametrize("kind", ["line", "linestrip"])
def test_lines_are_drawn_open_with_the_declared_width(
    tmp_path: Path, kind: str
) -> None:
    points = [[1.5, 1.5], [8.5, 1.5]] + ([[8.5, 6.5]] if kind == "linestrip" else [])

    drawn = draw(write(tmp_path, make_document(make_shape(kind, points))))

    expected = np.zeros((8, 10))
    expected[1, 1:9] = 1
    if kind == "linestrip":
        expected[1:7, 8] = 1
    np.testing.assert_array_equal(drawn, expected)


def test_a_mask_lies_in_its_box(tmp_path: Path) -> None:
    shape = {**make_shape("mask", [[4, 2], [6, 4]]), "mask": PNG}

    drawn = draw(write(tmp_path, make_document(shape)))

    assert np.argwhere(drawn).tolist() == [[2, 4], [3, 5], [4, 6]]


@pytest.mark.parametrize("kind", ["point", "circle", "points", "SECRET"])
def test_shapes_without_outline_harm_only_under_a_class(
    tmp_path: Path, kind: str
) -> None:
    tip = write(tmp_path, make_document(make_shape(kind, [[1, 2]], "tip")))
    annotation = DrawnAnnotation(
        read_labelme(tip), LabelMap(ignored=frozenset({"tip"}))
    )
    assert not annotation.layers(8, 10, None)["guidewire"].any()

    device = write(tmp_path, make_document(make_shape(kind, [[1, 2]])))
    with pytest.raises(DataError, match="draw polygons, polylines or masks"):
        draw(device)


def test_an_image_without_shapes_was_looked_at(tmp_path: Path) -> None:
    found = read_labelme(write(tmp_path, make_document()))

    assert (found.height, found.width, found.outlines) == (8, 10, ())


def test_a_size_that_is_missing_or_null_is_unknown(tmp_path: Path) -> None:
    document = make_document(imageHeight=None)
    del document["imageWidth"]

    found = read_labelme(write(tmp_path, document))

    assert (found.height, found.width) == (None, None)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_labels_stay_as_they_were_written(tmp_path: Path, encoding: str) -> None:
    shape = make_shape("line", [[1, 2], [3, 4]], " Führungsdraht 1 ")

    found = read_labelme(write(tmp_path, make_document(shape), encoding))

    assert found.outlines[0].label == " Führungsdraht 1 "


def test_the_name_of_the_image_has_no_folder_and_no_suffix(tmp_path: Path) -> None:
    assert image_name(write(tmp_path, make_document())) == "Jörg 1.2"


@pytest.mark.parametrize("name", [None, 3, ["SECRET"]])
def test_a_file_that_does_not_say_its_image_is_an_error(
    tmp_path: Path, name: object
) -> None:
    path = write(tmp_path, make_document(imagePath=name))

    with pytest.raises(DataError, match="`imagePath` of a Labelme file must be text"):
        image_name(path)


SHAPES = {
    "text": "SECRET",
    "no label": {"points": [[1, 2], [3, 4], [5, 6]]},
    "a number as label": make_shape("polygon", [[1, 2], [3, 4], [5, 6]], 7),
    "no points": make_shape("polygon", None),
    "no point at all": make_shape("polygon", []),
    "a polygon of 2 points": make_shape("polygon", [[1, 2], [3, 4]]),
    "a line of 1 point": make_shape("line", [[1, 2]]),
    "a rectangle of 3 corners": make_shape("rectangle", [[1, 2], [3, 4], [5, 6]]),
    "NaN": make_shape("line", [[1, 2], [float("nan"), 4]]),
    "infinity": make_shape("line", [[1, 2], [float("-inf"), 4]]),
    "too far": make_shape("line", [[1, 2], [1e9, 4]]),
    "too large for any type": make_shape("line", [[1, 2], [10**400, 4]]),
    "text as points": make_shape("line", [["SECRET", "2"], ["3", "4"]]),
    "three coordinates": make_shape("line", [[1, 2, 3], [4, 5, 6]]),
    "ragged": make_shape("line", [[1, 2], [3]]),
    "null": make_shape("line", [[1, 2], None]),
    "true": make_shape("line", [[True, False], [True, True]]),
    "objects": make_shape("line", [{"x": 1}, {"x": 2}]),
    "a mask without pixels": make_shape("mask", [[1, 2], [3, 4]]),
    "a mask that is no base64": {**make_shape("mask", [[1, 2]]), "mask": "SECRET!"},
    "a mask that is no image": {**make_shape("mask", [[1, 2]]), "mask": "SECR"},
    "an empty mask": {**make_shape("mask", [[1, 2]]), "mask": ""},
    "a mask nowhere": {**make_shape("mask", []), "mask": PNG},
}
DOCUMENTS = {
    **{f"a shape: {name}": make_document(shape) for name, shape in SHAPES.items()},
    "a list": ["SECRET"],
    "no shapes": {"imagePath": "SECRET.png"},
    "shapes that are text": make_document(shapes="SECRET"),
    "a height of text": make_document(imageHeight="SECRET"),
    "a negative height": make_document(imageHeight=-8),
    "half a pixel": make_document(imageHeight=8.5),
    "a height of true": make_document(imageHeight=True),
    "a height of infinity": make_document(imageHeight=float("inf")),
}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_a_damaged_file_is_one_sentence_that_quotes_nothing(
    tmp_path: Path, document: object, capfd: pytest.CaptureFixture
) -> None:
    with pytest.raises(DataError) as caught:
        read_labelme(write(tmp_path, document))

    text = str(caught.value)
    assert "SECRET" not in text and str(tmp_path) not in text and ".json" not in text
    assert caught.value.__cause__ is None
    assert tuple(capfd.readouterr()) == ("", "")
