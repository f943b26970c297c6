from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from experiments.commands.errors import USAGE_ERROR
from experiments.commands.finetune import default_output, finetune_command, parse_shots
from experiments.finetuning.fewshot import ALL
from strategies.settings import SettingsError

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(finetune_command)
SMALL = ["random", "--model-name", "unet", "--image-size", "32", "--no-mlflow"]
SMALL += ["--shots", "1", "--seeds", "0", "--steps", "2", "--workers", "1"]
SMALL += ["--train-patients", "2", "--validation-patients", "1"]
SMALL += ["--test-patients", "1", "--frames-per-patient", "1"]


def call(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments), terminal_width=200)
    return result.exit_code, " ".join(result.output.split())


def test_a_study_from_the_command_line_says_where_everything_is(tmp_path: Path) -> None:
    code, text = call(*SMALL, "--output", str(tmp_path))
    assert code == 0, text
    assert "random" in text
    assert "Best on validation" in text
    assert (tmp_path / "fewshot.md").exists()
    code, text = call(*SMALL, "--output", str(tmp_path))
    assert code == 0
    assert "1 of 1 runs were done before" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shots", "1,x"], "--shots wants whole numbers"),
        (["--shots", "0"], "at least 1, or all"),
        (["--seeds", "a"], "--seeds wants whole numbers"),
        (["--methods", "half"], "methods must be different ones"),
        (["--methods", "lora"], "SAM family"),
        (["--domain", "moon"], "domain must be one of"),
        (["--shots", "50"], "50 shots need"),
        (["--train-sequences", "1"], "name it with --data"),
        (["--data", "not-there"], "does not exist"),
        (["--save", "some"], "save must be one of"),
        (["--device", "tpu"], "auto, cpu or cuda"),
        (["--patience", "0"], "patience must be >= 1"),
    ],
)
def test_a_wrong_option_is_one_error_and_nothing_is_written(
    tmp_path: Path, options: list[str], message: str
) -> None:
    output = tmp_path / "new"
    code, text = call(*SMALL, *options, "--output", str(output))
    assert code == USAGE_ERROR
    assert message in text
    assert "Traceback" not in text
    assert not output.exists()


def test_frames_of_a_folder_leave_no_picture_and_no_name_behind(
    phantom_xa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENDOFED_CACHE", str(tmp_path / "cache"))
    options = ["--data", str(phantom_xa), "--classes", "catheter", "--layout", "pairs"]
    options += ["--key", str(tmp_path / "key"), "--train-sequences", "1,2"]
    folder = tmp_path / "new"
    code, text = call(*SMALL, *options, "--output", str(folder))
    assert code == 0, text
    assert not list(folder.rglob("*overlay*"))
    written = b"".join(
        one.read_bytes() for one in folder.rglob("*.*") if one.suffix != ".png"
    )
    for secret in (b"IM1", b"phantom_xa", b"PHANTOM"):
        assert secret not in written
    code, text = call(
        *SMALL, *options, "--shots", "500", "--output", str(tmp_path / "more")
    )
    assert code == USAGE_ERROR
    assert "500 shots need as many frames" in text


@pytest.mark.parametrize("name", ["model.pkl", "model.safetensors", "model.pth"])
def test_a_model_that_is_none_is_one_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04nothing")
    code, text = call(str(tmp_path / name), "--output", str(tmp_path / "new"))
    assert code == USAGE_ERROR
    assert "Traceback" not in text
    assert not (tmp_path / "new").exists()


def test_shots_may_end_with_all() -> None:
    assert parse_shots("1,5,all") == (1, 5, ALL)
    assert parse_shots("all") == (ALL,)
    with pytest.raises(SettingsError, match="whole numbers"):
        parse_shots("all,5")


def test_a_study_of_a_run_goes_into_its_folder() -> None:
    found = default_output("runs/a/checkpoints/foundation.safetensors")
    assert found == Path("runs/a/finetune")
    assert default_output("models:/x@best").parent == Path("finetunings")
