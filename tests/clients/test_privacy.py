"""A marker in every header field, name and annotation comes out nowhere.

Damaged files are checked in a process of their own, for decoders write their warnings
past Python to the terminal.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

from experiments.commands.data import data_app
from tests.clients.planted_files import MARKER, NEEDED, PLANTED
from tests.clients.planting import (
    OPTIONS,
    TRACES,
    plant_damage,
    plant_site,
    traces_below,
    traces_in,
)

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import json, logging, sys
logging.basicConfig(filename="debug.log", level=logging.DEBUG)
logging.captureWarnings(True)
from experiments.commands.data import data_app
runs = json.loads(sys.argv.pop())
codes = [data_app(run, standalone_mode=False) or 0 for run in runs]
open("codes.json", "w").write(json.dumps(codes))
"""


def run_checks(folder: Path, home: Path, *runs: list[str]) -> tuple[list[int], bytes]:
    """Run `endofed data check` where all it writes ends up in `home`.

    Args:
        folder: With the data.
        home: Made, to be the home and working folder.
        *runs: More options of each run.

    Returns:
        The exit codes and all that was printed.
    """
    home.mkdir()
    commands = [["check", str(folder), *OPTIONS, *run] for run in runs]
    place = {"HOME": str(home), "ENDOFED_KEY": str(home / "site.key")}
    finished = subprocess.run(
        [sys.executable, "-W", "always", "-c", PROGRAM, json.dumps(commands)],
        cwd=home,
        env={**os.environ, **place, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
        capture_output=True,
        check=True,
        timeout=120,
    )
    codes = json.loads((home / "codes.json").read_text())
    return codes, finished.stdout + finished.stderr


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder named after the marker, with good files only."""
    folder = tmp_path_factory.mktemp("good") / MARKER
    plant_site(folder)
    return folder


def test_the_marker_is_planted_in_every_field_name_and_annotation(
    planted: Path,
) -> None:
    files = [path for path in planted.rglob("*") if path.is_file()]
    without = [path for path in files if MARKER not in path.name]
    assert without == []
    documents = [p for p in files if p.suffix in (".json", ".xml")]
    assert len(documents) == 3
    assert all(traces_in(path.read_bytes()) for path in documents)
    (path,) = planted.rglob("*.dcm")
    assert set(traces_in(path.read_bytes())) == set(TRACES)
    dataset = pydicom.dcmread(path)
    fields = [one for one in dataset if one.VR in PLANTED or one.VR == "SQ"]
    bare = {
        one.keyword
        for one in fields
        if one.keyword not in NEEDED and not traces_in(str(one.value))
    }
    assert len(fields) > 3000
    assert bare == set()
    assert dataset[0x0009, 0x1001].value == MARKER


def test_a_trace_is_found_in_other_cases_and_encodings() -> None:
    assert traces_in(MARKER.lower()) == ["zqxmarker"]
    assert traces_in(MARKER.encode("utf-16")) == ["zqxmarker"]
    assert traces_in("S-ABCDEFGHIJ 512x512") == []


def test_checks_write_no_trace_to_terminal_log_or_card(
    planted: Path, tmp_path: Path
) -> None:
    bad, home = tmp_path / "bad" / MARKER, tmp_path / "home"
    shutil.copytree(planted, bad)
    plant_damage(bad)
    tables, as_json = ["--all", "--card", "card.json"], ["--json"]
    skipping = ["--skip-damaged", "--card", "card-skipping.json"]
    codes, printed = run_checks(bad, home, tables, as_json, skipping)
    assert codes == [1, 1, 0]
    assert traces_in(printed) == []
    written = {path.name for path in home.rglob("*")}
    assert {"card.json", "card-skipping.json", "debug.log", "site.key"} <= written
    assert traces_below(home) == {}
    # It is silent because it is discreet, not because it saw nothing.
    assert printed.count(b"18 sequences, 24 frames") == 2
    card = json.loads((home / "card.json").read_text())
    assert card["frames-labelled"] == 6
    assert card["problems"]["errors"] > 20


def test_a_check_of_good_files_is_ready_and_has_no_trace(
    planted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ENDOFED_KEY", str(tmp_path / "site.key"))
    card = tmp_path / "card.json"
    arguments = ["check", str(planted), *OPTIONS, "--card", str(card)]
    code = data_app(arguments, standalone_mode=False)
    printed = "".join(capfd.readouterr())
    assert not code
    assert "3 patients, 3 sequences, 6 frames: 6 labelled" in printed
    assert "Ready" in printed
    assert traces_in(printed) == []
    assert traces_below(tmp_path) == {}
