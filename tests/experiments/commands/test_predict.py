"""`endofed predict` as a person meets it."""

import csv
import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
import typer
from typer.testing import CliRunner, Result

from clients.images.opening import open_source
from experiments.commands import predict as predict_cli
from experiments.commands.predict import predict_command
from experiments.model_source import ModelSource
from tests.experiments.prediction.scenes import (
    MakeScene,
    MakeXa,
    dark_source,
    make_scene,
    make_xa,
    read_png,
    write_png,
)

__all__ = ["dark_source", "make_scene", "make_xa"]  # fixtures

app = typer.Typer()
app.command()(predict_command)


@pytest.fixture(autouse=True)
def dark_network(monkeypatch: pytest.MonkeyPatch, dark_source: ModelSource) -> None:
    """Every name of a model means the dark network."""
    monkeypatch.setattr(predict_cli, "open_model", lambda *_, **__: dark_source)


def call(*arguments: str | Path | int) -> Result:
    return CliRunner().invoke(app, ["model", *map(str, arguments)])


@pytest.fixture
def xa(tmp_path: Path, make_scene: MakeScene, make_xa: MakeXa) -> Path:
    """A sequence of three frames of a patient with a name."""
    frames = np.stack([make_scene(64, 48, shift).pixels for shift in range(3)])
    path = tmp_path / "secret.dcm"
    make_xa(frames).save_as(path)
    return path


def test_masks_and_tips_of_an_angiogram_are_numbered_and_true(
    xa: Path, tmp_path: Path, make_scene: MakeScene
) -> None:
    out = tmp_path / "out"
    result = call(xa, "--output", out)
    assert result.exit_code == 0, result.output
    for shift in range(3):
        truth = make_scene(64, 48, shift).masks
        for number, name in enumerate(("catheter", "guidewire")):
            mask = read_png(out / "0001" / "masks" / f"{shift + 1:04d}_{name}.png")
            assert np.array_equal(mask, 255 * truth[number])
    content = json.loads((out / "0001" / "tips.json").read_text())
    assert content["spacing-mm"] == pytest.approx(0.2)  # 0.4 mm over magnification 2
    assert "divided by" in content["spacing-origin"]
    wire = next(one for one in content["tips"] if one["class"] == "guidewire")
    # Rows 32 to 36 and columns 16 to 47, where the wire leaves the frame: its tip is
    # at the left, half a width inside.
    assert wire["y-px"] == 34
    assert 16 <= wire["x-px"] <= 20
    assert wire["x-mm"] == pytest.approx(0.2 * wire["x-px"])
    with (out / "0001" / "tips.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6
    assert rows[1]["x-px"] == str(wire["x-px"])


def test_nothing_printed_or_written_names_a_file(xa: Path, tmp_path: Path) -> None:
    (tmp_path / "hidden.png").write_bytes(b"")
    out = tmp_path / "out"
    result = call(xa, tmp_path / "hidden.png", tmp_path / "gone", "--output", out)
    written = "".join(str(path.relative_to(out)) for path in out.rglob("*"))
    summary = (out / "predictions.json").read_text()
    for text in (result.output, written, summary):
        assert not any(word in text for word in ("secret", "hidden", "gone", "DOE"))


def test_bad_inputs_cost_a_line_each_and_the_rest_goes_on(
    xa: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "fake.dcm").write_bytes(b"nothing at all")
    out = tmp_path / "out"
    result = call(tmp_path / "empty.png", tmp_path / "fake.dcm", xa, "--output", out)
    assert result.exit_code == 1
    assert "Input 1: is empty (0 bytes)" in result.output
    assert "Input 2: " in result.output
    assert "1 of 3 inputs are predicted" in result.output
    assert sorted(path.name for path in out.iterdir()) == ["0003", "predictions.json"]
    summary = json.loads((out / "predictions.json").read_text())
    assert [one["status"] for one in summary["inputs"]] == ["failed", "failed", "done"]
    assert summary["frames"] == 3
    for stage in ("read", "prepare", "network", "write"):
        assert summary["milliseconds-per-frame"][stage]["median"] > 0


def test_a_folder_gives_its_images_in_order_but_not_its_masks(
    tmp_path: Path, make_scene: MakeScene
) -> None:
    data = tmp_path / "data"
    for part in ("images", "masks"):
        (data / part).mkdir(parents=True)
        for name in ("b", "a"):
            height = 64 if name == "a" else 40
            write_png(data / part / f"{name}.png", make_scene(height, 64).pixels)
    result = call(data, "--output", tmp_path / "out", "--keep-names")
    assert result.exit_code == 0, result.output
    summary = json.loads((tmp_path / "out" / "predictions.json").read_text())
    found = [(one["folder"], one["height-px"]) for one in summary["inputs"]]
    assert found == [("a", 64), ("b", 40)]


def test_equal_names_are_kept_apart(tmp_path: Path, make_scene: MakeScene) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_png(tmp_path / folder / "a.png", make_scene(64, 64).pixels)
    out = tmp_path / "out"
    call(tmp_path / "one", tmp_path / "two", "--output", out, "--keep-names")
    assert (out / "a" / "masks").is_dir()
    assert (out / "a-2" / "masks").is_dir()


def test_label_maps_overlays_video_and_probabilities_have_the_archives_pixels(
    tmp_path: Path, make_scene: MakeScene, make_xa: MakeXa
) -> None:
    scene = make_scene(63, 49)  # odd, so that the video needs a border
    path = tmp_path / "a.dcm"
    make_xa(np.stack([scene.pixels] * 2)).save_as(path)
    out = tmp_path / "out"
    kinds = "masks,npy,overlays,video,tips"
    result = call(path, "--output", out, "--write", kinds, "--masks", "labels")
    assert result.exit_code == 0, result.output
    labels = read_png(out / "0001" / "masks" / "0001.png")
    array = np.load(out / "0001" / "probabilities.npy")
    assert array.shape == (2, 2, 63, 49)
    assert np.array_equal(labels, (array[0, 0] > 0.5) + 2 * (array[0, 1] > 0.5))
    overlay = read_png(out / "0001" / "overlays" / "0002.png")
    assert overlay.shape == (63, 49, 3)
    wire = overlay[33, 30].astype(int)  # orange over black: red before blue
    assert wire[2] > wire[1] > wire[0]
    grey = overlay[60, 5]
    assert grey[0] == grey[1] == grey[2] == 255
    video = open_source(out / "0001" / "overlay.mp4")
    assert (video.facts.height, video.facts.width) == (64, 50)
    assert video.facts.num_frames == 2
    assert video.facts.frame_time_ms == pytest.approx(40, rel=0.01)


def test_dicom_segmentations_are_for_dicom_and_the_others_get_a_note(
    xa: Path, tmp_path: Path, make_scene: MakeScene
) -> None:
    write_png(tmp_path / "a.png", make_scene(64, 64).pixels)
    out = tmp_path / "out"
    result = call(xa, tmp_path / "a.png", "--output", out, "--write", "dicom-seg,masks")
    assert result.exit_code == 0, result.output
    assert "Input 2: no DICOM file" in result.output
    assert not (out / "0002" / "segmentation.dcm").exists()
    found = pydicom.dcmread(out / "0001" / "segmentation.dcm")
    masks = [read_png(path) for path in sorted((out / "0001" / "masks").iterdir())]
    assert np.array_equal(255 * found.pixel_array, np.stack(masks))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--write", "gif"), "--write must be some of"),
        (("--masks", "both"), "--masks must be one of"),
        (("--threshold", "1"), "--threshold"),
        (("--device", "tpu"), "--device must be one of"),
        (("--precision", "int8"), "--precision must be one of"),
        (("--polarity", "grey"), "--polarity must be one of"),
        (("--tile", "32"), "--tile must be auto"),
        (("--box", "1,1,9,9"), "for SAM networks"),
        (("--stream", "0"), "either inputs or --stream"),
        (("--write", "video", "--stream", "0"), "--write must be some of"),
    ],
)
def test_wrong_options_are_one_message_and_leave_nothing(
    options: tuple[str, ...], words: str, xa: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = call(xa, "--output", out, *options)
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())
    assert not out.exists()


