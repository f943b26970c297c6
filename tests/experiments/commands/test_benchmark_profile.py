"""Where a network's time goes is told in full and under the right names."""

import json
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from experiments.benchmarks.profile import (
    OTHER,
    REST,
    operator_kind,
    profile_operators,
    profile_parts,
)
from experiments.cli import app
from experiments.commands.errors import USAGE_ERROR


class Sleeping(nn.Module):
    """Takes a known time."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return images


class Listed(nn.Module):
    """Calls modules of a list, one of them twice, and sleeps beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([nn.Sequential(Sleeping(0.04)), Sleeping(0.01)])

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(0.02)
        first, second = self.stages
        return second(second(first(images)))


def test_parts_and_the_rest_make_up_the_whole() -> None:
    shares = profile_parts(Listed(), torch.zeros(1), depth=2, repeats=3)
    found = {one.name: one for one in shares}
    assert list(found) == ["stages.0", "stages.0.0", "stages.1", REST]
    assert sum(one.percent for one in shares if one.depth == 1) == pytest.approx(100)
    # Sleeps are at least as long as asked; a busy machine only makes them longer.
    assert found["stages.0"].milliseconds >= 40
    assert found["stages.1"].milliseconds >= 20  # two calls
    assert found[REST].milliseconds >= 20
    assert found["stages.0"].milliseconds >= found["stages.0.0"].milliseconds
    assert found["stages.0"].kind == "Sequential"


def test_no_hook_is_left_behind() -> None:
    network = Listed()
    profile_parts(network, torch.zeros(1), depth=1, repeats=1)
    assert not any(one._forward_hooks for one in network.modules())
    assert not any(one._forward_pre_hooks for one in network.modules())


def test_kinds_of_operators_make_up_the_whole() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    shares = profile_operators(network, torch.rand(1, 1, 32, 32), repeats=2)
    assert {"convolution", "normalisation"} <= {one.name for one in shares}
    assert sum(one.percent for one in shares) == pytest.approx(100)
    assert [one.percent for one in shares] == sorted(
        (one.percent for one in shares), reverse=True
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::mkldnn_convolution", "convolution"),
        ("torchvision::deform_conv2d", "deformable sampling"),
        ("aten::_embedding_bag_forward_only", "deformable sampling"),
        ("aten::addmm", "matrix product"),
        ("aten::native_batch_norm", "normalisation"),
        ("aten::upsample_bilinear2d", "resizing"),
        ("aten::arange", OTHER),
    ],
)
def test_an_operator_is_counted_under_its_kind(name: str, kind: str) -> None:
    assert operator_kind(name) == kind


def test_the_command_prints_both_tables_and_writes_them(tmp_path: Path) -> None:
    output = tmp_path / "profile.json"
    options = ["--network", "fga-net-small", "--size", "64", "--repeats", "1"]
    options += ["--fused", "--output", str(output)]
    result = CliRunner().invoke(app, ["benchmark", "profile", *options])
    assert result.exit_code == 0, result.output
    assert "ShiftDeformableAttention" in result.output
    assert "by kind of operator" in result.output
    written = json.loads(output.read_text())
    assert {one["name"] for one in written["parts"]} >= {"down.0", "join.4", "up.0.0"}
    assert written["fused"] is True


def test_an_unknown_network_is_refused_with_the_list() -> None:
    result = CliRunner().invoke(app, ["benchmark", "profile", "--network", "u-net"])
    assert result.exit_code == USAGE_ERROR
    assert "fga-net" in result.output
