"""The tables of studies that were run are those that their results give."""

from pathlib import Path

import pytest

from experiments.study.jobs import JOBS
from experiments.study.report import write_report
from experiments.study.study_file import find_study, read_study

RESULTS = Path(__file__).parents[3] / "experiments" / "results"
RUN = sorted(path.parent.name for path in RESULTS.glob(f"*/{JOBS}"))


def test_a_study_was_run() -> None:
    assert "small" in RUN


@pytest.mark.parametrize("name", RUN)
def test_the_tables_can_be_rebuilt(name: str, tmp_path: Path) -> None:
    kept = RESULTS / name
    written = write_report(kept, read_study(find_study(name)), target=tmp_path)
    tables = [one for one in written if one.suffix in (".md", ".csv")]
    assert len(tables) > 3
    for one in tables:
        committed = kept / one.relative_to(tmp_path)
        assert one.read_text() == committed.read_text(), one.name
