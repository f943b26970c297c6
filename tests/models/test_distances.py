import math

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from models.distances import (
    average_hausdorff,
    boundary,
    boundary_distances,
    diagonal,
    nearest_distances,
)

NOTHING = np.zeros((40, 48), bool)


def line(row: int, start: int, end: int, width: int = 1) -> np.ndarray:
    mask = NOTHING.copy()
    mask[row : row + width, start:end] = True
    return mask


def blobs(seed: int) -> np.ndarray:
    """Draw a few random rectangles, some on the edge of the image."""
    generator = np.random.default_rng(seed)
    mask = NOTHING.copy()
    for row, column in generator.integers(0, 40, (4, 2)):
        height, width = generator.integers(1, 12, 2)
        mask[row : row + height, column : column + width] = True
    return mask


def test_a_wire_shifted_by_one_pixel_is_one_pixel_away() -> None:
    found = boundary_distances(line(20, 5, 35), line(21, 5, 35))
    assert found.hd95() == 1
    assert found.assd() == 1
    assert found.nsd(0.5) == 0
    assert found.nsd(1) == 1
    assert average_hausdorff(line(20, 5, 35), line(21, 5, 35)) == 1


def test_hd95_is_the_larger_direction_and_assd_weighs_all_pixels() -> None:
    # The label has 10 pixels more: 20 at distance 0 and then 1, 2, ..., 10.
    found = boundary_distances(line(9, 0, 20), line(9, 0, 30))
    assert found.from_predicted.tolist() == [0] * 20
    assert sorted(found.from_label) == [0] * 20 + list(range(1, 11))
    assert found.hd95() == pytest.approx(8 + 0.55)  # position 0.95 * 29 = 27.55
    assert found.assd() == 55 / 50
    assert found.nsd(2) == (20 + 22) / 50


def test_average_hausdorff_counts_the_inside_of_masks() -> None:
    # 3 rows against their middle one: 2/3 of the pixels are 1 away, and none back.
    wide, thin = line(10, 5, 35, width=3), line(11, 5, 35)
    assert average_hausdorff(wide, thin) == pytest.approx(0.5 * (2 / 3 + 0))


def test_spacing_turns_pixels_into_millimetres_on_each_axis() -> None:
    predicted, label = line(20, 5, 35), line(23, 5, 35)
    isotropic = boundary_distances(predicted, label, spacing_mm=0.1)
    assert isotropic.hd95() == pytest.approx(0.3)
    assert isotropic.nsd(0.3) == 1  # although 3 * 0.1 > 0.3 as floats
    rows_only = boundary_distances(predicted, label, spacing_mm=(0.5, 0.2))
    assert rows_only.assd() == pytest.approx(1.5)
    assert average_hausdorff(predicted, label, spacing_mm=(0.5, 0.2)) == 1.5
    assert diagonal((30, 40)) == 50
    assert diagonal((30, 40), spacing_mm=0.2) == pytest.approx(10)


def test_empty_masks_follow_the_conventions() -> None:
    full = line(20, 5, 35)
    both = boundary_distances(NOTHING, NOTHING)
    assert (both.hd95(), both.assd(), both.nsd(1)) == (0, 0, 1)
    assert average_hausdorff(NOTHING, NOTHING) == 0
    for predicted, label in ((full, NOTHING), (NOTHING, full)):
        one = boundary_distances(predicted, label)
        assert math.isnan(one.hd95())
        assert math.isnan(one.assd())
        assert one.nsd(100) == 0
        assert math.isnan(average_hausdorff(predicted, label))


def test_the_boundary_is_the_outermost_layer_also_at_the_edge_of_the_image() -> None:
    mask = NOTHING.copy()
    mask[0:5, 0:5] = True
    inside = NOTHING.copy()
    inside[1:4, 1:4] = True
    assert (boundary(mask) == (mask & ~inside)).all()


@pytest.mark.parametrize("spacing", [None, (0.3, 0.7)])
def test_nearest_distances_agree_with_a_distance_transform(
    spacing: tuple[float, float] | None,
) -> None:
    pixels, others = blobs(1), blobs(2)
    expected = distance_transform_edt(~others, sampling=spacing)[pixels]
    found = nearest_distances(pixels, others, spacing_mm=spacing)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("spacing", [None, (0.3, 0.7)])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
def test_boundary_metrics_agree_with_monai(
    seed: int, spacing: tuple[float, float] | None
) -> None:
    import monai.metrics as reference  # slow to import, and needed in this test only

    predicted, label = blobs(seed), blobs(seed + 100)
    pair = [torch.from_numpy(mask)[None, None].float() for mask in (predicted, label)]
    found = boundary_distances(predicted, label, spacing_mm=spacing)
    steps = {"include_background": True}
    tolerance = 2.2 if spacing is None else 1.1
    for value, metric in (
        (found.hd95(), reference.HausdorffDistanceMetric(percentile=95, **steps)),
        (found.assd(), reference.SurfaceDistanceMetric(symmetric=True, **steps)),
        (found.nsd(tolerance), reference.SurfaceDiceMetric([tolerance], **steps)),
    ):
        expected = metric(*pair, spacing=spacing).item()  # float32
        assert value == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_impossible_spacings_and_tolerances_are_refused() -> None:
    full = line(20, 5, 35)
    for spacing in (0.0, -1.0, math.nan, (1.0, math.inf)):
        with pytest.raises(ValueError, match="spacing_mm must be"):
            boundary_distances(full, full, spacing_mm=spacing)
    with pytest.raises(ValueError, match="must be >= 0, got -1"):
        boundary_distances(full, full).nsd(-1)
