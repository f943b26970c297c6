import json
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from experiments.benchmarks.folding import measure
from experiments.commands.benchmarks.folding import folding_command


def test_a_server_that_folds_holds_the_same_for_more_silos(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # glibc gives freed tensors back at once; else what it keeps is up to a model.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")
    # Tensors large enough to travel alone: small ones are copied to travel together.
    few, many = (measure("fedefm-no-teachers", n, 8_000_000) for n in (2, 6))
    assert few.model_mib == pytest.approx(32_000_000 / 2**20, rel=0.01)
    assert 1 < few.models
    assert many.models < few.models + 0.2


def test_flowers_own_average_holds_every_model() -> None:
    few, many = (measure("flower-fedavg", n, 4_000_000) for n in (2, 6))
    assert many.models > few.models + 2


def test_the_table_and_the_file_have_every_method(tmp_path: Path) -> None:
    app = Typer()
    app.command()(folding_command)
    output = tmp_path / "folding.json"
    arguments = ["--silos", "2", "--parameters", "0.01", "--output", str(output)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    rows = json.loads(output.read_text())["rows"]
    assert [row["method"] for row in rows] == [
        "flower-fedavg",
        "fedefm-no-teachers",
        "fedefm-ring",
    ]
    assert all(row["method"] in result.output for row in rows)
    assert CliRunner().invoke(app, ["--silos", "two"]).exit_code == 2
