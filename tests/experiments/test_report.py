"""What the page of a run says."""

import json
import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from experiments.commands.report import report_command
from experiments.report.reading import read_run
from experiments.report.sections.reproduce import command_of
from experiments.run_config import resolve_run_config
from models.image_metrics import METRICS
from server.journal import public_settings
from tests.experiments.report_run import (
    SITES,
    page_of,
    text_of,
    write_extras,
    write_run,
)

SECTIONS = re.compile(r'<h2 id="([a-z-]+)"')
ALWAYS = ["result", "federation", "curves"]
END = ["settings", "failures", "reproduce"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def test_a_finished_run_tells_its_test_numbers_and_on_what_they_were_measured(
    run: Path,
) -> None:
    text = text_of(page_of(run))
    assert "test Dice 0.640 test clDice 0.735 worst site, Dice 0.580" in text
    assert "Completed: 5 of 5 rounds" in text
    assert "on the 32 test frames of 4 sites" in text
    assert "They say nothing about patients" in text
    assert "there is no interval around these numbers" in text


def test_frames_of_own_sites_are_not_called_simulated(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", settings={"sites": "/srv/sites.toml"})
    text = text_of(page_of(run))
    assert "nothing about patients" not in text
    assert "does not know whether frames are simulated or real" in text


def test_a_run_with_everything_has_every_section(run: Path) -> None:
    write_extras(run)
    assert SECTIONS.findall(page_of(run)) == [
        *ALWAYS,
        *("teachers", "cross-site", "fairness", "communication"),
        *("test", "few-shot", "gallery"),
        *END,
    ]


def test_the_matrix_has_the_accumulated_model_below_and_its_means(run: Path) -> None:
    write_extras(run)
    text = text_of(page_of(run))
    assert "On average 0.500 at home and 0.583 abroad." in text
    assert "Θ, accumulated 0.660 0.640 0.620 0.600" in text


def test_a_matrix_of_an_earlier_version_is_shown_as_it_is(run: Path) -> None:
    write_extras(run)
    (run / "cross_site.json").write_text(
        json.dumps({"metric": "dice", "values": {"a": {"a": 0.25, "b": None}}})
    )
    text = text_of(page_of(run))
    assert "Models on each other's data" in text
    assert "Θ" not in text and "On average" not in text


def test_what_was_not_measured_has_no_section(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", strategy="fedavg")
    assert SECTIONS.findall(page_of(run)) == [
        *ALWAYS,
        *("fairness", "communication", "test"),
        *END,
    ]
    assert "No site taught another" in page_of(run)


def test_a_run_that_goes_on_says_so_and_calls_validation_by_its_name(
    tmp_path: Path,
) -> None:
    run = write_run(tmp_path / "run", rounds=2, ends=False)
    text = text_of(page_of(run))
    assert "This run has no end yet" in text
    assert "validation Dice" in text
    assert "test Dice" not in text
    assert "No test was made" in text


def test_a_run_that_has_only_begun_gives_a_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", ends=False)
    (run / "metrics.jsonl").unlink()
    (run / "sites.json").unlink()
    text = text_of(page_of(run))
    assert "Nothing has been measured yet" in text
    assert "No site has joined yet" in text


def test_a_failed_run_says_so_and_why(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", ends=False)
    result = {"status": "failed", "reason": "Too few sites took part: 1 of 4."}
    (run / "result.json").write_text(json.dumps(result))
    text = text_of(page_of(run))
    assert "This run failed after 5 of 5 rounds" in text
    assert "Too few sites took part: 1 of 4." in text


def test_failures_are_listed_by_site(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rounds=2, failed={"northgate": "timed out"})
    text = text_of(page_of(run))
    assert "Failed, by site: northgate: 2 phases." in text
    assert "northgate 1 distil timed out northgate 2 distil timed out" in text


def test_the_same_run_gives_the_same_page(run: Path) -> None:
    write_extras(run)
    assert page_of(run) == page_of(run)


def test_the_command_makes_the_settings_of_the_run_again(tmp_path: Path) -> None:
    told = {"train.steps": 3, "fedefm.topology": "edges", "fedefm.beta": 0.25}
    told |= {"fedefm.diagonal": True, "fedefm.edges": "a b>c, c>a b", "seed": 7}
    run = read_run(write_run(tmp_path / "run", settings=told))
    words = shlex.split(" ".join(command_of(run)))
    assert words[:2] == ["endofed", "simulate"]
    overrides = [word for word in words[2:] if word != "--set"]
    assert public_settings(resolve_run_config(overrides=overrides)) == run.settings


def test_paths_are_asked_for_where_a_run_had_some(tmp_path: Path) -> None:
    told = {"sites": "/srv/sites.toml", "fedefm.underlay": "/srv/net.gml"}
    words = command_of(read_run(write_run(tmp_path / "run", settings=told)))
    assert "--sites FILE" in words
    assert "--set fedefm.underlay=PATH" in words


def test_only_settings_that_differ_are_marked(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run", rounds=20, settings={"seed": 11}))
    marked = re.findall(r'<td class="changed">([^<]*)</td>', page)
    assert marked == ["11", "11"]  # among the changed ones, and among all


def test_the_diagonal_is_told_apart_from_a_diagonal_that_was_not_measured(
    run: Path,
) -> None:
    assert "The diagonal is a control" in page_of(run)
    events = (run / "metrics.jsonl").read_text().splitlines()
    kept = []
    for event in map(json.loads, events):
        edges = event.get("edges", [])
        event["edges"] = [e for e in edges if e["student"] != e["teacher"]]
        kept.append(json.dumps(event))
    (run / "metrics.jsonl").write_text("\n".join(kept) + "\n")
    assert "The diagonal was not measured" in page_of(run)


def test_every_metric_of_every_class_stands_in_the_tables(run: Path) -> None:
    page = page_of(run)
    for metric in METRICS:  # for two classes, two means of frames
        assert page.count(f'<th scope="row">{metric}</th>') >= 4
    assert "6 of 8" in page


def test_numbers_that_no_frame_had_are_dashes(run: Path) -> None:
    text = text_of(page_of(run))
    assert "nan" not in text.lower().split()
    assert "None" not in text.split()


def test_few_shot_studies_are_found_in_the_run_folder_and_below(run: Path) -> None:
    write_extras(run)
    (run / "finetune").mkdir()
    (run / "results.json").rename(run / "finetune" / "results.json")
    text = text_of(page_of(run))
    assert "1 · full, from foundation 0.600 ± 0.050" in text
    assert "bars: 95 % interval (Student's t) over seeds" in text


def test_a_study_on_own_frames_warns_above_the_pictures(run: Path) -> None:
    write_extras(run)
    study = json.loads((run / "results.json").read_text())
    study["data"] = {"simulated": False}
    (run / "results.json").write_text(json.dumps(study))
    text = text_of(page_of(run))
    assert "this page must not leave it" in text
    assert "simulated domain" not in text


def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(report_command)
    return app


def test_the_command_writes_beside_the_run_or_where_it_is_told(
    run: Path, tmp_path: Path
) -> None:
    runner = CliRunner()
    assert runner.invoke(command(), [str(run)]).exit_code == 0
    other = tmp_path / "new" / "page.html"
    assert runner.invoke(command(), [str(run), "--output", str(other)]).exit_code == 0
    assert other.read_bytes() == (run / "report.html").read_bytes()


def test_sites_are_all_on_the_page(run: Path) -> None:
    text = text_of(page_of(run))
    assert all(site in text for site in SITES)
