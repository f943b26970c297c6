"""`endofed export` as a user meets it, and the model card."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from experiments.commands.errors import USAGE_ERROR
from experiments.commands.export import export_command
from experiments.exporting.card import model_card
from experiments.exporting.frames import folder_frames, simulated_frames
from experiments.model_source import open_model
from models.registry import build_model
from server.checkpoints import FoundationCard, SiteCard, save_foundation


def call(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(export_command)
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    model = build_model("sam-tiny", image_size=32, seed=3)
    scores = {"test/dice": 0.5, "test/cldice": 0.25}
    card = FoundationCard(
        model_name="sam-tiny",
        image_size=32,
        seed=3,
        rounds=7,
        sites=(
            SiteCard(
                "northgate", "ab" * 32, {"train": 9, "val": 2, "test": 4}, "human"
            ),
        ),
        settings={"strategy": "fedefm", "model.training": "full", "device": "cpu"},
        test={"northgate": scores},
        overall=scores,
    )
    (tmp_path / "run").mkdir()
    return save_foundation(tmp_path / "run", model.trainable_state(), card)


@pytest.mark.parametrize(
    ("name", "precision"), [("sam-tiny", "int8"), ("unet", "int8"), ("unet", "fp16")]
)
def test_a_smaller_graph_comes_with_its_measured_loss_and_gain(
    name: str, precision: str, tmp_path: Path
) -> None:
    result = call(
        "random", "--to", "onnx", "--precision", precision, "--output", tmp_path,
        "--name", name, "--image-size", 32,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "export.json").read_text())
    before, after = report["measured"]
    assert (before["precision"], after["precision"]) == ("float32", precision)
    sizes = [
        (tmp_path / name).stat().st_size
        for name in ("model.onnx", f"model.{precision}.onnx")
    ]
    assert [before["megabytes"], after["megabytes"]] == [one / 1e6 for one in sizes]
    assert after["megabytes"] < 0.6 * before["megabytes"]
    assert before["milliseconds"] > 0
    for label in ("catheter", "guidewire"):
        assert abs(after["dice"][label] - before["dice"][label]) < 0.1
    assert report["frames"]["calibration"] == 24
    assert report["frames"]["validation"] == 48
    assert f"{precision} against float32" in result.output
    slower = after["milliseconds"] > before["milliseconds"]
    assert ("slower" in result.output) == slower
    left = {one.name for one in tmp_path.iterdir()}
    assert left == {
        "model.onnx", f"model.{precision}.onnx", "export.json", "model_card.md",
        "model_card.json",
    }  # fmt: skip


def test_calibration_and_validation_share_no_patient() -> None:
    source = open_model("random", name="unet", image_size=32)
    frames = simulated_frames(source)
    calibrating = set(frames.calibration.patients.tolist())
    validating = set(frames.validation.patients.tolist())
    assert calibrating and validating and not calibrating & validating


def test_a_folders_test_frames_are_never_used(
    phantom_xa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clients.annotations.annotation import LabelMap
    from clients.data.catalogue import FolderSpec
    from clients.data.folders import load_folder
    from clients.data.identity import SiteKey
    from clients.data.splits import split_by_patient

    monkeypatch.setenv("ENDOFED_CACHE", str(tmp_path / "cache"))
    source = open_model("random", name="unet", image_size=32, seed=0)
    key = tmp_path / "key"
    labels = LabelMap(classes=("catheter",))
    spec = FolderSpec(folder=phantom_xa, layout="pairs", labels=labels)
    found = folder_frames(source, spec, key)
    frames = load_folder(spec, settings=source.data, key=SiteKey.load_or_create(key))
    held_out = set(split_by_patient(frames, seed=0).test.patients.tolist())
    parts = [
        set(part.patients.tolist()) for part in (found.calibration, found.validation)
    ]
    assert held_out and all(parts)
    assert not (parts[0] | parts[1]) & held_out
    assert not parts[0] & parts[1]


def test_the_card_has_the_sections_and_what_the_run_told(
    checkpoint: Path, tmp_path: Path
) -> None:
    output = tmp_path / "card"
    result = call(checkpoint, "--to", "card", "--output", output)
    assert result.exit_code == 0, result.output
    text = (output / "model_card.md").read_text()
    for section in (
        "Model details", "Intended use", "Factors", "Metrics", "Evaluation data",
        "Training data", "Quantitative analyses", "Ethical considerations",
        "Caveats and recommendations",
    ):  # fmt: skip
        assert f"\n## {section}\n" in text
    assert "| northgate | human | 4 |" in text
    assert "| northgate | human | 9 | 2 |" in text
    assert "| northgate | 0.500 | 0.250 |" in text
    assert "Research use only" in text
    card = json.loads((output / "model_card.json").read_text())
    assert card["training"]["rounds"] == 7
    assert card["training"]["strategy"] == "fedefm"
    assert str(tmp_path) not in text + json.dumps(card)


def test_a_card_of_a_random_network_says_that_nothing_was_measured() -> None:
    card = model_card(open_model("random", name="unet", image_size=32))
    assert card["quantitative-analyses"] == {}
    assert card["training-data"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--to", "tflite"), "--to must be one of"),
        (("--to", "card", "--precision", "int8"), "is for --to onnx"),
        (("--to", "onnx", "--precision", "int4"), "--precision must be one of"),
        (("--to", "official"), "SAM family"),
        (("--to", "adapter"), "adapters merged"),
    ],
)
def test_what_does_not_fit_is_one_error_and_no_file(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    result = call(
        "random", "--name", "unet", "--image-size", 32, "--output", output, *arguments
    )
    assert result.exit_code == USAGE_ERROR
    assert words in " ".join(result.output.split())
    assert not output.exists()
