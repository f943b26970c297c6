"""COCO files become outlines; damaged and hostile ones become one sentence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from clients.annotations.annotation import LabelMap
from clients.annotations.coco import read_coco
from clients.annotations.drawing import DrawnAnnotation
from clients.data.errors import DataError

SQUARE = [2, 2, 6, 2, 6, 6, 2, 6]


def make_document(*segmentations: object, **changes: object) -> dict[str, Any]:
    """Build a document with one 8x10 image and one guidewire per segmentation."""
    annotations = [
        {"id": k, "image_id": 7, "category_id": 2, "segmentation": s, "iscrowd": 0}
        for k, s in enumerate(segmentations)
    ]
    return {
        "images": [{"id": 7, "file_name": "a/DOE_01.png", "height": 8, "width": 10}],
        "categories": [{"id": 1, "name": "catheter"}, {"id": 2, "name": "guidewire"}],
        "annotations": annotations,
        **changes,
    }


def write(folder: Path, document: object) -> Path:
    path = folder / "coco.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def draw(path: Path, image: str = "DOE_01") -> dict[str, np.ndarray]:
    annotation = DrawnAnnotation(read_coco(path)[image], LabelMap())
    return annotation.layers(8, 10, None)


def test_polygons_are_filled_and_the_other_class_is_empty(tmp_path: Path) -> None:
    layers = draw(write(tmp_path, make_document([SQUARE])))

    expected = np.zeros((8, 10))
    expected[2:6, 2:6] = 1
    np.testing.assert_array_equal(layers["guidewire"], expected)
    assert not layers["catheter"].any()


# pycocotools 2.0.11 has not yet caught up with NumPy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_polygons_of_an_object_add_up_as_in_pycocotools(tmp_path: Path) -> None:
    shifted = [4, 2, 8, 2, 8, 6, 4, 6]
    expected = coco_mask.decode(
        coco_mask.merge(coco_mask.frPyObjects([SQUARE, shifted], 8, 10))
    )

    layers = draw(write(tmp_path, make_document([SQUARE, shifted])))

    np.testing.assert_array_equal(layers["guidewire"], expected)
    assert layers["guidewire"].sum() == 4 * 6  # the overlap is no hole


@pytest.mark.parametrize("is_compressed", [True, False])
def test_run_lengths_are_decoded(tmp_path: Path, is_compressed: bool) -> None:
    mask = np.random.default_rng(0).random((8, 10)) < 0.3
    mask[0, 0] = False
    if is_compressed:
        encoded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        runs = {"size": [8, 10], "counts": encoded["counts"].decode()}
    else:
        changes = np.flatnonzero(np.diff(mask.T.ravel().astype(int))) + 1
        counts = np.diff([0, *changes, mask.size]).tolist()
        runs = {"size": [8, 10], "counts": counts}

    layers = draw(write(tmp_path, make_document(runs)))

    np.testing.assert_array_equal(layers["guidewire"], mask)


def test_a_crowd_counts_like_any_other_object(tmp_path: Path) -> None:
    document = make_document({"size": [8, 10], "counts": [0, 8, 72]})
    document["annotations"][0]["iscrowd"] = 1

    assert draw(write(tmp_path, document))["guidewire"].sum() == 8


def test_several_categories_and_images_are_kept_apart(tmp_path: Path) -> None:
    document = make_document([SQUARE], [[0, 0, 3, 0, 3, 1, 0, 1]])
    document["annotations"][1]["category_id"] = 1
    document["images"].append({"id": 8, "file_name": "DOE_02.png"})
    document["annotations"].append(
        {"image_id": 8, "category_id": 1, "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]}
    )
    path = write(tmp_path, document)

    first, second = draw(path), draw(path, "DOE_02")

    assert (first["catheter"].sum(), first["guidewire"].sum()) == (3, 16)
    assert (second["catheter"].sum(), second["guidewire"].sum()) == (4, 0)


def test_an_image_without_objects_was_looked_at(tmp_path: Path) -> None:
    found = read_coco(write(tmp_path, make_document()))

    assert found["DOE_01"].outlines == ()
    assert (found["DOE_01"].height, found["DOE_01"].width) == (8, 10)


def test_an_image_may_keep_its_size_to_itself(tmp_path: Path) -> None:
    runs = {"size": [8, 10], "counts": [0, 8, 72]}
    document = make_document(runs, images=[{"id": 7, "file_name": "b.png"}])

    assert draw(write(tmp_path, document), "b")["guidewire"].sum() == 8


def test_names_may_be_written_in_any_alphabet_and_with_any_slash(
    tmp_path: Path,
) -> None:
    images = [
        {"id": 7, "file_name": "C:\\Röntgen\\Jörg 1.2.png"},
        {"id": "eight", "file_name": "ü/血管"},
    ]

    found = read_coco(write(tmp_path, make_document(images=images)))

    assert set(found) == {"Jörg 1.2", "血管"}


def test_an_object_with_only_a_box_has_nothing_to_draw(tmp_path: Path) -> None:
    path = write(tmp_path, make_document([]))

    with pytest.raises(DataError, match="draw polygons, polylines or masks"):
        draw(path)


def test_nothing_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    draw(write(tmp_path, make_document([SQUARE])))
    with pytest.raises(DataError):
        draw(write(tmp_path, make_document({"size": [8, 10], "counts": "22"})))

    assert tuple(capfd.readouterr()) == ("", "")
    assert not caplog.records


HOSTILE = {
    "a list": [],
    "no images": {"annotations": [], "categories": []},
    "images no list": make_document(images={"7": 1}),
    "an image that is text": make_document(images=["SECRET"]),
    "an image without id": make_document(images=[{"file_name": "SECRET.png"}]),
    "two images of one id": make_document(images=[{"id": 7}, {"id": 7}]),
    "an id that is a list": make_document(images=[{"id": [7], "file_name": "a"}]),
    "an image without name": make_document(images=[{"id": 7}]),
    "two images of one name": make_document(
        images=[
            {"id": 7, "file_name": "a/SECRET.png"},
            {"id": 8, "file_name": "SECRET.jpg"},
        ]
    ),
    "a height of text": make_document(
        images=[{"id": 7, "file_name": "a", "height": "SECRET", "width": 3}]
    ),
    "a height of 0": make_document(
        images=[{"id": 7, "file_name": "a", "height": 0, "width": 3}]
    ),
    "an endless height": make_document(
        images=[{"id": 7, "file_name": "a", "height": 10**400, "width": 3}]
    ),
    "an unknown image": make_document([SQUARE], images=[]),
    "an unknown category": make_document([SQUARE], categories=[]),
    "a category without name": make_document(categories=[{"id": 2}]),
    "annotations no list": make_document(annotations="SECRET"),
    "an annotation that is text": make_document(annotations=["SECRET"]),
    "a flat polygon": make_document(SQUARE),
    "an odd number of coordinates": make_document([[1, 2, 3, 4, 5, 6, 7]]),
    "a polygon of 2 points": make_document([[1, 2, 3, 4]]),
    "a polygon of text": make_document([["SECRET"] * 6]),
    "NaN": make_document([[float("nan"), 2, 3, 4, 5, 6]]),
    "infinity": make_document([[float("inf"), 2, 3, 4, 5, 6]]),
    "the smallest integer": make_document([[-(2**63), 2, 3, 4, 5, 6]]),
    "a mask without size": make_document({"counts": [80]}),
    "a mask of one side": make_document({"size": [80], "counts": [80]}),
    "a mask of another size": make_document({"size": [10, 8], "counts": [80]}),
    "a mask of giant size": make_document({"size": [2**40, 1], "counts": [80]}),
    "a mask without counts": make_document({"size": [8, 10]}),
    "too few counts": make_document({"size": [8, 10], "counts": [79]}),
    "too many counts": make_document({"size": [8, 10], "counts": [81]}),
    "a negative count": make_document({"size": [8, 10], "counts": [90, -10]}),
    "a damaged code": make_document({"size": [8, 10], "counts": "SECRET"}),
    "a segmentation of text": make_document("SECRET"),
}


@pytest.mark.parametrize("document", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_damaged_file_is_one_sentence_that_quotes_nothing(
    tmp_path: Path, document: object
) -> None:
    with pytest.raises(DataError) as caught:
        read_coco(write(tmp_path, document))

    text = str(caught.value)
    assert (
        "SECRET" not in text and str(tmp_path) not in text and "coco.json" not in text
    )
    assert caught.value.__cause__ is None
