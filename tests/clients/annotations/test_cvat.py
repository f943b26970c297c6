"""CVAT files become outlines; damaged and hostile ones become one sentence."""

from pathlib import Path

import numpy as np
import pytest

from clients.annotations.annotation import LabelMap
from clients.annotations.cvat import read_cvat
from clients.annotations.drawing import DrawnAnnotation
from clients.data.errors import DataError

LINE = '<polyline label="guidewire" occluded="0" points="1.50,1.50;8.50,1.50"/>'


def write(folder: Path, inside: str, *, before: str = "") -> Path:
    path = folder / "annotations.xml"
    path.write_text(
        f'<?xml version="1.0" encoding="utf-8"?>{before}\n'
        f"<annotations><version>1.1</version>{inside}</annotations>",
        encoding="utf-8",
    )
    return path


def image(inside: str, name: str = "a/DOE_01.png") -> str:
    return f'<image id="0" name="{name}" width="10" height="8">{inside}</image>'


def track(inside: str, label: str = "guidewire", more: str = "") -> str:
    return f'<track id="0" label="{label}" {more}>{inside}</track>'


def draw(path: Path, key: str | int = "DOE_01") -> dict[str, np.ndarray]:
    annotation = DrawnAnnotation(read_cvat(path)[key], LabelMap(line_width=1.0))
    return annotation.layers(8, 10, None)


def test_polylines_of_images_are_drawn(tmp_path: Path) -> None:
    catheter = '<polyline label="catheter" points="2.5,0.5;2.5,7.5"></polyline>'

    layers = draw(write(tmp_path, image(LINE + catheter)))

    assert np.argwhere(layers["guidewire"]).tolist() == [[1, x] for x in range(1, 9)]
    assert np.argwhere(layers["catheter"]).tolist() == [[y, 2] for y in range(8)]


def test_polygons_and_boxes_are_filled(tmp_path: Path) -> None:
    inside = (
        '<polygon label="guidewire" points="2,2;6,2;6,6;2,6"/>'
        '<box label="catheter" xtl="1.00" ytl="2.00" xbr="5.00" ybr="4.00"/>'
    )

    layers = draw(write(tmp_path, image(inside)))

    assert layers["guidewire"][2:6, 2:6].sum() == layers["guidewire"].sum() == 16
    assert layers["catheter"][2:4, 1:5].sum() == layers["catheter"].sum() == 8


def test_a_box_that_is_turned_by_90_degrees_stands_upright(tmp_path: Path) -> None:
    box = '<box label="catheter" xtl="1" ytl="3" xbr="5" ybr="5" rotation="{}"></box>'

    upright = draw(write(tmp_path, image(box.format("90.00"))))["catheter"]
    tilted = read_cvat(write(tmp_path, image(box.format("30"))))["DOE_01"]

    assert upright[2:6, 2:4].sum() == upright.sum() == 8
    # Clockwise: the left end of the upper edge goes up. (1, 3) about (3, 4):
    x, y = 3 - 2 * np.cos(np.pi / 6) + 0.5, 4 - 2 * 0.5 - np.cos(np.pi / 6)
    np.testing.assert_allclose(tilted.outlines[0].points[0][0], [x, y])


def test_a_mask_lies_in_its_box(tmp_path: Path) -> None:
    # Rows of a 3x2 box: . 1 .  /  . 1 1
    mask = (
        '<mask label="guidewire" rle="1, 1, 2, 2" left="4" top="5" width="3" '
        'height="2"/>'
    )

    layers = draw(write(tmp_path, image(mask)))

    assert np.argwhere(layers["guidewire"]).tolist() == [[5, 5], [6, 5], [6, 6]]


@pytest.mark.parametrize("kind", ["points", "ellipse", "cuboid", "skeleton"])
def test_shapes_without_outline_harm_only_under_a_class(
    tmp_path: Path, kind: str
) -> None:
    shape = f'<{kind} label="guidewire" points="1,2"/>'

    with pytest.raises(DataError, match="draw polygons, polylines or masks"):
        draw(write(tmp_path, image(shape)))


