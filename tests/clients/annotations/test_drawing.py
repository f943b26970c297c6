"""Outlines become the right pixels, compared with slow and independent references."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.path import Path as Curve
from numpy.typing import NDArray
from scipy import ndimage

from clients.annotations.annotation import FrameOutlines, LabelMap, Outline
from clients.annotations.drawing import DrawnAnnotation, draw_polyline, fill_polygon
from clients.data.errors import DataError

SQUARE = [(0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0)]


def to_array(points: list[tuple[float, float]], shift: float = 0.0) -> NDArray:
    return np.array(points, dtype=np.float64) + shift


def polyline(label: str, *points: tuple[float, float]) -> Outline:
    return Outline(label, "polyline", (to_array(list(points)),))


def outlines(
    *drawn: Outline, height: int | None = 8, width: int | None = 8
) -> FrameOutlines:
    return FrameOutlines(height, width, drawn)


def slow_distance(x: float, y: float, line: NDArray) -> float:
    """Return the distance to a polyline by ternary search along every piece."""

    def away(piece: int, share: float) -> float:
        (x0, y0), (x1, y1) = line[piece], line[piece + 1]
        return math.hypot(x - x0 - share * (x1 - x0), y - y0 - share * (y1 - y0))

    found = []
    for piece in range(len(line) - 1):
        low, high = 0.0, 1.0
        for _ in range(60):
            third = (high - low) / 3
            if away(piece, low + third) < away(piece, high - third):
                high -= third
            else:
                low += third
        found.append(away(piece, low))
    return min(found)


@pytest.mark.parametrize("shift", [0.0, 2.0, 2.5, 2.49, 2.51])
def test_a_square_of_4_px_covers_4_by_4_pixels_wherever_it_lies(shift: float) -> None:
    drawn = fill_polygon([to_array(SQUARE, shift)], 8, 8)

    rows, columns = drawn.any(axis=1).sum(), drawn.any(axis=0).sum()
    assert (int(drawn.sum()), rows, columns) == (16, 4, 4)


def test_a_square_from_2_to_6_covers_pixels_2_to_5() -> None:
    expected = np.zeros((8, 8), np.uint8)
    expected[2:6, 2:6] = 1

    drawn = fill_polygon([to_array(SQUARE, 2.0)], 8, 8)

    np.testing.assert_array_equal(drawn, expected)


def test_neighbours_that_share_an_edge_share_no_pixel_and_leave_none_out() -> None:
    left = to_array([(1, 1), (6.5, 1), (3.5, 9), (1, 9)])
    right = to_array([(6.5, 1), (9, 1), (9, 9), (3.5, 9)])

    drawn = fill_polygon([left], 10, 10) + fill_polygon([right], 10, 10)

    expected = np.zeros((10, 10), np.uint8)
    expected[1:9, 1:9] = 1
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("seed", range(5))
def test_a_simple_polygon_holds_the_centres_that_matplotlib_finds_inside(
    seed: int,
) -> None:
    generator = np.random.default_rng(seed)
    angles = np.sort(generator.uniform(0, 2 * np.pi, 12))
    radii = generator.uniform(5, 25, 12)  # a star: some corners leave the frame
    ring = np.stack([16 + radii * np.cos(angles), 14 + radii * np.sin(angles)], axis=1)
    y, x = np.mgrid[:30, :32] + 0.5
    inside = Curve(ring).contains_points(np.stack([x.ravel(), y.ravel()], axis=1))

    drawn = fill_polygon([ring], 30, 32)

    np.testing.assert_array_equal(drawn, inside.reshape(30, 32))


def test_an_inner_ring_is_a_hole() -> None:
    outer, inner = to_array([(1, 1), (7, 1), (7, 7), (1, 7)]), to_array(SQUARE, 2.0)

    drawn = fill_polygon([outer, inner], 8, 8)

    assert int(drawn.sum()) == 36 - 16
    assert not drawn[2:6, 2:6].any()


def test_a_ring_that_crosses_itself_is_filled_even_odd() -> None:
    twice_around = to_array([*SQUARE, *SQUARE], 2.0)

    assert not fill_polygon([twice_around], 8, 8).any()


def test_a_line_holds_exactly_the_centres_within_half_its_width() -> None:
    line = np.array([(2.3, 3.1), (15.7, 5.2), (9.4, 12.9), (22.0, 14.0)])
    distances = np.array(
        [[slow_distance(x + 0.5, y + 0.5, line) for x in range(18)] for y in range(14)]
    )
    for line_width in (1.0, 2.5, 3.0, 6.0):
        drawn = draw_polyline(line, line_width, 14, 18)

        np.testing.assert_array_equal(drawn, distances <= line_width / 2)


def test_a_level_line_of_3_px_through_centres_is_3_px_wide() -> None:
    drawn = draw_polyline(np.array([(-5.0, 4.5), (20.0, 4.5)]), 3.0, 9, 12)

    assert drawn.sum(axis=0).tolist() == [3] * 12
    assert drawn[3:6].all()


def test_a_long_line_is_the_same_as_its_pieces_together() -> None:
    line = np.array([(3.2, 4.1), (395.3, 288.6)])
    middle = line.mean(axis=0)

    whole = draw_polyline(line, 2.0, 300, 400)
    halves = [draw_polyline(np.array([end, middle]), 2.0, 300, 400) for end in line]

    np.testing.assert_array_equal(whole, halves[0] | halves[1])
    length = math.hypot(392.1, 284.5)
    assert whole.sum() == pytest.approx(2.0 * length + math.pi, rel=0.01)


@pytest.mark.parametrize("seed", range(20))
def test_the_thinnest_line_is_in_one_piece(seed: int) -> None:
    generator = np.random.default_rng(seed)
    steps = generator.normal(0, 2.0, (40, 2))
    line = np.cumsum(steps, axis=0) + 40
    line = line.clip(1, 79)

    drawn = draw_polyline(line, 0.1, 80, 80)

    assert drawn.any()
    assert ndimage.label(drawn, np.ones((3, 3)))[1] == 1


def test_a_line_that_is_too_short_to_reach_a_centre_is_one_pixel() -> None:
    drawn = draw_polyline(np.array([(3.02, 5.03), (3.05, 5.04)]), 1.0, 8, 8)

    assert np.argwhere(drawn).tolist() == [[5, 3]]


def test_what_lies_outside_of_the_frame_is_cut_off() -> None:
    line = np.array([(-1e5, -1e5), (-10.0, 3.5), (2.5, 3.5)])
    far = to_array([(-1e5, -1e5), (1e5, -1e5), (1e5, 1e5), (-1e5, 1e5)])

    drawn = draw_polyline(line, 1.0, 6, 6)

    assert np.argwhere(drawn).tolist() == [[3, 0], [3, 1], [3, 2]]
    assert fill_polygon([far], 6, 6).all()
    assert not draw_polyline(line - 100.0, 1.0, 6, 6).any()


def test_every_declared_class_has_its_own_layer_and_may_overlap() -> None:
    drawn = outlines(
        polyline("Catheter", (0.5, 4.5), (7.5, 4.5)),
        polyline("guidewire", (4.5, 0.5), (4.5, 7.5)),
    )

    layers = DrawnAnnotation(drawn, LabelMap(line_width=1.0)).layers(8, 8, None)

    assert set(layers) == {"catheter", "guidewire"}
    assert all(layer.dtype == np.uint8 for layer in layers.values())
    assert layers["catheter"].sum() == layers["guidewire"].sum() == 8
    assert layers["catheter"][4, 4] == layers["guidewire"][4, 4] == 1


def test_a_class_that_is_not_in_the_frame_is_all_zeros() -> None:
    labels = LabelMap(classes=("guidewire",))

    layers = DrawnAnnotation(outlines(), labels).layers(8, 8, None)

    assert list(layers) == ["guidewire"]
    np.testing.assert_array_equal(layers["guidewire"], np.zeros((8, 8)))


def test_overlapping_outlines_of_one_class_add_up() -> None:
    ring = to_array(SQUARE, 2.0)
    drawn = outlines(*[Outline("catheter", "polygon", (ring,)) for _ in range(2)])

    layers = DrawnAnnotation(drawn, LabelMap()).layers(8, 8, None)

    assert layers["catheter"].sum() == 16


@pytest.mark.parametrize("spacing_mm, rows", [(0.5, 6), (0.2, 15), (3.0, 1)])
def test_a_width_in_mm_follows_the_pixel_spacing(spacing_mm: float, rows: int) -> None:
    # At 20.25 no centre lies at exactly half the width.
    drawn = outlines(polyline("catheter", (0, 20.25), (8, 20.25)), height=40)
    labels = LabelMap(line_width=3.0, line_unit="mm")

    layers = DrawnAnnotation(drawn, labels).layers(40, 8, spacing_mm)

    assert layers["catheter"].sum(axis=0).tolist() == [rows] * 8


@pytest.mark.parametrize("spacing_mm", [None, 0.0, math.nan])
def test_a_width_in_mm_without_spacing_says_what_to_declare(
    spacing_mm: float | None,
) -> None:
    drawn = outlines(polyline("catheter", (0, 2), (8, 2)))
    labels = LabelMap(line_unit="mm")

    with pytest.raises(DataError, match="declare the width in px or the spacing"):
        DrawnAnnotation(drawn, labels).layers(8, 8, spacing_mm)


@pytest.mark.parametrize("line_width", [0.0, -1.0, math.nan])
def test_a_line_without_width_is_refused(line_width: float) -> None:
    drawn = outlines(polyline("catheter", (0, 2), (8, 2)))

    with pytest.raises(DataError, match="width of lines must be > 0"):
        DrawnAnnotation(drawn, LabelMap(line_width=line_width)).layers(8, 8, None)


@pytest.mark.parametrize("height, width", [(8, 9), (9, 8), (16, 16)])
def test_outlines_of_an_image_of_another_size_are_never_scaled(
    height: int, width: int
) -> None:
    drawn = DrawnAnnotation(outlines(), LabelMap())

    with pytest.raises(DataError, match=f"8x8 px, the frame has {width}x{height} px"):
        drawn.layers(height, width, None)


def test_outlines_without_a_stated_size_fit_any_frame() -> None:
    drawn = DrawnAnnotation(outlines(height=None, width=None), LabelMap())

    assert drawn.layers(16, 9, None)["guidewire"].shape == (16, 9)


def test_a_shape_without_outline_is_an_error_only_under_a_class() -> None:
    labels = LabelMap(ignored=frozenset({"tip"}))
    tip, device = Outline("tip", "polygon"), Outline("guidewire", "polygon")

    ignored = DrawnAnnotation(outlines(tip), labels).layers(8, 8, None)

    assert not ignored["guidewire"].any()
    with pytest.raises(DataError, match="draw polygons, polylines or masks"):
        DrawnAnnotation(outlines(device), labels).layers(8, 8, None)


def test_what_is_shown_of_an_annotation_holds_no_label_and_no_point() -> None:
    labels = LabelMap(aliases={"jane doe": "catheter"})
    drawn = DrawnAnnotation(outlines(polyline("Jane Doe", (1, 2), (3, 4))), labels)

    shown = f"{drawn!r} {drawn.outlines!r}"

    assert "jane" not in shown.lower() and "array" not in shown


SHAPES: list[Callable[[], NDArray]] = [
    lambda: fill_polygon([to_array(SQUARE)], 4, 4),
    lambda: draw_polyline(to_array(SQUARE), 1.0, 4, 4),
]


@pytest.mark.parametrize("draw", SHAPES)
def test_masks_are_bytes_of_0_and_1(draw: Callable[[], NDArray]) -> None:
    drawn = draw()

    assert drawn.dtype == np.uint8 and set(np.unique(drawn)) <= {0, 1}
