"""`endofed data partition`: what it writes can be used, and says what it is."""

import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from clients.partition import Partition, unseen_partition
from clients.sites import SiteSpec, load_sites
from experiments.commands.data_partition import (
    Scheme,
    choose_types,
    partition_command,
    partition_table,
)
from experiments.partition_figure import draw_partition
from experiments.partition_sites import silo_names, write_sites

ORANGE, BLUE = (0xE6, 0x9F, 0x00), (0x00, 0x72, 0xB2)


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(partition_command)
    return CliRunner().invoke(
        app, list(map(str, arguments)), env={"COLUMNS": "200"}, catch_exceptions=False
    )


def patients_of(site: SiteSpec) -> dict[str, int]:
    return {source.data_type: source.patients for source in site.sources}


def count_pixels(path: Path, colour: tuple[int, int, int]) -> int:
    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    return int((picture[..., ::-1] == colour).all(axis=-1).sum())


def test_four_silos_with_nothing_in_common_are_the_default(tmp_path: Path) -> None:
    output = tmp_path / "sites.toml"
    result = run("--output", output)
    assert result.exit_code == 0, result.output
    sites = load_sites(str(output))
    assert [site.name for site in sites] == ["silo-1", "silo-2", "silo-3", "silo-4"]
    assert {site.data_types for site in sites} == {
        ("human",), ("animal",), ("phantom",), ("simulation",),
    }  # fmt: skip
    assert all(source.patients == 24 for site in sites for source in site.sources)
    assert output.with_suffix(".png").exists()
    assert "wanted 100 % by type, reached 100.0 % by type, 100.0 % by frames" in (
        result.output
    )


def test_half_unseen_adds_a_random_domain_and_mixes_types(tmp_path: Path) -> None:
    output, figure = tmp_path / "half.toml", tmp_path / "who.png"
    result = run(
        "--unseen", 50, "--patients", 7, "--frames-per-patient", 2,
        "--output", output, "--figure", figure,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    sites = load_sites(str(output))
    assert all(sorted(patients_of(site).values()) == [3, 4] for site in sites)
    held = [set(site.data_types) for site in sites]
    (shared,) = set.intersection(*held)
    assert set.union(*held) == {"human", "animal", "phantom", "simulation", "random-1"}
    assert len(set.union(*[one - {shared} for one in held])) == 4
    frames = [s.frames_per_patient for site in sites for s in site.sources]
    assert frames == [2] * 8


@pytest.mark.parametrize(
    "wish",
    [
        ("--unseen", "30", "--silos", "3", "--seed", "5"),
        ("--scheme", "dirichlet", "--alpha", "0.2", "--silos", "11"),
        ("--scheme", "by-site", "--types", "neuro,random-7", "--silos", "5"),
    ],
)
def test_the_command_in_the_file_makes_the_same_file(
    tmp_path: Path, wish: tuple[str, ...]
) -> None:
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    assert run(*wish, "--output", first).exit_code == 0
    lines = first.read_text(encoding="utf-8").splitlines()
    words = shlex.split(lines[1].removeprefix("#"))
    assert words[:3] == ["endofed", "data", "partition"]
    assert run(*words[3:], "--output", second).exit_code == 0
    assert first.read_text(encoding="utf-8") == second.read_text(encoding="utf-8")
    assert first.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"


def test_what_exists_is_replaced_only_by_force(tmp_path: Path) -> None:
    output = tmp_path / "sites.toml"
    output.write_text("precious", encoding="utf-8")
    refused = run("--output", output)
    assert refused.exit_code == 2 and "--force" in refused.output
    assert output.read_text(encoding="utf-8") == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["sites.toml"]
    output.rename(tmp_path / "sites.png")  # the figure alone is in the way
    assert run("--output", output).exit_code == 2
    assert run("--output", output, "--force").exit_code == 0
    assert len(load_sites(str(output))) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--types", "human,DOE"), "1 of 2 types are no simulated domain"),
        (("--types", "human,human"), "different names"),
        (("--silos", "5", "--types", "human,animal"), "at least 5 data types"),
        (("--scheme", "dirichlet", "--alpha", "0"), "alpha must be"),
        (("--figure", "who.svg"), "ends in .png"),
        (("--output", "a.png", "--figure", "a.png"), "different names"),
        (("--output", "absent/sites.toml"), "cannot be written"),
    ],
)
def test_mistakes_end_in_one_sentence_and_no_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert "DOE" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_target_out_of_reach_is_reported_with_the_types_it_needs(
    tmp_path: Path,
) -> None:
    types = "human,animal,phantom,simulation"
    result = run(
        "--types", types, "--unseen", "40", "--output", tmp_path / "sites.toml"
    )
    said = " ".join(result.output.split())
    assert "wanted 40 % by type, reached 0.0 % by type" in said
    assert "For 40 % these 4 silos need 11 types, here are 4" in said


