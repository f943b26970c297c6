import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from experiments.benchmarks.networks import count_cost, time_networks
from experiments.cli import app
from experiments.command_errors import USAGE_ERROR

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
    names, modes = ("unet", "fga-net-small"), ("eager", "channels-last", "bf16")
    timings = time_networks(
        names, size=64, batches=(1, 2), modes=modes, repeats=1, device=CPU
    )
    keys = {(one.name, one.mode, one.batch) for one in timings}
    assert keys == {(n, m, b) for n in names for m in modes for b in (1, 2)}
    for one in timings:
        assert one.milliseconds > 0
        assert one.frames_per_second == pytest.approx(1000 / one.milliseconds)
        exact = {"eager": 0.0, "channels-last": 1e-3, "bf16": 1.0}[one.mode]
        assert one.largest_difference <= exact


def test_the_command_prints_a_table_and_writes_the_numbers(tmp_path: Path) -> None:
    output = tmp_path / "networks.json"
    options = ["--names", "unet,fga-net-small", "--size", "64", "--batches", "1"]
    options += ["--modes", "eager", "--repeats", "1", "--output", str(output)]
    result = CliRunner().invoke(app, ["benchmark", "networks", *options])
    assert result.exit_code == 0, result.output
    written = json.loads(output.read_text())
    assert [one["name"] for one in written["costs"]] == ["unet", "fga-net-small"]
    assert len(written["timings"]) == 2
    assert "1.00" in result.output  # the U-Net beside itself


def test_unknown_networks_are_refused_with_the_list() -> None:
    result = CliRunner().invoke(app, ["benchmark", "networks", "--names", "u-net"])
    assert result.exit_code == USAGE_ERROR
    assert "sam-tiny" in result.output
