"""Where devices lie and which pixels they are."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, label

from clients.fluoroscopy.devices import DeviceRanges, Devices, draw_devices
from clients.fluoroscopy.geometry import arc_length

SIZE = 128


def draw(seed: int, **changes: object) -> Devices:
    devices = draw_devices(np.random.default_rng(seed), DeviceRanges())
    both = {"shown": frozenset(("catheter", "guidewire")), "first_frame": 0}
    return replace(devices, **{**both, **changes})


def straight(**changes: object) -> Devices:
    """A horizontal route through the middle of the pixels of row 64."""
    height = 64.5 / SIZE
    knots = np.stack((np.linspace(-0.1, 1.1, 7), np.full(7, height)), axis=1)
    return draw(0, knots=knots, sway=0.0, tip_radius=10.0, tip_angle=1e-4, **changes)


@pytest.mark.parametrize(
    ("radius_px", "rows"), [(0.2, 1), (0.9, 1), (1.0, 3), (1.4, 3), (2.5, 5)]
)
def test_a_mask_holds_the_pixel_centres_within_the_radius(
    radius_px: float, rows: int
) -> None:
    # Centres lie 0, 1, 2 ... px from the line; thinner than a pixel becomes one pixel.
    devices = straight(catheter_radius=radius_px / SIZE)
    mask = devices.render(0, SIZE)["catheter"].mask
    assert mask[:, 5].sum() == rows
    assert mask[64, 5]


def test_the_wire_inside_the_catheter_belongs_to_both_classes() -> None:
    parts = straight(reach=0.8, gap=0.3).render(0, SIZE)
    wire, catheter = parts["guidewire"].mask, parts["catheter"].mask
    in_catheter = wire[:, catheter.any(axis=0)]
    assert in_catheter.any(axis=0).all()
    assert (wire & ~catheter).any()
    # Route from -0.1 to 1.1: the tips lie at 0.8 and 0.5 of it.
    assert np.nonzero(wire[64])[0].max() == pytest.approx(0.86 * SIZE, abs=2)
    assert np.nonzero(catheter[64])[0].max() == pytest.approx(0.5 * SIZE, abs=3)


@pytest.mark.parametrize("seed", range(12))
def test_every_device_is_one_piece_that_enters_from_the_border(seed: int) -> None:
    for device in draw(seed, sway=0.0).render(0, SIZE).values():
        border = np.ones((SIZE, SIZE), bool)
        border[1:-1, 1:-1] = False
        assert (device.mask & border).any()
        # A route may leave the field and come back, but never in crumbs.
        pieces, count = label(device.mask, np.ones((3, 3)))
        assert count <= 2 and np.bincount(pieces.ravel())[1:].min() > 5


def test_devices_absorb_only_where_they_are() -> None:
    for device in draw(3).render(0, SIZE).values():
        assert device.depth[device.mask].min() >= 0
        assert device.depth[device.mask].mean() > 0.1
        assert device.depth.min() == 0
        around = binary_dilation(device.mask, np.ones((3, 3)), iterations=2)
        assert device.depth[~around].max() == 0


def test_the_lumen_of_a_catheter_is_brighter_than_its_wall() -> None:
    depth = straight(catheter_radius=8 / SIZE).render(0, SIZE)["catheter"].depth
    across = depth[64 - 9 : 64 + 10, 5]
    assert across[9] < 0.8 * across.max()
    assert abs(int(across.argmax()) - 9) in (4, 5, 6)


def test_the_tip_of_a_wire_is_denser_than_its_body() -> None:
    depth = straight(reach=0.8).render(0, SIZE)["guidewire"].depth
    tip = int(np.nonzero(depth[64] > 0.1)[0].max()) - 4
    assert depth[64, tip] == pytest.approx(1.5 * depth[64, 20], rel=0.01)


def test_neighbouring_frames_show_the_same_device_moved_a_little() -> None:
    devices = draw(5, sway=0.015)
    first, second = (devices.centrelines(f, SIZE)["guidewire"] for f in (0, 1))
    assert arc_length(second)[-1] > arc_length(first)[-1]
    moved = np.hypot(*(devices.route(0, SIZE)[:100] - devices.route(1, SIZE)[:100]).T)
    assert 0 < moved.max() < 0.05


def test_nothing_is_seen_before_the_devices_are_inserted() -> None:
    devices = draw(1, first_frame=1)
    assert devices.render(0, SIZE) == {}
    assert set(devices.render(1, SIZE)) == {"catheter", "guidewire"}


def test_only_the_devices_of_the_patient_are_drawn() -> None:
    devices = draw(1, shown=frozenset(("catheter",)))
    assert set(devices.render(0, SIZE)) == {"catheter"}


def test_most_patients_have_both_devices_and_some_have_one() -> None:
    rng = np.random.default_rng(0)
    shown = [draw_devices(rng, DeviceRanges()).shown for _ in range(300)]
    both = sum(len(one) == 2 for one in shown) / 300
    assert 0.6 < both < 0.85
    assert {frozenset(("catheter",)), frozenset(("guidewire",))} < set(shown)


def test_widths_stay_in_their_range() -> None:
    rng = np.random.default_rng(1)
    ranges = DeviceRanges(wire_width_px=(1.0, 1.6), catheter_width_px=(2.2, 3.4))
    for _ in range(50):
        devices = draw_devices(rng, ranges)
        assert 1.0 <= 2 * 128 * devices.wire_radius <= 1.6
        assert 2.2 <= 2 * 128 * devices.catheter_radius <= 3.4
