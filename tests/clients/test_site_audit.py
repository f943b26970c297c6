"""A site's own log: what it counts, and that nothing is answered without it."""

import json
import stat
from pathlib import Path

import pytest

from clients.data.errors import DataError
from clients.site_audit import SiteAudit
from strategies.audit import AuditEntry, AuditError, verify

NOON = 1_800_000_000.0  # 2027-01-15 08:00 UTC
DAY = 86_400.0


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


def request(round_number: int, run: int = 7, **changed: object) -> AuditEntry:
    fields = {"phase": "local", "site": "a", "direction": "in", "note": "", **changed}
    return AuditEntry(
        round=round_number,
        run=run,
        num_bytes=0,
        num_tensors=0,
        **fields,  # type: ignore[arg-type]
    )


def test_a_round_counts_once_however_many_requests_it_has(tmp_path: Path) -> None:
    audit = SiteAudit(tmp_path, Clock())
    for phase in ("local", "overseas", "distil", "evaluate"):
        audit.record(request(1, phase=phase))
    assert audit.rounds_today() == 1
    assert audit.rounds_today(besides=(7, 1)) == 0
    assert audit.rounds_today(besides=(7, 2)) == 1


def test_the_same_number_in_another_run_is_another_round(tmp_path: Path) -> None:
    audit = SiteAudit(tmp_path, Clock())
    audit.record(request(1, run=7))
    audit.record(request(1, run=8))
    assert audit.rounds_today() == 2


@pytest.mark.parametrize(
    "uncounted",
    [{"phase": "introduce"}, {"direction": "out"}, {"note": "Site 'a' refuses"}],
)
def test_introductions_answers_and_refusals_begin_no_round(
    tmp_path: Path, uncounted: dict[str, str]
) -> None:
    audit = SiteAudit(tmp_path, Clock())
    audit.record(request(1, **uncounted))
    assert audit.rounds_today() == 0


def test_the_count_starts_again_at_midnight_utc_and_survives_a_restart(
    tmp_path: Path,
) -> None:
    clock = Clock()
    audit = SiteAudit(tmp_path, clock)
    audit.record(request(1))
    audit.record(request(2))
    assert SiteAudit(tmp_path, clock).rounds_today() == 2
    clock.now += DAY
    assert audit.rounds_today() == 0
    audit.record(request(3))
    assert audit.rounds_today() == 1
    assert SiteAudit(tmp_path, clock).rounds_today() == 1


def test_what_another_process_wrote_is_counted_too(tmp_path: Path) -> None:
    one, other = SiteAudit(tmp_path, Clock()), SiteAudit(tmp_path, Clock())
    one.record(request(1))
    other.record(request(2))
    assert other.rounds_today() == 2
    assert verify(tmp_path / "audit.jsonl", head=other.head) == 2


def test_only_the_owner_reads_the_log(tmp_path: Path) -> None:
    SiteAudit(tmp_path / "state", Clock()).record(request(1))
    for name, mode in (("state", 0o700), ("state/audit.jsonl", 0o600)):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode


def test_a_changed_log_is_not_continued(tmp_path: Path) -> None:
    SiteAudit(tmp_path, Clock()).record(request(1))
    path = tmp_path / "audit.jsonl"
    line = json.loads(path.read_text())
    path.write_text(json.dumps({**line, "round": 2}) + "\n" + path.read_text())
    with pytest.raises(AuditError, match="Line 2"):
        SiteAudit(tmp_path, Clock())


def test_a_log_that_cannot_be_written_is_an_error_without_its_path(
    tmp_path: Path,
) -> None:
    (tmp_path / "MARKER").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="answers nothing") as caught:
        SiteAudit(tmp_path / "MARKER", Clock())
    assert "MARKER" not in str(caught.value)