def test_tags_and_attributes_are_skipped(tmp_path: Path) -> None:
    inside = LINE.replace("/>", '><attribute name="x">SECRET</attribute></polyline>')

    layers = draw(write(tmp_path, image(inside + '<tag label="SECRET"/>')))

    assert layers["guidewire"].sum() == 8


def test_an_image_without_shapes_was_looked_at(tmp_path: Path) -> None:
    found = read_cvat(write(tmp_path, image(LINE) + image("", "Jörg 1.2.png")))

    assert set(found) == {"DOE_01", "Jörg 1.2"}
    assert found["Jörg 1.2"].outlines == ()
    assert (found["Jörg 1.2"].height, found["Jörg 1.2"].width) == (8, 10)


def test_a_video_gives_the_frames_that_the_file_lists(tmp_path: Path) -> None:
    size = (
        "<meta><task><name>SECRET</name><original_size><width>10</width>"
        "<height>8</height></original_size></task></meta>"
    )
    shapes = "".join(
        f'<polyline frame="{k}" outside="{outside}" keyframe="{key}" '
        f'points="0.5,{y};9.5,{y}"/>'
        for k, outside, key, y in ((3, 0, 1, 2.5), (4, 0, 0, 3.5), (5, 1, 1, 3.5))
    )
    other = '<polygon frame="4" outside="0" keyframe="1" points="0,0;4,0;4,4;0,4"/>'

    path = write(tmp_path, size + track(shapes) + track(other, "catheter"))

    assert set(read_cvat(path)) == {3, 4}
    third, fourth = draw(path, 3), draw(path, 4)
    assert third["guidewire"][2].all() and third["guidewire"].sum() == 10
    assert fourth["guidewire"][3].all() and fourth["guidewire"].sum() == 10
    assert (third["catheter"].sum(), fourth["catheter"].sum()) == (0, 16)
    assert (read_cvat(path)[3].height, read_cvat(path)[3].width) == (8, 10)


def test_a_frame_where_all_tracks_have_ended_is_not_called_empty(
    tmp_path: Path,
) -> None:
    shape = '<polyline frame="5" outside="1" keyframe="1" points="0,2;9,3"/>'

    assert read_cvat(write(tmp_path, track(shape))) == {}


def test_a_file_without_anything_holds_nothing(tmp_path: Path) -> None:
    assert read_cvat(write(tmp_path, "")) == {}


def test_a_long_file_is_forgotten_while_it_is_read(tmp_path: Path) -> None:
    inside = "".join(image(LINE, f"{k}.png") for k in range(500))

    found = read_cvat(write(tmp_path, inside))

    assert len(found) == 500
    assert all(len(frame.outlines) == 1 for frame in found.values())


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "SECRET">'
    + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">'
        for a, b in zip("abcdefghi", "bcdefghij", strict=True)
    )
    + "]>"
)
FILE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
EXTERNAL = '<!DOCTYPE x SYSTEM "http://localhost:1/SECRET.dtd">'


@pytest.mark.parametrize("before", [BOMB, FILE, EXTERNAL, "<!DOCTYPE x>"])
def test_a_file_with_entities_is_refused_before_they_grow(
    tmp_path: Path, before: str
) -> None:
    entity = "&j;" if before == BOMB else "&a;"
    path = write(tmp_path, image("", f"{entity}.png"), before=before)

    with pytest.raises(DataError, match="which can be an attack") as caught:
        read_cvat(path)

    assert "SECRET" not in str(caught.value)


def make_mask(**changes: str) -> str:
    box = {"rle": "1,5", "left": "0", "top": "0", "width": "3", "height": "2"}
    pairs = " ".join(f'{key}="{value}"' for key, value in {**box, **changes}.items())
    return f'<mask label="catheter" {pairs}/>'


