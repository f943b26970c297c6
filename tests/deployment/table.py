"""The table of cases: what was tried, what was expected, what was seen, how long."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HEADINGS = ("case", "expected", "seen", "s")


@dataclass
class Row:
    """One case."""

    case: str
    expected: str
    seen: str = ""
    seconds: float = 0.0

    def saw(self, *parts: str) -> None:
        """Add what was seen."""
        self.seen = "; ".join(filter(None, (self.seen, *parts)))


@dataclass
class Table:
    """All cases of a session, in the order in which they began."""

    rows: list[Row] = field(default_factory=list)

    @contextmanager
    def case(self, name: str, expected: str) -> Iterator[Row]:
        """Time a case and note if it fails; it needs no check of its own."""
        row = Row(name, expected)
        self.rows.append(row)
        started = time.monotonic()
        try:
            yield row
        except BaseException as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            row.saw(f"FAILED: {reason[:160]}")
            raise
        finally:
            row.seconds = time.monotonic() - started

    def markdown(self) -> str:
        """Return the table as Markdown."""
        cells = [
            (row.case, row.expected, row.seen, f"{row.seconds:.0f}")
            for row in self.rows
        ]
        lines = [HEADINGS, ("---", "---", "---", "---:"), *cells]
        return "".join(
            f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n"
            for line in lines
        )

    def write(self, path: Path) -> None:
        """Write the table as Markdown."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.markdown(), encoding="utf-8")