def test_types_that_nobody_holds_are_named(tmp_path: Path) -> None:
    output = tmp_path / "sites.toml"
    run("--types", "human,animal,phantom", "--silos", "2", "--output", output)
    text = output.read_text(encoding="utf-8")
    left = {"human", "animal", "phantom"} - {
        kind for site in load_sites(str(output)) for kind in site.data_types
    }
    assert len(left) == 1
    assert f"# No silo holds: {left.pop()}." in text


def test_auto_takes_as_few_types_as_the_share_needs() -> None:
    def count(silos: int, unseen: float) -> int:
        return len(choose_types("auto", Scheme.UNSEEN, silos, unseen, 24))

    assert [count(4, u) for u in (0, 50, 100)] == [4, 5, 4]
    assert count(11, 100) == 11
    assert len(choose_types("auto", Scheme.DIRICHLET, 11, 100, 24)) == 4


def test_names_sort_in_the_order_of_their_numbers() -> None:
    assert silo_names(3) == ["silo-1", "silo-2", "silo-3"]
    names = silo_names(20)
    assert names == sorted(names) and names[-1] == "silo-20"


def test_a_file_that_could_not_be_read_again_never_appears(tmp_path: Path) -> None:
    bad = Partition(("moon",), np.array([[3]]))
    with pytest.raises(ValueError, match="domain must be one of"):
        write_sites(bad, tmp_path / "sites.toml", 3, "endofed")
    assert list(tmp_path.iterdir()) == []


def test_the_table_names_own_and_shared_types_with_their_patients() -> None:
    patients = np.array([[736, 264, 0, 0], [0, 658, 342, 0], [0, 0, 0, 1000]])
    table = partition_table(
        Partition(("human", "animal", "simulation", "phantom"), patients)
    )
    cells = [
        [str(cell).replace("\N{NO-BREAK SPACE}", " ") for cell in column.cells]
        for column in table.columns
    ]
    rows = list(zip(*cells, strict=True))
    assert rows == [
        ("silo-1", "human 736", "animal 264", "50 %", "74 %"),
        ("silo-2", "simulation 342", "animal 658", "50 %", "34 %"),
        ("silo-3", "phantom 1000", "–", "100 %", "100 %"),
    ]


def test_the_figure_marks_own_and_shared_types(tmp_path: Path) -> None:
    types = [f"random-{number}" for number in range(6)]
    alike = unseen_partition(types[:4], 3, 0, patients_per_silo=8, seed=0)
    apart = unseen_partition(types, 6, 100, patients_per_silo=8, seed=0)
    for name, partition in (("alike", alike), ("apart", apart)):
        draw_partition(
            partition, silo_names(len(partition.patients)), tmp_path / f"{name}.png"
        )
    assert count_pixels(tmp_path / "alike.png", BLUE) > 12 * 300  # 12 large circles
    # The legend explains both; beyond it nothing is orange where all share all.
    assert count_pixels(tmp_path / "alike.png", ORANGE) < 1500
    assert count_pixels(tmp_path / "apart.png", BLUE) < 1500
    assert count_pixels(tmp_path / "apart.png", ORANGE) > 6 * 300


def test_many_own_types_share_columns_so_that_the_figure_stays_narrow(
    tmp_path: Path,
) -> None:
    types = [f"random-{number}" for number in range(30)]
    partition = unseen_partition(types, 3, 100, patients_per_silo=20, seed=0)
    path = draw_partition(partition, silo_names(3), tmp_path / "packed.png")
    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    # 10 columns of 0.8 inch, 4.6 inch for the rest, 150 dots per inch.
    assert picture.shape[1] == pytest.approx(150 * (10 * 0.8 + 4.6), abs=2)
    assert count_pixels(path, ORANGE) > 30 * 150