SHAPES = {
    "no label": '<polyline points="1,2;3,4"/>',
    "no points": '<polyline label="SECRET"/>',
    "empty points": '<polyline label="SECRET" points=""/>',
    "one point": '<polyline label="SECRET" points="1,2"/>',
    "a polygon of 2 points": '<polygon label="SECRET" points="1,2;3,4"/>',
    "text as points": '<polyline label="x" points="SECRET,2;3,4"/>',
    "NaN": '<polyline label="x" points="nan,2;3,4"/>',
    "infinity": '<polyline label="x" points="1e999,2;3,4"/>',
    "too far": '<polyline label="x" points="1e9,2;3,4"/>',
    "one coordinate": '<polyline label="x" points="1;3"/>',
    "ragged": '<polyline label="x" points="1,2;3"/>',
    "a hole in the points": '<polyline label="x" points="1,2;;3,4"/>',
    "a box without corner": '<box label="x" xtl="1" ytl="2" xbr="3"/>',
    "a box of text": '<box label="x" xtl="SECRET" ytl="2" xbr="3" ybr="4"/>',
    "a box that turns forever": (
        '<box label="x" xtl="1" ytl="2" xbr="3" ybr="4" rotation="inf"/>'
    ),
    "a mask without runs": '<mask label="x" left="0" top="0" width="1" height="1"/>',
    "runs of text": make_mask(rle="SECRET"),
    "too few runs": make_mask(rle="1,4"),
    "too many runs": make_mask(rle="1,6"),
    "a negative run": make_mask(rle="-1,7"),
    "a mask of no size": make_mask(width="0"),
    "a mask of giant size": make_mask(width="99999999999"),
    "a mask nowhere": make_mask(left="SECRET"),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_damaged_shape_is_one_sentence_that_quotes_nothing(
    tmp_path: Path, shape: str
) -> None:
    with pytest.raises(DataError) as caught:
        read_cvat(write(tmp_path, image(shape)))

    assert "SECRET" not in str(caught.value) and str(tmp_path) not in str(caught.value)
    assert caught.value.__cause__ is None


DOCUMENTS = {
    "another root": b"<SECRET/>",
    "nothing": b"",
    "no XML": b"SECRET",
    "half a file": b'<annotations><image name="SECRET.png"><polyline',
    "an unknown encoding": b'<?xml version="1.0" encoding="SECRET"?><annotations/>',
    "another encoding": '<annotations x="ü"/>'.encode("latin-1"),
    "an image without name": b'<annotations><image height="1"/></annotations>',
    "a size of text": b'<annotations><image name="a" width="SECRET"/></annotations>',
    "a size of 0": b'<annotations><image name="a" width="0"/></annotations>',
    "a track without label": b"<annotations><track/></annotations>",
    "two images of one name": (
        b'<annotations><image name="a/SECRET.png"/><image name="SECRET.jpg"/>'
        b"</annotations>"
    ),
    "a shape without frame": (
        b'<annotations><track label="x"><polyline points="1,2;3,4"/></track>'
        b"</annotations>"
    ),
    "two videos": (
        b'<annotations><track task_id="1" label="x"/><track task_id="2" label="x"/>'
        b"</annotations>"
    ),
    "images and a video": (
        b'<annotations><image name="a"/><track label="x"/></annotations>'
    ),
}


@pytest.mark.parametrize("stored", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_a_damaged_file_is_one_sentence_that_quotes_nothing(
    tmp_path: Path, stored: bytes
) -> None:
    path = tmp_path / "SECRET.xml"
    path.write_bytes(stored)

    with pytest.raises(DataError) as caught:
        read_cvat(path)

    assert "SECRET" not in str(caught.value) and str(tmp_path) not in str(caught.value)
    assert caught.value.__cause__ is None


def test_deep_nesting_does_no_harm(tmp_path: Path) -> None:
    path = write(tmp_path, "<a>" * 5_000 + "</a>" * 5_000 + image(LINE))

    assert set(read_cvat(path)) == {"DOE_01"}


@pytest.mark.parametrize("name", ["missing.xml", "."])
def test_what_cannot_be_opened_says_so_without_its_path(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(DataError, match="cannot be opened") as caught:
        read_cvat(tmp_path / name)

    assert str(tmp_path) not in str(caught.value)
