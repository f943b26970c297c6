import json
import subprocess
import sys
from pathlib import Path

import pytest

from strategies.audit import GENESIS, AuditEntry, AuditError, AuditLog, verify

DIGEST = "ab" * 32
ROOT = Path(__file__).resolve().parents[2]


def make_entry(round_number: int = 1, site: str = "a") -> AuditEntry:
    return AuditEntry(
        round=round_number,
        phase="overseas",
        site=site,
        direction="out",
        num_bytes=1200,
        num_tensors=7,
        digest=DIGEST,
        note="student b",
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, clock=lambda: 3.5)
    for round_number in (1, 2, 3):
        log.record(make_entry(round_number))
    return path


def test_a_line_tells_what_left_which_site_when(path: Path) -> None:
    assert json.loads(path.read_text().splitlines()[0]) == {
        "time": 3.5,
        "round": 1,
        "phase": "overseas",
        "site": "a",
        "direction": "out",
        "bytes": 1200,
        "tensors": 7,
        "digest": DIGEST,
        "note": "student b",
        "previous": GENESIS,
    }


def test_an_untouched_log_verifies(path: Path) -> None:
    assert verify(path) == 3


def test_a_log_that_never_began_is_intact_and_empty(tmp_path: Path) -> None:
    assert verify(tmp_path / "none.jsonl") == 0


def test_a_changed_number_shows_at_the_next_line(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    lines[1] = lines[1].replace('"bytes": 1200', '"bytes": 1201')
    path.write_text("".join(lines))
    with pytest.raises(AuditError, match="Line 3"):
        verify(path)


@pytest.mark.parametrize("kept", [(1, 2), (0, 2), (0, 2, 1), (0, 0, 1, 2)])
def test_removed_moved_and_doubled_lines_show(
    path: Path, kept: tuple[int, ...]
) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[index] for index in kept))
    with pytest.raises(AuditError, match="does not follow"):
        verify(path)


def test_a_changed_or_missing_last_line_shows_against_the_kept_head(path: Path) -> None:
    head = AuditLog(path).head
    assert verify(path, head=head) == 3
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2]))
    assert verify(path) == 2  # a shorter chain is a valid chain
    with pytest.raises(AuditError, match="entry 2"):
        verify(path, head=head)
    path.write_text("".join(lines).replace('"round": 3', '"round": 4'))
    with pytest.raises(AuditError, match="entry 3"):
        verify(path, head=head)


def test_a_line_that_is_no_entry_shows(path: Path) -> None:
    with path.open("a") as stream:
        stream.write("[1]\n")
    with pytest.raises(AuditError, match="Line 4"):
        verify(path)


def test_a_cut_line_shows(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AuditError, match="Line 3 of the audit log is cut off"):
        verify(path)


def test_a_reopened_log_continues_its_chain(path: Path) -> None:
    AuditLog(path).record(make_entry(4))
    assert verify(path) == 4


def test_a_tampered_log_is_not_continued(path: Path) -> None:
    path.write_text(path.read_text().replace('"round": 1', '"round": 9'))
    with pytest.raises(AuditError, match="Line 2"):
        AuditLog(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"direction": "up"}, "direction"),
        ({"digest": "abc"}, "64 hexadecimal"),
        ({"num_bytes": -1}, ">= 0"),
    ],
)
def test_an_entry_that_could_not_be_checked_later_is_refused(
    changed: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        AuditEntry(**{**vars(make_entry()), **changed})


def test_a_log_of_several_runs_says_which_run(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.record(AuditEntry(1, "local", "a", "in", 0, 0, run=77))
    assert json.loads((tmp_path / "audit.jsonl").read_text())["run"] == 77


def test_every_line_is_shown_once_with_those_of_an_earlier_log(path: Path) -> None:
    seen: list[int] = []
    log = AuditLog(path, seen=lambda line: seen.append(line["round"]))
    log.record(make_entry(4))
    assert seen == [1, 2, 3, 4]


WRITER = """
import sys
from pathlib import Path
from strategies.audit import AuditEntry, AuditLog
log = AuditLog(Path(sys.argv[1]))
for number in range(20):
    log.record(AuditEntry(number, "local", sys.argv[2], "in", 0, 0))
"""


def test_two_processes_write_one_chain(path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], cwd=ROOT)
        for name in ("one", "two")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert verify(path) == 43
    sites = [json.loads(line)["site"] for line in path.read_text().splitlines()]
    assert (sites.count("one"), sites.count("two")) == (20, 20)


@pytest.mark.parametrize("damage", ["cut", "removed", "changed"])
def test_a_log_that_is_changed_while_it_is_open_is_not_continued(
    path: Path, damage: str
) -> None:
    log = AuditLog(path)
    lines = path.read_text().splitlines(keepends=True)
    if damage == "removed":
        path.unlink()
    else:
        path.write_text("".join(lines[:2] if damage == "cut" else [*lines, "{}\n"]))
    with pytest.raises(AuditError):
        log.record(make_entry(4))
