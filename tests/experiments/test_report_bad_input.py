"""Damaged, hostile and secret things in a run folder."""

import getpass
import json
import re
import socket
from pathlib import Path

import pytest
import typer
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

from experiments.commands.report import report_command
from experiments.report.page import write_report
from strategies.settings import SettingsError
from tests.experiments.report_run import page_of, text_of, write_extras, write_run

SECTIONS = re.compile(r'<h2 id="([a-z-]+)"')


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(report_command)
    return app


def test_a_damaged_file_is_named_and_the_rest_is_shown(run: Path) -> None:
    (run / "result.json").write_text('{"status": "comp')
    text = text_of(page_of(run))
    assert "result.json is damaged or cannot be read and is left out." in text
    assert "Validation Dice" in text


@pytest.mark.parametrize("content", ["[]", "3", "null", '"x"', '{"rows": 3}'])
def test_files_with_other_content_than_ours_are_passed_over(
    run: Path, content: str
) -> None:
    write_extras(run)
    for path in [*run.glob("*.json"), *run.glob("checkpoints/*.json")]:
        path.write_text(content)
    assert SECTIONS.findall(page_of(run))[:2] == ["result", "federation"]


@pytest.mark.parametrize(
    "event",
    [
        {"event": "round", "round": "one", "sites": 3},
        {"event": "round", "round": 9, "sites": {"a": 3}, "edges": [3, {"student": 1}]},
        {"event": "round", "round": 9, "sites": {"a": {"val/dice": "high"}}},
        {"event": "phase", "round": 9, "phase": None, "failed": ["a"]},
        {"event": "phase", "round": 1e300, "bytes_up": 1e300, "seconds": 10**400},
        {"event": "round", "round": 10**15, "sites": {"a": {"train/loss": 1e300}}},
        {"event": "start", "sites": 4},
        {"event": "never heard of", "time": "noon"},
        [],
    ],
)
def test_events_of_another_shape_do_not_stop_the_page(run: Path, event: object) -> None:
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write(json.dumps(event) + "\n")
    assert "test Dice" in page_of(run)


def test_a_record_that_was_changed_is_one_error_and_nothing_is_written(
    run: Path,
) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join(["{", *lines]) + "\n")
    with pytest.raises(SettingsError, match=r"Line 1 of metrics\.jsonl is not JSON"):
        write_report(run)
    assert not (run / "report.html").exists()


def test_names_of_sites_and_reasons_are_never_markup(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    sites = [evil, '"><img src=x onerror=1>', "a&b", "{{ 7 * 7 }}"]
    run = write_run(tmp_path / "run", sites=sites, failed={evil: "<b>bold</b>"})
    write_extras(run, sites)
    page = page_of(run)
    assert "<script" not in page
    assert "<b>" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "a&amp;b" in page
    assert "{{ 7 * 7 }}" in page


def test_no_path_user_or_host_of_this_machine_stands_in_the_page(
    tmp_path: Path,
) -> None:
    user, host = getpass.getuser(), socket.gethostname()
    secrets = [str(tmp_path), str(Path.home()), "/srv/jane", "C:\\Users\\jane", "jane"]
    reason = f"'{Path.home()}/a b/x.dcm' and /srv/jane/y.dcm, C:\\Users\\jane\\z.dcm"
    run = write_run(
        tmp_path / "run",
        settings={
            "sites": str(tmp_path / "sites.toml"),
            "model.checkpoint": "/srv/jane/sam.pth",
        },
        failed={"northgate": reason},
    )
    write_extras(run)
    settings = json.loads((run / "settings.json").read_text())
    settings |= {"output": str(run), "model.checkpoint": "/srv/jane/sam.pth"}
    (run / "settings.json").write_text(json.dumps(settings))
    info = PngInfo()
    info.add_text("Source", str(tmp_path))
    picture = run / "figures" / "jane_overlay.png"
    Image.new("RGB", (8, 8)).save(picture, pnginfo=info)
    page = page_of(run)
    assert "northgate" in page
    for secret in secrets:
        assert secret not in page
    words = set(re.findall(r"[\w.-]+", text_of(page)))
    assert not {user, host} & words


def test_names_with_slashes_are_no_paths(run: Path) -> None:
    text = text_of(page_of(run))
    assert "[path]" not in text


def test_pictures_that_cannot_be_read_are_counted(run: Path) -> None:
    (run / "figures" / "overlay_a.png").write_bytes(b"no picture")
    text = text_of(page_of(run))
    assert "1 could not be read" in text


@pytest.mark.parametrize("name", ["missing", "empty", "file"])
def test_a_folder_without_a_run_is_one_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(command(), [str(tmp_path / name)])
    assert result.exit_code == 2
    assert result.output.count("Error:") == 1
    assert "endofed simulate" in " ".join(result.output.split())
    assert str(tmp_path) not in result.output


def test_a_page_that_cannot_be_written_leaves_nothing_behind(
    run: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SettingsError, match="cannot be written"):
        write_report(run, tmp_path / "taken")
    assert sorted(tmp_path.iterdir()) == before
