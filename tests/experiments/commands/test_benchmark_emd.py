import json
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from experiments.benchmarks.emd import measure_ways, time_in_turn
from experiments.benchmarks.emd_measures import (
    REFERENCE,
    WAYS,
    cost_and_masses,
    make_inputs,
    measure_quality,
    reason_to_skip,
)
from experiments.commands.benchmarks.emd import emd_command
from experiments.commands.errors import USAGE_ERROR

CPU = torch.device("cpu")
APP = typer.Typer()
APP.command()(emd_command)


def test_made_weights_are_positive_and_depend_on_the_seed_alone() -> None:
    inputs, again, other = (make_inputs(9, 2, 5, seed) for seed in (0, 0, 1))
    assert torch.equal(inputs.students, again.students)
    assert not torch.equal(inputs.students, other.students)
    assert bool((inputs.student_weights > 0).all())
    _, source, target = cost_and_masses(inputs)
    torch.testing.assert_close(source.sum(1), torch.ones(2))
    torch.testing.assert_close(target.sum(1), torch.ones(2))


@pytest.mark.parametrize("name", ["ot.emd2", "exact", "emd_c"])
def test_exact_ways_agree_with_the_linear_programme_to_1e_9(name: str) -> None:
    quality = measure_quality(WAYS[name], make_inputs(12, 2, 8, 0), CPU)
    assert quality.value_reference == "HiGHS"
    assert quality.value_error < 1e-9
    assert quality.plan_error is not None
    assert quality.plan_error < 1e-9
    assert quality.feature_error < 1e-9
    assert quality.weight_error is not None
    assert quality.weight_error < 1e-9


def test_the_sinkhorn_way_is_as_wrong_as_its_gap_allows() -> None:
    quality = measure_quality(WAYS["sinkhorn"], make_inputs(12, 2, 8, 0), CPU)
    assert quality.gap is not None
    assert 0 < quality.value_error <= quality.gap <= 0.01
    assert quality.feature_cosine > 0.8


def test_the_way_of_deepemd_gives_no_gradient_to_weights() -> None:
    quality = measure_quality(WAYS["cv2.EMD"], make_inputs(12, 2, 8, 0), CPU)
    assert quality.weight_error is None
    assert quality.value_error < 1e-4


def test_what_would_be_wrong_or_take_minutes_is_left_out_with_a_reason() -> None:
    assert "wrong above 196" in str(reason_to_skip("cv2.EMD", 256, 4, CPU))
    assert "minutes" in str(reason_to_skip("sinkhorn", 1024, 16, CPU))
    assert reason_to_skip("sinkhorn", 1024, 16, torch.device("cuda")) is None
    assert reason_to_skip("exact", 1024, 16, CPU) is None


def test_ways_are_measured_at_every_size() -> None:
    names = (REFERENCE, "exact")  # all of them: the test of the command
    rows, skipped = measure_ways(
        names, nodes=(4, 9), batches=(1, 2), repeats=1, device=CPU
    )
    assert not skipped
    assert {(one.name, one.n, one.batch) for one in rows} == {
        (name, n, batch) for name in names for n in (4, 9) for batch in (1, 2)
    }
    assert all(0 < one.least_milliseconds <= one.milliseconds for one in rows)


def test_ways_take_turns_and_the_first_turn_does_not_count() -> None:
    order: list[str] = []
    runs = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = time_in_turn(runs, 2, CPU)
    assert order == ["a", "b"] * 3
    assert [len(one) for one in seconds.values()] == [2, 2]


def test_the_command_prints_tables_and_writes_the_numbers(tmp_path: Path) -> None:
    output = tmp_path / "emd.json"
    options = ["--nodes", "4", "--batches", "2", "--solvers", "all"]
    options += ["--repeats", "1", "--networks", "fga-net-small", "--grids", "2,8"]
    options += ["--size", "64", "--output", str(output)]
    result = CliRunner().invoke(APP, options)
    assert result.exit_code == 0, result.output
    written = json.loads(output.read_text())
    assert [one["name"] for one in written["rows"]] == list(WAYS)
    assert written["rows"][0]["ratio"] == 1.0  # the loop over ot.emd2 beside itself
    assert [one["grid"] for one in written["steps"]] == [2, 2]
    assert written["steps_missing"] == ["fga-net-small has 2 x 2 features, grid is 8"]
    assert "…" not in result.output  # nothing is cut, however narrow the pipe


@pytest.mark.parametrize(
    ("option", "value"),
    [("--solvers", "magic"), ("--nodes", "16,-4"), ("--networks", "u-net")],
)
def test_options_that_make_no_sense_are_refused(option: str, value: str) -> None:
    result = CliRunner().invoke(APP, [option, value])
    assert result.exit_code == USAGE_ERROR
    assert option in result.output
