"""The README and the findings as a test reads them: sections, tables and sentences."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results"
README = ROOT / "README.md"
FINDINGS = RESULTS / "FINDINGS.md"

Table = tuple[list[str], list[list[str]]]
"""The head of a table and its lines, without marks of bold type."""


@cache
def section(document: Path, heading: str) -> str:
    """Return what stands below a heading, to the next of its level or above.

    Raises:
        AssertionError: if the document has no such heading, or has it twice
    """
    text = "\n" + document.read_text(encoding="utf-8")
    found = text.split(f"\n{heading}\n")[1:]
    assert len(found) == 1, heading
    for level in range(heading.index(" "), 0, -1):
        found = [found[0].split(f"\n{'#' * level} ", 1)[0]]
    return found[0]


def prose(document: Path, heading: str) -> str:
    """Return the sentences of a section in one line, its tables left out."""
    lines = section(document, heading).splitlines()
    return " ".join(" ".join(one for one in lines if not one.startswith("|")).split())


def unsaid(document: Path, heading: str, claims: Iterable[str]) -> list[str]:
    """Return the claims that the sentences of a section do not make."""
    said = prose(document, heading)
    return [claim for claim in claims if claim not in said]


def tables(document: Path, heading: str, first: str = "row") -> list[Table]:
    """Return the tables of a section whose first column is headed so."""
    found = []
    for block in section(document, heading).split("\n\n"):
        lines = [
            [cell.strip().strip("*") for cell in line.strip().strip("|").split("|")]
            for line in block.splitlines()
            if line.startswith("|")
        ]
        if lines and lines[0][0] == first:
            found.append((lines[0], lines[2:]))
    return found
