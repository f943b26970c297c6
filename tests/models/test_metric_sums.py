import math
from functools import cache

import numpy as np
import pytest

from models.image_metrics import METRICS, ImageMetrics, measure_image
from models.metric_sums import MetricSums, Tally
from models.region_metrics import PixelCounts, mean_over_frames, pool


def draw(generator: np.random.Generator) -> np.ndarray:
    """Draw a random wire that enters on the left, or nothing."""
    mask = np.zeros((48, 48), bool)
    if generator.random() < 0.25:
        return mask
    rows = 20 + generator.integers(-1, 2, generator.integers(15, 40)).cumsum()
    for column, row in enumerate(rows.clip(2, 45)):
        mask[row - 1 : row + 2, column] = True
    return mask


@cache
def measured_frames() -> list[ImageMetrics]:
    generator = np.random.default_rng(7)
    spacings = [None, 0.2, (0.1, 0.3)]
    return [
        measure_image(draw(generator), draw(generator), spacing_mm=spacings[index % 3])
        for index in range(24)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_sums_of_sites_give_the_scores_of_all_frames_at_once(seed: int) -> None:
    frames = measured_frames()
    at_once = MetricSums.of(frames)
    site_of = np.random.default_rng(seed).integers(0, 4, len(frames))
    messages = [
        MetricSums.of(
            frame for frame, at in zip(frames, site_of, strict=True) if at == site
        ).to_dict()
        for site in range(4)
    ]
    received = [MetricSums.from_dict(message) for message in reversed(messages)]
    pooled = sum(received, start=MetricSums.zero())
    assert pooled.scores() == pytest.approx(at_once.scores(), abs=1e-12, nan_ok=True)
    whole, added = at_once.to_dict(), pooled.to_dict()
    exact = [name for name, value in whole.items() if type(value) is int]
    assert {name: added[name] for name in exact} == {
        name: whole[name] for name in exact
    }


def test_per_image_means_are_those_of_numpy_over_frames_that_have_a_value() -> None:
    frames = measured_frames()
    sums = MetricSums.of(frames)
    for device_only in (False, True):
        kept = [frame for frame in frames if frame.has_device or not device_only]
        for name in METRICS:
            values = np.array([frame.values[name] for frame in kept])
            tally = sums.tally(name, device_only=device_only)
            assert tally.mean() == pytest.approx(np.nanmean(values), abs=1e-12)
            assert tally.excluded == np.isnan(values).sum()
            assert tally.count + tally.excluded == len(kept)


def test_pooled_and_mean_overlap_are_those_of_the_pixel_counts() -> None:
    frames = measured_frames()
    counts = [frame.counts for frame in frames]
    scores = MetricSums.of(frames).scores()
    assert scores["pooled.iou"] == pool(counts).iou()
    assert scores["pooled.macro-f1"] == pool(counts).macro_f1()
    expected = mean_over_frames(counts, PixelCounts.iou)
    assert scores["image.iou"] == pytest.approx(expected, abs=1e-12)


def test_missed_devices_and_false_alarms_leave_the_distances_and_are_counted() -> None:
    empty, device = np.zeros((16, 16), bool), np.zeros((16, 16), bool)
    device[8, :9] = True
    pairs = [(empty, device), (device, empty), (empty, empty), (device, device)]
    sums = MetricSums.of(measure_image(*pair) for pair in pairs)
    assert (sums.frames, sums.device_frames) == (4, 2)
    assert (sums.missed, sums.false_alarms) == (1, 1)
    assert sums.tally("hd95-px") == Tally(0.0, count=2, excluded=2)
    assert sums.tally("hd95-px", device_only=True) == Tally(0.0, 1, 1)
    assert sums.tally("tip-miss-rate") == Tally(1.0, count=2, excluded=2)
    assert sums.tally("pck-3px").mean() == 0.5
    assert sums.scores()["image.dice"] == sums.scores()["device-image.dice"] == 0.5


def test_no_frames_have_no_scores() -> None:
    assert all(math.isnan(value) for value in MetricSums.zero().scores().values())


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("tp", -1, "Pixel counts"),
        ("missed", 99, "missed"),
        ("false-alarms", 0.5, "false_alarms"),
        ("device.hd95-px.total", math.nan, "device.hd95-px"),
        ("device.hd95-px.total", math.inf, "device.hd95-px"),
        ("device.breaks.total", -1.0, "device.breaks"),
        ("device.cldice.total", 99.0, "device.cldice"),
        ("empty.ahd-px.excluded", 99, "empty.ahd-px"),
        ("empty.ahd-px.count", True, "empty.ahd-px"),
    ],
)
def test_a_message_that_no_frames_can_have_is_refused(
    key: str, value: float, named: str
) -> None:
    message = MetricSums.of(measured_frames()).to_dict() | {key: value}
    with pytest.raises(ValueError, match=named):
        MetricSums.from_dict(message)


def test_a_message_with_a_missing_or_unknown_key_is_refused() -> None:
    message = MetricSums.zero().to_dict()
    with pytest.raises(ValueError, match="unknown: dice"):
        MetricSums.from_dict(message | {"dice": 1})
    del message["tp"]
    with pytest.raises(ValueError, match="unknown: tp"):
        MetricSums.from_dict(message)
