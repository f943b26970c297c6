"""`endofed topology` as a user meets it."""

from pathlib import Path

import cv2
import pytest
import typer
from typer.testing import CliRunner, Result

from experiments.commands.errors import USAGE_ERROR
from experiments.commands.topology import topology_command
from strategies.topology import DESIGNS


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(topology_command)
    return CliRunner().invoke(
        app, list(map(str, arguments)), env={"COLUMNS": "200"}, catch_exceptions=False
    )


def rows_of(result: Result) -> dict[str, list[str]]:
    lines = (line.split() for line in result.output.splitlines())
    return {line[0]: line[1:] for line in lines if line}


def test_gaia_and_its_ring_are_the_default() -> None:
    result = run()
    assert result.exit_code == 0, result.output
    rows = rows_of(result)
    assert rows["Dublin"] == ["Sao", "Paulo"]
    assert set(DESIGNS) <= set(rows)
    assert rows["ring"] == ["11", "1", "1472.8", "1.00"]
    assert "gaia: 1400 Mbit, 25 ms" in result.output


def test_a_small_message_makes_distance_count() -> None:
    rows = rows_of(run("--model-mbit", 4.72, "--compute-ms", 0))
    assert float(rows["star"][3]) > 3


def test_a_map_is_written_when_asked_for(tmp_path: Path) -> None:
    figure = tmp_path / "map.png"
    result = run("--network", "amazon", "--design", "mst", "--figure", figure)
    assert result.exit_code == 0, result.output
    assert cv2.imread(str(figure)) is not None
    assert f"Written: {figure}" in result.output


def test_hospitals_get_the_first_nodes_and_this_is_said() -> None:
    result = run("--silos", "ward-b, ward-a,ward-c", "--access-mbit-s", 100)
    assert result.exit_code == 0, result.output
    assert rows_of(result)["ward-a"][0] == "Virginia"
    assert "in sorted order they got the first ones" in result.output


def test_a_lone_hospital_that_computes_nothing_takes_no_time() -> None:
    result = run("--silos", "ward", "--compute-ms", 0)
    assert result.exit_code == 0, result.output
    assert rows_of(result)["ring"] == ["0", "0", "0.0", "–"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--design", "web"), "--design must be one of ring"),
        (("--network", "mars"), "name gaia, amazon, or a GML"),
        (("--silos", "Tokyo,Dublin,Bonn"), "no node called 'Bonn'"),
        (("--silos", "a,a"), "same name"),
        (("--model-mbit", "0"), "model_mbit must be > 0"),
        (("--figure", "map.jpg"), "ends in .png"),
        (("--figure", "/nowhere/map.png"), "The figure cannot be written"),
    ],
)
def test_a_mistake_is_told_in_one_message(
    arguments: tuple[str, ...], said: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == USAGE_ERROR
    assert said in result.output
    assert "Traceback" not in result.output
