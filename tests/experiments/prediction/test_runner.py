from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from experiments.model_source import ModelSource
from experiments.prediction.inputs import InputFile
from experiments.prediction.outputs import OutputChoice
from experiments.prediction.predictor import Predictor
from experiments.prediction.runner import (
    ORIGINAL,
    InputReport,
    PredictOptions,
    predict_inputs,
)
from experiments.prediction.timing import StageTimes
from models.overlap import dice
from tests.experiments.prediction.scenes import MakeScene

CPU = torch.device("cpu")


def predict(
    source: ModelSource, path: Path, place: Path, **changes: object
) -> InputReport:
    options = replace(
        PredictOptions(source.data, OutputChoice(frozenset({"npy"}))), **changes
    )
    predictor = Predictor(source, device=CPU)
    inputs = [InputFile(1, path)]
    (report,) = predict_inputs(
        inputs, {1: place}, predictor, options, times=StageTimes()
    )
    assert not report.problem, report.problem
    return report


def masks_of(place: Path) -> NDArray[np.bool_]:
    return np.load(place / "probabilities.npy")[0] > 0.5


@pytest.mark.parametrize("shape", [(64, 64), (64, 49), (41, 64)])
def test_without_scaling_the_masks_are_the_truth_to_the_pixel(
    shape: tuple[int, ...],
    tmp_path: Path,
    dark_source: ModelSource,
    make_scene: MakeScene,
) -> None:
    scene = make_scene(*shape)
    np.save(tmp_path / "a.npy", scene.pixels)
    predict(dark_source, tmp_path / "a.npy", tmp_path / "out")
    found = masks_of(tmp_path / "out")
    assert found.shape == (2, *shape)
    assert np.array_equal(found, scene.masks)


@pytest.mark.parametrize("shape", [(128, 96), (97, 131), (63, 45), (40, 61)])
def test_scaled_frames_come_back_where_they_were(
    shape: tuple[int, ...],
    tmp_path: Path,
    dark_source: ModelSource,
    make_scene: MakeScene,
) -> None:
    scene = make_scene(*shape)
    np.save(tmp_path / "a.npy", scene.pixels)
    predict(dark_source, tmp_path / "a.npy", tmp_path / "out")
    found = masks_of(tmp_path / "out")
    wire, truth = found[1], scene.masks[1]
    assert dice(wire, truth) > 0.8
    # The middle of the wire is where it was to within half a pixel of the network.
    offset = np.argwhere(wire).mean(axis=0) - np.argwhere(truth).mean(axis=0)
    assert np.abs(offset).max() < 0.5 * max(1, max(shape) / 64)


def test_a_cropped_frame_comes_back_and_nothing_is_found_outside(
    tmp_path: Path, dark_source: ModelSource, make_scene: MakeScene
) -> None:
    scene = make_scene(64, 64)
    pixels = np.zeros((100, 120), np.uint8)  # blades around, as dark as a wire
    pixels[10:90, 15:105] = 200
    pixels[15:79, 25:89] = scene.pixels
    np.save(tmp_path / "a.npy", pixels)
    cropping = replace(dark_source, data=replace(dark_source.data, crop="collimator"))
    predict(cropping, tmp_path / "a.npy", tmp_path / "out")
    found = np.load(tmp_path / "out" / "probabilities.npy")[0]
    outside = np.ones(pixels.shape, bool)
    outside[9:91, 14:106] = False
    assert found[:, outside].max() == 0
    truth = np.zeros((2, *pixels.shape), bool)
    truth[:, 15:79, 25:89] = scene.masks
    wire = found[1] > 0.5
    wire[[*range(12), *range(88, 100)]] = False  # the blades' rim is dark, too
    wire[:, [*range(17), *range(103, 120)]] = False
    assert dice(wire, truth[1]) > 0.85
    shifted = np.roll(truth[1], 3, axis=0)
    assert dice(wire, truth[1]) > dice(wire, shifted) + 0.3


@pytest.mark.parametrize(("tile", "side"), [(ORIGINAL, 150), (128, 128)])
def test_larger_frames_are_seen_tile_by_tile(
    tile: int,
    side: int,
    tmp_path: Path,
    dark_source: ModelSource,
    make_scene: MakeScene,
) -> None:
    scene = make_scene(150, 110)
    np.save(tmp_path / "a.npy", scene.pixels)
    settings = replace(dark_source.data, frame_size=tile)
    predict(dark_source, tmp_path / "a.npy", tmp_path / "out", settings=settings)
    shapes = dark_source.network.seen
    assert {shape[1:] for shape in shapes} == {(1, 64, 64)}
    assert sum(shape[0] for shape in shapes) > (side // 64) ** 2
    found = masks_of(tmp_path / "out")
    if tile == ORIGINAL:
        assert np.array_equal(found, scene.masks)
    assert dice(found[1], scene.masks[1]) > 0.9


def test_bright_devices_are_found_when_the_site_says_so(
    tmp_path: Path, dark_source: ModelSource, make_scene: MakeScene
) -> None:
    scene = make_scene(64, 64)
    np.save(tmp_path / "a.npy", 200 - scene.pixels)
    predict(dark_source, tmp_path / "a.npy", tmp_path / "out", inverted=True)
    assert np.array_equal(masks_of(tmp_path / "out"), scene.masks)


def test_every_frame_of_a_stack_is_predicted_once_whatever_the_batch(
    tmp_path: Path, dark_source: ModelSource, make_scene: MakeScene
) -> None:
    scenes = [make_scene(64, 48, shift) for shift in range(5)]
    np.save(tmp_path / "a.npy", np.stack([scene.pixels for scene in scenes]))
    predict(dark_source, tmp_path / "a.npy", tmp_path / "out", batch_size=2)
    found = np.load(tmp_path / "out" / "probabilities.npy") > 0.5
    assert np.array_equal(found, np.stack([scene.masks for scene in scenes]))
    assert [shape[0] for shape in dark_source.network.seen] == [2, 2, 1]


def test_a_damaged_frame_leaves_nothing_behind(
    tmp_path: Path, dark_source: ModelSource, make_scene: MakeScene
) -> None:
    frames = np.stack([make_scene(64, 64).pixels] * 3).astype(np.float32)
    frames[2, 5, 5] = np.nan
    np.save(tmp_path / "secret.npy", frames)
    options = PredictOptions(
        dark_source.data, OutputChoice(frozenset({"npy", "masks"})), batch_size=1
    )
    (report,) = predict_inputs(
        [InputFile(7, tmp_path / "secret.npy")],
        {7: tmp_path / "out" / "0007"},
        Predictor(dark_source, device=CPU),
        options,
        times=StageTimes(),
    )
    assert report.problem.startswith("frame 3: ")
    assert "secret" not in report.problem
    assert list((tmp_path / "out").iterdir()) == []


def test_durations_are_shared_by_the_frames_of_a_batch() -> None:
    moments = iter([0.0, 0.4, 10.0, 10.2])
    times = StageTimes(clock=lambda: next(moments))
    for frames in (4, 1):
        with times.measure("network", frames):
            pass
    spread = times.spreads()["network"]
    assert times.num_frames == 5
    assert spread.median_ms == pytest.approx(100)
    # Five values: 100 four times and 200; the 95th percentile lies 0.8 of the way.
    assert spread.p95_ms == pytest.approx(180)
