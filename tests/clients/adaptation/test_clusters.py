from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from clients.adaptation.clusters import ClusterRules, clean_mask, find_clusters
from strategies.adaptation_settings import AdaptationSettings
from strategies.settings import RunSettings, SettingValue

Curve = list[tuple[float, float]]

LEFT: Curve = [(0.10, 0.30), (0.25, 0.45), (0.45, 0.50)]
RIGHT: Curve = [(0.55, 0.50), (0.75, 0.45), (0.90, 0.30)]
SHORT: Curve = [(0.10, 0.90), (0.12, 0.90)]
BLOB = (0.75, 0.80)  # centre of a disk of radius 0.05


@pytest.fixture
def settings(run_config: dict[str, SettingValue]) -> AdaptationSettings:
    return RunSettings.from_run_config(run_config).adapt


def draw(size: int, *curves: Curve, disk: bool = False) -> NDArray[np.bool_]:
    """Draw curves, and perhaps a disk, in shares of the frame."""
    picture = np.zeros((size, size), np.uint8)
    width = max(1, round(size / 100))
    for curve in curves:
        points = np.round(np.array(curve) * (size - 1)).astype(np.int32)
        cv2.polylines(picture, [points], isClosed=False, color=1, thickness=width)
    if disk:
        centre = (round(BLOB[0] * size), round(BLOB[1] * size))
        cv2.circle(picture, centre, round(0.05 * size), 1, thickness=-1)
    return picture > 0


def bar(length: int, width: int, size: int = 128) -> NDArray[np.bool_]:
    mask = np.zeros((size, size), bool)
    mask[50 : 50 + width, 20 : 20 + length] = True
    return mask


def test_both_parts_of_a_broken_wire_stay_to_the_pixel(
    settings: AdaptationSettings,
) -> None:
    wire = draw(128, LEFT, RIGHT)
    found = clean_mask(wire, settings)
    assert (found.mask == wire).all()
    assert (found.before, found.after) == (2, 2)


def test_speckle_short_fragments_and_blobs_go_and_the_wire_stays(
    settings: AdaptationSettings,
) -> None:
    wire = draw(128, LEFT, RIGHT)
    dirty = wire | draw(128, SHORT, disk=True)
    dirty[80:110:9, 20:60:9] = True  # single pixels
    assert (clean_mask(dirty, settings).mask == wire).all()


@pytest.mark.parametrize("part", ["speckle", "fragment", "blob"])
def test_nothing_stays_of_a_mask_without_a_wire(
    settings: AdaptationSettings, part: str
) -> None:
    mask = draw(128, *([SHORT] if part == "fragment" else []), disk=part == "blob")
    if part == "speckle":
        mask[::9, ::9] = True
    assert mask.any()
    found = clean_mask(mask, settings)
    assert not found.mask.any()
    assert found.after == 0


def test_an_empty_mask_stays_empty_and_a_full_one_is_no_wire(
    settings: AdaptationSettings,
) -> None:
    empty, full = np.zeros((32, 32), bool), np.ones((32, 32), bool)
    assert clean_mask(empty, settings).before == 0
    assert not clean_mask(empty, settings).mask.any()
    assert not clean_mask(full, settings).mask.any()


def test_the_same_picture_keeps_the_same_clusters_at_every_size(
    settings: AdaptationSettings,
) -> None:
    for size in (128, 256, 512):
        wire = draw(size, LEFT, RIGHT)
        found = clean_mask(wire | draw(size, SHORT, disk=True), settings)
        assert (found.before, found.after) == (4, 2), size
        assert (found.mask == wire).all(), size


def test_lengths_scale_with_the_frame_and_neighbours_stay_in_reach(
    settings: AdaptationSettings,
) -> None:
    large = ClusterRules.of(settings, 1024)
    assert (large.radius, large.pixels, large.min_length) == (4.0, 10, 50.0)
    half = ClusterRules.of(settings, 512)
    assert (half.radius, half.pixels, half.min_length) == (2.0, 5, 25.0)
    small = ClusterRules.of(settings, 128)
    assert small.radius == 1.5
    assert (small.pixels, small.min_length) == (2, 6.25)


