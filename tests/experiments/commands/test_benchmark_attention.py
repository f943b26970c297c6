import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from experiments.benchmarks import attention
from experiments.benchmarks.attention import (
    CHECKPOINTED,
    ORIGINAL,
    OURS,
    Setting,
    Skipped,
    measure_attention,
    needed_bytes,
)
from experiments.commands.benchmarks.attention import attention_command
from experiments.commands.errors import USAGE_ERROR

TINY = Setting("sam-tiny", "layer", 64, "float32", torch.device("cpu"))

app = typer.Typer()
app.command()(attention_command)


@pytest.mark.parametrize("scope", ["layer", "encoder"])
def test_ours_gives_the_numbers_of_the_original(scope: str) -> None:
    found = measure_attention(replace(TINY, scope=scope), repeats=1)
    assert not isinstance(found, Skipped)
    trained = [ORIGINAL, OURS] + ([CHECKPOINTED] if scope == "encoder" else [])
    assert [(one.passes, one.variant) for one in found] == [
        ("inference", ORIGINAL),
        ("inference", OURS),
        *(("training", name) for name in trained),
    ]
    for one in found:
        assert one.milliseconds > 0
        assert one.output_difference < 1e-4
        if one.passes == "training":
            assert one.gradient_difference is not None
            assert one.gradient_difference < 1e-4
        if one.variant == ORIGINAL:
            assert (one.time_ratio, one.memory_ratio) == (1.0, 1.0)


def test_wrong_numbers_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sharper(attention.FusedAttention):
        def __init__(self, original: torch.nn.Module) -> None:
            super().__init__(original)
            self.scale *= 1.1

    monkeypatch.setattr(attention, "FusedAttention", Sharper)
    found = measure_attention(TINY, repeats=1)
    assert not isinstance(found, Skipped)
    ours = found[-1]
    assert ours.output_difference > 1e-3
    assert ours.gradient_difference is not None
    assert ours.gradient_difference > 1e-3


def test_ours_needs_at_most_half_the_memory_at_512_px() -> None:
    found = measure_attention(replace(TINY, size=512), repeats=1)
    assert not isinstance(found, Skipped)
    ours = {one.passes: one.memory_ratio for one in found if one.variant == OURS}
    assert ours["inference"] <= 0.5
    assert ours["training"] <= 0.5


def test_what_does_not_fit_is_skipped_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attention, "_free_bytes", lambda _: 2**20)
    found = measure_attention(replace(TINY, size=1024), repeats=1)
    assert isinstance(found, Skipped)
    assert "1 MiB are free" in found.reason


def test_the_estimate_knows_the_whole_matrix() -> None:
    layer = Setting("sam-vit-b", "layer", 1024, "float32", torch.device("cpu"))
    matrix = 12 * 4096**2 * 4
    assert 3 * matrix < needed_bytes(layer) < 4 * matrix
    assert needed_bytes(replace(layer, scope="encoder")) > 6 * matrix


def test_the_command_prints_a_table_and_writes_the_numbers(tmp_path: Path) -> None:
    output = tmp_path / "new" / "attention.json"
    options = ["--network", "sam-tiny", "--sizes", "32,64", "--scope", "layer"]
    options += ["--repeats", "1", "--precision", "bf16", "--output", str(output)]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    assert "gradients" in result.output
    written = json.loads(output.read_text())
    assert "--sizes 32,64" in written["command"]
    assert {one["size"] for one in written["measurements"]} == {32, 64}
    # bf16 keeps 8 bits: equal numbers would mean that it was not used
    apart = [one["output_difference"] for one in written["measurements"]]
    assert 1e-4 < max(apart) < 0.1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--network", "unet"], "--network"),
        (["--scope", "layers"], "--scope"),
        (["--sizes", "100"], "--sizes"),
        (["--sizes", "0"], "--sizes"),
        (["--sizes", "a"], "--sizes"),
        (["--precision", "fp16"], "--precision"),
        (["--device", "tpu"], "--device"),
    ],
)
def test_a_mistake_is_named(options: list[str], named: str) -> None:
    result = CliRunner().invoke(app, options)
    assert result.exit_code == USAGE_ERROR
    assert named in result.output
