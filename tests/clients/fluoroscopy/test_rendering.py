"""Masks are the geometric projection; absorption lies inside them."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, label

from clients.fluoroscopy.canvas import Canvas
from clients.fluoroscopy.devices import (
    Catheter,
    DeviceRanges,
    Guidewire,
    Strand,
    draw_strands,
)
from clients.fluoroscopy.geometry import Curve
from clients.fluoroscopy.motion import NO_MOTION
from clients.fluoroscopy.rendering import Drawn, draw_devices
from clients.fluoroscopy.spectrum import CONTRAST, MATERIALS, POLYMER, STEEL, Thickness

SIZE = 128
STRAIGHT = np.stack((np.linspace(-0.1, 0.8, 60), np.full(60, 64.5 / SIZE)), axis=1)
PLAIN = replace(
    draw_strands(np.random.default_rng(0), DeviceRanges())[0],
    density=np.ones(50),
    catheter=Catheter(4 / SIZE, 1.0, 0.0, np.zeros((0, 2))),
    guidewire=Guidewire(1 / SIZE, 0.5, 0.1, 0.1, 1.0),
)


def render(
    name: str, curve: Curve = STRAIGHT, strand: Strand = PLAIN
) -> tuple[Drawn, Thickness]:
    thickness = np.zeros((len(MATERIALS), SIZE, SIZE), np.float32)
    drawn = draw_devices((strand,), [{name: curve}], thickness, Canvas(SIZE))
    return drawn[name][0], thickness


def wide(name: str, radius_px: float) -> Strand:
    device = getattr(PLAIN, name)._replace(radius=radius_px / SIZE)
    return replace(PLAIN, **{name: device})


def by_rule(curve: Curve, radius_px: float) -> np.ndarray:
    """Return which pixel centres lie within the radius, one piece at a time."""
    centres = np.arange(SIZE) + 0.5
    x, y = np.meshgrid(centres, centres)
    mask = np.zeros((SIZE, SIZE), bool)
    for begin, end in zip(curve[:-1] * SIZE, curve[1:] * SIZE, strict=True):
        step = end - begin
        share = ((x - begin[0]) * step[0] + (y - begin[1]) * step[1]) / (step @ step)
        share = share.clip(0, 1)
        away = np.hypot(x - begin[0] - share * step[0], y - begin[1] - share * step[1])
        mask |= away <= radius_px
    return mask


@pytest.mark.parametrize(
    ("radius_px", "rows"), [(0.2, 1), (0.9, 1), (1.1, 3), (1.4, 3), (2.5, 5)]
)
def test_a_mask_holds_the_pixel_centres_within_the_radius(
    radius_px: float, rows: int
) -> None:
    # Centres lie 0, 1, 2 ... px from the line; thinner than a pixel becomes one pixel.
    mask = render("catheter", strand=wide("catheter", radius_px))[0].mask
    assert mask[:, 5].sum() == rows and mask[64, 5]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["catheter", "guidewire"])
def test_a_mask_is_what_the_distance_rule_says(name: str, seed: int) -> None:
    ranges = DeviceRanges(shown=(1, 0, 0), late=0.0, loop=0.5, hook=0.0)
    strand = draw_strands(np.random.default_rng(seed), ranges)[0]
    curve = strand.centrelines(0.2, NO_MOTION)[name]
    mask = render(name, curve, strand)[0].mask
    radius = getattr(strand, name).radius * SIZE
    # A thousandth of a pixel of rounding is allowed on the edge.
    inner, outer = (by_rule(curve, max(radius, 0.5) + d) for d in (-1e-3, 1e-3))
    assert (mask | ~inner).all() and (outer | ~mask).all()
    assert mask.sum() > 20


@pytest.mark.parametrize("seed", range(8))
def test_a_tip_lies_at_the_end_of_its_mask(seed: int) -> None:
    ranges = DeviceRanges(shown=(1, 0, 0), late=0.0, loop=0.0)
    strand = draw_strands(np.random.default_rng(seed), ranges)[0]
    curve = strand.centrelines(0.0, NO_MOTION)["guidewire"]
    drawn, _ = render("guidewire", curve, strand)
    assert np.array_equal(drawn.curve, curve)
    row, column = (drawn.curve[-1, ::-1] * SIZE).astype(int)
    if 2 <= row < SIZE - 2 and 2 <= column < SIZE - 2:
        assert drawn.mask[row - 1 : row + 2, column - 1 : column + 2].any()


@pytest.mark.parametrize("seed", range(8))
def test_every_device_is_in_few_pieces(seed: int) -> None:
    ranges = DeviceRanges(late=0.0)
    strand = draw_strands(np.random.default_rng(seed), ranges)[0]
    for name, curve in strand.centrelines(0.0, NO_MOTION).items():
        mask = render(name, curve, strand)[0].mask
        # A route may leave the field and come back, but never in crumbs.
        pieces, count = label(mask, np.ones((3, 3)))
        assert count <= 2 and np.bincount(pieces.ravel())[1:].min() > 3


@pytest.mark.parametrize("name", ["catheter", "guidewire"])
def test_devices_absorb_only_where_they_are(name: str) -> None:
    drawn, thickness = render(name)
    around = binary_dilation(drawn.mask, np.ones((3, 3)))
    assert thickness.sum(axis=0)[drawn.mask].mean() > 0.2
    assert thickness[:, ~around].max() == 0 and thickness.min() == 0


def test_a_catheter_has_two_visible_walls() -> None:
    polymer = render("catheter", strand=wide("catheter", 8))[1][POLYMER]
    across = polymer[64 - 9 : 64 + 10, 20]
    assert across[9] < 0.75 * across.max()
    assert abs(int(across.argmax()) - 9) in (4, 5, 6)
    assert np.allclose(across, across[::-1], atol=1e-5)


def test_marker_bands_lie_where_they_should() -> None:
    bands = np.array([[0.01, 0.03], [0.1, 0.12]])
    strand = replace(PLAIN, catheter=PLAIN.catheter._replace(bands=bands))
    steel = render("catheter", strand=strand)[1][STEEL][64]
    column = (np.arange(SIZE) + 0.5) / SIZE
    from_tip = 0.8 - column
    inside = (
        (from_tip[:, None] > bands[:, 0]) & (from_tip[:, None] < bands[:, 1])
    ).any(1)
    assert np.array_equal(steel > 0, inside)


def test_a_filled_catheter_holds_contrast_agent_in_its_lumen_only() -> None:
    strand = replace(PLAIN, catheter=PLAIN.catheter._replace(filling_mm=3.0))
    contrast = render("catheter", strand=strand)[1][CONTRAST]
    # The lumen's radius is 0.64 of 4 px.
    rows = np.nonzero(contrast[:, 40])[0]
    assert rows.min() >= 61 and rows.max() <= 67
    assert contrast[64, :100].max() == pytest.approx(3, rel=0.05)
    assert render("catheter")[1][CONTRAST].max() == 0


def test_the_tip_of_a_wire_is_denser_than_its_body() -> None:
    steel = render("guidewire")[1][STEEL][64]
    # 0.5 mm through the axis; averaged over a pixel as wide as the wire's radius:
    # sqrt(3) / 4 + pi / 6 of it.
    assert steel[20] == pytest.approx(0.5 * (np.sqrt(3) / 4 + np.pi / 6), rel=1e-3)
    assert steel[int(0.78 * SIZE)] == pytest.approx(1.5 * steel[20], rel=0.01)


def test_what_lies_one_above_the_other_adds_up() -> None:
    thickness = np.zeros((len(MATERIALS), SIZE, SIZE), np.float32)
    upright = STRAIGHT[:, ::-1]
    lines = [{"guidewire": STRAIGHT}, {"guidewire": upright}]
    draw_devices((PLAIN, PLAIN), lines, thickness, Canvas(SIZE))
    steel = thickness[STEEL]
    assert steel[64, 64] == pytest.approx(2 * steel[64, 30], rel=1e-4)


def test_a_wire_that_crosses_itself_is_twice_as_dense_there() -> None:
    angle = np.linspace(0.25, 2 * np.pi + 0.2, 300)
    eight = 0.5 + 0.35 * np.stack((np.sin(angle), np.sin(2 * angle) / 1.5), axis=1)
    strand = replace(PLAIN, guidewire=PLAIN.guidewire._replace(coil=0.01))
    drawn, thickness = render("guidewire", eight, strand)
    steel = thickness[STEEL]
    single = np.median(steel[drawn.mask])
    assert steel[63:65, 63:65].max() > 1.7 * single
    assert np.quantile(steel[drawn.mask], 0.95) < 1.6 * single
