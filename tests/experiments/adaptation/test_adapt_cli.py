import json
from pathlib import Path

import cv2
import pytest
import typer
from typer.testing import CliRunner

from experiments.adaptation.plan import ROWS
from experiments.commands.adapt import (
    adapt_command,
    is_folder,
    output_folder,
    preset_of,
    read_plan,
)
from experiments.commands.errors import USAGE_ERROR
from experiments.run_config import PROJECT_FOLDER
from tests.experiments.adaptation.small_study import write_folder

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(adapt_command)
SMOKE = PROJECT_FOLDER / "experiments" / "configs" / "adapt_smoke.toml"
SMALL = ["--config", str(SMOKE), "--device", "cpu"]
FOLDER = ["--layout", "pairs", "--classes", "catheter", "--split-by", "sequence"]


def call(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments), terminal_width=200)
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("jane-doe"))


@pytest.fixture(scope="module")
def adapted(site: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Every row, on frames of a folder that are larger than the network."""
    output = tmp_path_factory.mktemp("out") / "new"
    options = ["--target", str(site), "--rows", ",".join(ROWS)]
    code, text = call(*SMALL, *FOLDER, *options, "--output", str(output))
    assert code == 0, text
    return output, text


def test_every_row_is_in_the_table(adapted: tuple[Path, str]) -> None:
    content = json.loads((adapted[0] / "results.json").read_text())
    for part in ("test", "adaptation"):
        assert [one["row"] for one in content["tables"][part]] == list(ROWS)
        assert all(0 <= one["iou"]["mean"] <= 1 for one in content["tables"][part])
    assert not content["problems"]


def test_masks_have_the_size_of_the_frames(
    adapted: tuple[Path, str], site: Path
) -> None:
    masks = sorted((adapted[0] / "masks").rglob("*_catheter.png"))
    assert len(masks) == 8
    sizes = {cv2.imread(str(one), cv2.IMREAD_GRAYSCALE).shape for one in masks}
    frames = (site / "images").iterdir()
    assert (
        sizes
        == {cv2.imread(str(one), 0).shape for one in frames}
        == {
            (64, 48),
            (64, 56),
        }
    )


def test_nothing_written_or_said_has_a_name_or_a_path(
    adapted: tuple[Path, str],
) -> None:
    output, text = adapted
    written = b"".join(
        one.read_bytes() + str(one.relative_to(output)).encode()
        for one in output.rglob("*")
        if one.is_file() and one.suffix != ".png"
    )
    for secret in ("SECRET", "jane-doe", str(output.parent)):
        assert secret.encode() not in written
        assert secret not in text


def test_resuming_computes_nothing_again_and_writes_the_same_tables(
    adapted: tuple[Path, str], site: Path
) -> None:
    output, _ = adapted
    before = {
        one: one.stat().st_mtime_ns for one in sorted((output / "stages").iterdir())
    }
    table = (output / "table.csv").read_bytes()
    code, text = call(*FOLDER, "--target", str(site), "--resume", str(output))
    assert code == 0, text
    after = {
        one: one.stat().st_mtime_ns for one in sorted((output / "stages").iterdir())
    }
    assert after == before
    assert (output / "table.csv").read_bytes() == table


def test_a_folder_of_an_earlier_run_has_to_be_named_again(
    adapted: tuple[Path, str],
) -> None:
    code, text = call(*FOLDER, "--resume", str(adapted[0]))
    assert code == USAGE_ERROR
    assert "name it with --target" in text


def test_results_are_not_overwritten(adapted: tuple[Path, str]) -> None:
    code, text = call(*SMALL, "--output", str(adapted[0]))
    assert code == USAGE_ERROR
    assert "Go on with it by --resume" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rows", "theirs"], "rows must be some of"),
        (["--seeds", "a"], "--seeds wants whole numbers"),
        (["--source", "moon"], "domain must be one of"),
        (["--target", "/no/DOE^JANE"], "neither"),
        (["--set", "adapt.epochs=0"], "adapt.epochs must be at least 1"),
        (["--set", "model.name=unet"], "takes settings of the adaptation"),
        (["--set", "study.moon=1"], "no setting 'moon'"),
        (["--device", "tpu"], "--device must be one of"),
        (["--layout", "sideways"], "--layout must be one of"),
        (["--from", "model.pkl"], "Pickles are not read"),
        (["--from", "gone.safetensors"], "no such checkpoint"),
        (["--resume", "/no/DOE^JANE"], "study file cannot be read"),
        (["--config", "/no/DOE^JANE.toml"], "study file cannot be read"),
    ],
)
def test_a_wrong_option_is_one_error_without_a_path(
    tmp_path: Path, options: list[str], message: str
) -> None:
    output = tmp_path / "new"
    code, text = call(*SMALL, *options, "--output", str(output))
    assert code == USAGE_ERROR, text
    assert message in text
    assert "Traceback" not in text
    assert "DOE" not in text
    assert not output.exists() or not any(output.rglob("*.safetensors"))


def test_without_a_model_the_command_says_what_is_missing(tmp_path: Path) -> None:
    code, text = call("--target", "neuro", "--output", str(tmp_path / "new"))
    assert code == USAGE_ERROR
    assert "--from" in text


def test_options_win_over_the_study_file(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text(
        "[study]\ntarget = 'neuro'\nseeds = [5]\nmodel = 'random'\n"
        "[adapt]\nepochs = 4\nwarmup-epochs = 2\n"
        "[[variant]]\nname = 'a'\nrows = ['direct']\n"
    )
    plan = read_plan(
        file,
        None,
        {"seeds": (0, 1), "target": ""},
        ("ours",),
        ["adapt.epochs=3", "study.test-patients=2"],
    )
    assert (plan.seeds, plan.target, plan.test_patients) == ((0, 1), "neuro", 2)
    assert plan.variants[0].rows == ("ours",)
    assert plan.variants[0].settings.epochs == 3
    assert plan.variants[0].settings.warmup_epochs == 2


def test_a_small_network_has_settings_of_its_own_that_anything_else_overrides() -> None:
    small = {"model": "random", "name": "sam-tiny", "target": "neuro"}
    plan = read_plan(None, None, small, (), ["adapt.training=lora"])
    settings = plan.variants[0].settings
    assert (settings.coarse_network, settings.training) == ("sam", "lora")
    assert preset_of({"model": "random", "name": "sam-vit-b"}) == {}
    assert preset_of({"model": "sam.pth"}) == {}
    assert preset_of({}) == {}


def test_results_do_not_go_where_frames_are_read(site: Path) -> None:
    code, text = call(*SMALL, "--target", str(site), "--output", str(site / "new"))
    assert code == USAGE_ERROR
    assert "lies inside a folder of frames" in text


def test_a_folder_is_one_only_if_it_exists_and_is_no_domain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "neuro").mkdir()
    assert not is_folder("neuro")
    assert is_folder("./neuro")
    assert is_folder(str(tmp_path))
    assert not is_folder("")
    assert not is_folder(str(tmp_path / "none"))
    assert output_folder(None, tmp_path) == tmp_path.resolve()


def test_pytorch_gets_as_many_threads_as_asked_for_and_one_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        "experiments.commands.adapt.torch.set_num_threads", asked.append
    )
    monkeypatch.setattr("experiments.commands.adapt.run_adaptation", lambda *_: None)
    for number, options in enumerate(([], ["--threads", "2"])):
        output = tmp_path / str(number)
        code, text = call(*SMALL, *options, "--output", str(output))
        assert code == 0, text
    assert asked == [1, 2]
