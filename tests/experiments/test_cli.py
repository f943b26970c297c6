"""The command line as a user meets it, without starting a federation."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from experiments import cli
from experiments.commands.errors import USAGE_ERROR
from experiments.run_config import new_run_folder
from experiments.simulation import SimulationOutcome, SimulationRequest


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


def stub_simulation(monkeypatch: pytest.MonkeyPatch, **values: Any) -> list[Any]:  # noqa: ANN401
    """Replace the run itself; what the command asked for is kept."""
    seen: list[SimulationRequest] = []

    def simulate(request: SimulationRequest, **_: object) -> SimulationOutcome:
        seen.append(request)
        folder = Path(str(request.run_config["output"]))
        return SimulationOutcome(
            run_folder=folder, seconds=3.0, peak_memory_mib=2048.0, **values
        )

    monkeypatch.setattr("experiments.commands.simulate.simulate", simulate)
    return seen


def completed() -> dict[str, Any]:
    scores = {
        "test/dice": 0.5,
        "test/cldice": None,
        "test/catheter/pooled.iou": 0.375,
        "test/catheter/device-image.hd95-px": 12.34,
        "test/catheter/pooled.auc": None,
        "test/guidewire/pooled.iou": None,
    }
    return {
        "status": "completed",
        "reason": "",
        "result": {"test": {"ward": scores}, "global": scores, "missing": []},
    }


def test_a_completed_run_ends_with_its_table_and_its_paths(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = stub_simulation(monkeypatch, **completed())
    output = tmp_path / "run"
    result = call("simulate", "--output", str(output), "--set", "num-rounds=2")
    assert result.exit_code == 0
    assert seen[0].num_sites == 4
    assert seen[0].run_config["num-rounds"] == 2
    assert "ward" in result.stdout
    assert "0.500" in result.stdout
    catheter = next(li for li in result.stdout.splitlines() if "catheter" in li).split()
    assert catheter == ["catheter", "–", "–", "0.375", "12.3", "–", "–", "–", "–"]
    assert "guidewire" not in result.stdout  # nobody looked for it
    assert str(output / "checkpoints" / "foundation.safetensors") in result.stdout
    assert "2.0 GiB" in result.stdout


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"status": "failed"}, 1),
        ({"status": "failed", "too_few_sites": True}, 3),
        ({"status": "stopped", "stopped_by": "deadline"}, 124),
        ({"status": "stopped", "stopped_by": "interrupt"}, 130),
    ],
)
@pytest.mark.parametrize("command", ["simulate", "quickstart"])
def test_the_exit_code_tells_how_a_run_ended(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    command: str,
    values: dict[str, Any],
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    stub_simulation(monkeypatch, result=None, reason="ward: the disk is full", **values)
    result = call(command)
    assert result.exit_code == code
    assert "ward: the disk is full" in result.output


def test_an_unknown_setting_is_one_error_with_a_suggestion() -> None:
    result = call("simulate", "--set", "train.step=3")
    assert result.exit_code == USAGE_ERROR
    assert "did you mean train.steps?" in result.output
    assert "Traceback" not in result.output


def test_a_sites_file_that_is_wrong_is_one_error(tmp_path: Path) -> None:
    sites = tmp_path / "sites.toml"
    sites.write_text('[[site]]\nname = "a"\ndomain = "martian"\n')
    result = call("simulate", "--sites", str(sites), "--output", str(tmp_path / "run"))
    assert result.exit_code == USAGE_ERROR
    assert "martian" in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["--shots", "--seeds"])
def test_a_list_that_is_no_list_is_refused(tmp_path: Path, option: str) -> None:
    result = call("finetune", str(tmp_path / "x.safetensors"), option, "1;2")
    assert result.exit_code == USAGE_ERROR
    assert f"{option} wants whole numbers" in result.output


def test_a_checkpoint_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    result = call("finetune", str(tmp_path / "checkpoints" / "foundation.safetensors"))
    assert result.exit_code == USAGE_ERROR
    assert "Traceback" not in result.output


def test_settings_are_listed_with_their_defaults() -> None:
    result = call("settings")
    assert result.exit_code == 0
    assert "fedefm.temperature" in result.output


def test_two_runs_in_one_second_get_two_folders(tmp_path: Path) -> None:
    first = new_run_folder(tmp_path)
    first.mkdir()
    assert new_run_folder(tmp_path) != first