@pytest.mark.parametrize("size", [64, 128, 256, 384])
def test_a_diagonal_line_of_one_pixel_is_one_cluster_in_small_frames(
    settings: AdaptationSettings, size: int
) -> None:
    found = clean_mask(np.eye(size, dtype=bool), settings)
    assert (found.before, found.after) == (1, 1)
    assert found.mask.sum() == size


def test_dense_neighbourhoods_are_those_of_a_count_by_hand() -> None:
    rules = ClusterRules(
        radius=2.0, pixels=4, min_length=0, min_share=0, keep_longest=0
    )
    mask = np.random.default_rng(3).random((24, 24)) < 0.12
    pixels = np.argwhere(mask)
    numbers = find_clusters(pixels, rules)
    steps = pixels[:, None] - pixels[None]
    near = np.square(steps).sum(-1) <= rules.radius**2
    dense = near.sum(1) >= rules.pixels
    # DBSCAN: noise is what is neither dense nor near something dense, and two dense
    # pixels share a cluster exactly when dense steps lead from one to the other.
    assert ((numbers == -1) == ~(near & dense[None]).any(1)).all()
    joined = np.linalg.matrix_power((near & np.outer(dense, dense)).astype(float), 40)
    both = np.outer(dense, dense)
    same = numbers[:, None] == numbers[None]
    assert ((joined > 0) == same)[both].all()
    assert dense.any()
    assert (numbers == -1).any()
    assert numbers.max() > 0


def test_pixels_at_exactly_the_radius_are_in_reach() -> None:
    rules = ClusterRules(
        radius=2.0, pixels=3, min_length=0, min_share=0, keep_longest=0
    )
    every_other = np.zeros((400, 400), bool)
    every_other[::2, 100] = True
    assert set(find_clusters(np.argwhere(every_other), rules)) == {0}


def test_a_gap_within_the_radius_joins_and_a_wider_one_parts(
    settings: AdaptationSettings,
) -> None:
    rules = ClusterRules.of(settings, 1024)
    line = np.stack([np.zeros(80, np.int64), np.arange(80)], axis=1)
    block = np.concatenate([line + np.array([row, 0]) for row in range(3)])
    for gap, clusters in ((3, 1), (4, 2)):  # 3 missing columns = 4 px apart
        columns = block[:, 1]
        pixels = block[(columns < 40) | (columns >= 40 + gap)]
        assert find_clusters(pixels, rules).max() + 1 == clusters


def test_a_bar_counts_as_a_wire_from_some_widths_on(
    settings: AdaptationSettings,
) -> None:
    assert not clean_mask(bar(15, 6), settings).mask.any()
    assert clean_mask(bar(30, 6), settings).mask.sum() == 30 * 6


def test_a_share_of_the_longest_cluster_is_asked_for(
    settings: AdaptationSettings,
) -> None:
    mask = bar(80, 1)
    mask[90, 20:40] = True
    both = clean_mask(mask, replace(settings, min_cluster_share=0.2))
    one = clean_mask(mask, replace(settings, min_cluster_share=0.3))
    assert (both.mask.sum(), one.mask.sum()) == (100, 80)


def test_a_large_blob_does_not_set_the_length_of_wires(
    settings: AdaptationSettings,
) -> None:
    mask = np.zeros((128, 128), bool)
    mask[:60, :60] = True
    mask[100, 20:50] = True
    found = clean_mask(mask, replace(settings, min_cluster_share=1.0))
    assert found.mask.sum() == 30


def test_only_the_longest_clusters_stay_when_asked(
    settings: AdaptationSettings,
) -> None:
    mask = np.zeros((128, 128), bool)
    for row, length in ((20, 40), (60, 90), (100, 60)):
        mask[row, 5 : 5 + length] = True
    two = clean_mask(mask, replace(settings, keep_longest=2))
    assert (two.before, two.after) == (3, 2)
    assert two.mask.any(axis=1).nonzero()[0].tolist() == [60, 100]


def test_without_cleaning_a_mask_stays_and_its_clusters_are_counted(
    settings: AdaptationSettings,
) -> None:
    mask = draw(128, LEFT, SHORT, disk=True)
    mask[3, 3] = True
    found = clean_mask(mask, replace(settings, cleaning="none"))
    assert (found.mask == mask).all()
    assert (found.before, found.after) == (3, 3)
    assert found.mask is not mask
