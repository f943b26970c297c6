import json
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from experiments.benchmarks import networks
from experiments.benchmarks.modes import Run
from experiments.benchmarks.networks import (
    _Pair,
    _summarise,
    count_cost,
    time_networks,
)
from experiments.cli import app
from experiments.commands.errors import USAGE_ERROR

CPU = torch.device("cpu")


def test_costs_are_those_of_the_named_network() -> None:
    unet, fga_net = (count_cost(name, 64) for name in ("unet", "fga-net"))
    # One class more than the paper: 33 parameters of U-Net's last layer.
    assert unet.parameters == 7_763_041 + 33
    assert fga_net.parameters == 45_148_863 + 33
    # At 64 px a frame has a 64th of the pixels of 512 px.
    assert unet.published_gmacs == pytest.approx(54.98 / 64, rel=0.01)
    assert fga_net.true_gmacs > fga_net.published_gmacs


def test_every_mode_is_timed_and_compared_with_the_eager_logits() -> None:
    names = ("unet", "fga-net-small")
    modes = ("eager", "channels-last", "fused", "bf16")
    measured = time_networks(
        names, size=64, batches=(2,), modes=modes, repeats=1, device=CPU
    )
    timings = measured.timings
    keys = {(one.name, one.mode, one.batch) for one in timings}
    assert keys == {(n, m, 2) for n in names for m in modes}
    assert measured.failures == []
    allowed = {"eager": 0.0, "channels-last": 1e-3, "fused": 1e-3, "bf16": 1.0}
    for one in timings:
        assert one.milliseconds > 0
        assert one.frames_per_second == pytest.approx(1000 / one.milliseconds)
        assert one.ratio is not None
        assert one.ratio > 0
        assert one.largest_difference <= allowed[one.mode]


def test_a_ratio_is_the_median_over_pairs_measured_side_by_side() -> None:
    # The machine is ten times slower during the second pair.
    pairs = [_Pair(1.0, 2.0), _Pair(10.0, 30.0), _Pair(1.0, 4.0)]
    milliseconds, frames_per_second, ratio = _summarise(pairs, batch=2)
    assert ratio == 3.0
    assert milliseconds == 1000 * 4.0 / 2
    assert frames_per_second == 2 / 4.0


def test_every_network_is_measured_in_turn_with_the_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []

    def note(network: nn.Module, images: Tensor, mode: str) -> Run:
        name = type(network).__name__

        def run() -> Tensor:
            order.append(name)
            return torch.zeros(1, 2, 64, 64)

        return run

    monkeypatch.setattr(networks, "in_mode", note)
    monkeypatch.setattr(networks, "WARMUP", 1)
    time_networks(
        ["fga-net-small"],
        size=64,
        batches=[1],
        modes=["eager"],
        repeats=2,
        device=CPU,
    )
    # The logits to compare with and a warm-up of both, pairs, one pass for the memory.
    begin = 2 * ("FGANet",) + 2 * ("UNet",)
    assert order == [*begin, *2 * ("UNet", "FGANet"), "FGANet"]


def test_without_a_compiler_the_reason_is_told_and_nothing_else_is_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    output = tmp_path / "networks.json"
    options = ["--names", "fga-net-small", "--size", "64", "--batches", "1,2"]
    options += ["--modes", "eager,compiled", "--repeats", "1", "--output", str(output)]
    result = CliRunner().invoke(app, ["benchmark", "networks", *options])
    assert result.exit_code == 0, result.output
    assert result.output.count("needs a C++ compiler") == 1  # though of two sizes
    assert "–" in result.output
    written = json.loads(output.read_text())
    assert [one["mode"] for one in written["timings"]] == ["eager", "eager"]
    assert [one["mode"] for one in written["failures"]] == ["compiled", "compiled"]


def test_a_compiled_network_gives_the_eager_logits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Traced only: what a C++ compiler makes of it takes minutes.
    whole = torch.compile
    monkeypatch.setattr(torch, "compile", partial(whole, backend="eager"))
    measured = time_networks(
        ["unet"], size=64, batches=[1], modes=["compiled"], repeats=1, device=CPU
    )
    assert measured.failures == []
    assert measured.timings[0].largest_difference <= 1e-5


def test_the_command_prints_a_table_and_writes_the_numbers(tmp_path: Path) -> None:
    output = tmp_path / "networks.json"
    options = ["--names", "unet,fga-net-small", "--size", "64", "--batches", "1"]
    options += ["--modes", "eager", "--repeats", "1", "--output", str(output)]
    result = CliRunner().invoke(app, ["benchmark", "networks", *options])
    assert result.exit_code == 0, result.output
    written = json.loads(output.read_text())
    assert [one["name"] for one in written["costs"]] == ["unet", "fga-net-small"]
    assert len(written["timings"]) == 2
    for one in written["timings"]:
        assert f"{one['ratio']:.2f}" in result.output
        if sys.platform == "linux":
            assert one["peak_mib"] > 1


def test_unknown_networks_are_refused_with_the_list() -> None:
    result = CliRunner().invoke(app, ["benchmark", "networks", "--names", "u-net"])
    assert result.exit_code == USAGE_ERROR
    assert "sam-tiny" in result.output