def test_results_are_never_mixed_with_others(xa: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("kept")
    result = call(xa, "--output", out)
    assert result.exit_code == 2
    assert "new or an empty folder" in result.output
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_a_stream_of_a_file_says_tips_and_how_late_they_were(
    xa: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = call("--stream", xa, "--write", "tips,masks", "--output", out)
    assert result.exit_code == 0, result.output
    report = json.loads((out / "stream" / "stream.json").read_text())
    assert report["received"] == 3
    assert report["predicted"] + report["dropped"] == 3
    assert set(report["latency-ms"]) == {"p50", "p95", "p99", "max"}
    lines = (out / "stream" / "tips.jsonl").read_text().splitlines()
    assert len(lines) == report["predicted"]
    assert json.loads(lines[-1])["guidewire"][1] == 34
    assert len(list((out / "stream" / "masks").iterdir())) == report["predicted"]
    assert "Latency from arrival" in result.output


def test_a_stream_without_a_folder_says_its_tips_on_standard_output(
    xa: Path, dark_source: ModelSource
) -> None:
    result = call("--stream", xa, "--write", "tips", "--frames", 1)
    assert result.exit_code == 0, result.output
    assert len(dark_source.network.seen) == 2  # one of them before the first frame
    (line,) = [one for one in result.stdout.splitlines() if one.startswith("{")]
    assert json.loads(line)["guidewire"][1] == 34


def test_pictures_of_a_stream_need_a_folder(xa: Path) -> None:
    result = call("--stream", xa, "--write", "overlays")
    assert result.exit_code == 2
    assert "--output is missing" in result.output


def test_a_stream_that_cannot_be_read_is_exit_code_1(tmp_path: Path) -> None:
    result = call("--stream", tmp_path / "secret.mp4", "--write", "tips")
    assert result.exit_code == 1
    assert "secret" not in result.output
    assert "cannot be opened" in result.output
