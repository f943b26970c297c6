"""An adaptation study as tables: Markdown for people, CSV for programs, the terminal.

A row is a method or a prompt, in one variant of the study; its cells are the mean and
the sample standard deviation over seeds, in percent with two decimals as arXiv
2410.07460 prints them. Only what was measured here stands in a table.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from rich import box
from rich.table import Table

from clients.adaptation.scores import SCORE_TITLES, AdaptationScores, MeanScores
from clients.data.errors import DataError
from experiments.adaptation.row_titles import row_title
from experiments.finetuning.report import Spread
from models.classes import CLASS_NAMES
from server.metric_table import Row, to_csv

MISSING = "–"
CAPTION = "%, mean ± standard deviation over seeds; per frame, then averaged"
COUNTS = ("seeds", "frames")  # the last columns


class AdaptationRun(NamedTuple):
    """One number of a cell: a row of a variant with one seed."""

    variant: str  # such as "lr 1e-3"; one only = no column for it
    row: str  # such as "ours", see `row_titles.ROW_TITLES`
    seed: int
    scores: AdaptationScores


class RowKey(NamedTuple):
    """One line of the table."""

    variant: str
    row: str


@dataclass(frozen=True)
class AdaptationTable:
    """Rows x scores of a study, mean ± standard deviation over seeds.

    Attributes:
        title: Above the table.
        runs: In the order in which rows are wanted.

    Raises:
        DataError: If there is no run, or two of one variant, row and seed.
    """

    title: str
    runs: tuple[AdaptationRun, ...]

    def __post_init__(self) -> None:
        """Refuse runs that would count twice."""
        keys = {(run.variant, run.row, run.seed) for run in self.runs}
        if not self.runs or len(keys) < len(self.runs):
            raise DataError(
                "A table needs runs, one for each variant, row and seed; got "
                f"{len(self.runs)} runs of {len(keys)} different ones."
            )

    @classmethod
    def of(
        cls, title: str, runs: Iterable[tuple[str, str, int, AdaptationScores]]
    ) -> "AdaptationTable":
        """Make it of plain tuples: variant, row, seed, scores."""
        return cls(title, tuple(AdaptationRun(*run) for run in runs))

    @property
    def rows(self) -> list[RowKey]:
        """Return the lines in the order in which they first came."""
        return list(dict.fromkeys(RowKey(run.variant, run.row) for run in self.runs))

    def runs_of(self, key: RowKey) -> list[AdaptationRun]:
        """Return the runs of a line."""
        return [run for run in self.runs if RowKey(run.variant, run.row) == key]

    def spread(self, key: RowKey, score: str) -> Spread | None:
        """Return mean and deviation of a score, 0 to 1; None if nothing was measured.

        Args:
            key: Of `rows`.
            score: Of `SCORE_TITLES`.
        """
        values = [run.scores.value(score) for run in self.runs_of(key)]
        known = [value for value in values if value is not None]
        return Spread.of(known) if known else None

    def headings(self) -> list[str]:
        """Return the columns of `cells`."""
        variant = ["variant"] if self._has_variants() else []
        return [*variant, "row", *SCORE_TITLES.values(), *COUNTS]

    def cells(self) -> list[list[str]]:
        """Return the table's text, one list a line."""
        lines = []
        for key in self.rows:
            runs = self.runs_of(key)
            variant = [key.variant] if self._has_variants() else []
            scores = [_percent(self.spread(key, score)) for score in SCORE_TITLES]
            counts = [str(len(runs)), _range(_frames(run.scores) for run in runs)]
            lines.append([*variant, row_title(key.row), *scores, *counts])
        return lines

    def markdown(self) -> str:
        """Return the table for a text document."""
        heads = self.headings()
        lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
        lines += ["| " + " | ".join(cells) + " |" for cells in self.cells()]
        return "\n".join([f"**{self.title}**", "", *lines, "", CAPTION, ""])

    def csv(self) -> str:
        """Return every run as a line, scores from 0 to 1 in full precision."""
        return to_csv([_csv_row(run) for run in self.runs])

    def summary(self) -> list[dict[str, Any]]:
        """Return means and deviations of all lines as JSON has them."""
        return [
            {
                "variant": key.variant,
                "row": key.row,
                "seeds": [run.seed for run in self.runs_of(key)],
                **{score: _numbers(self.spread(key, score)) for score in SCORE_TITLES},
            }
            for key in self.rows
        ]

    def rich(self) -> Table:
        """Return the table for a terminal, counts in the caption to save room."""
        seeds = _range(len(self.runs_of(key)) for key in self.rows)
        frames = _range(_frames(run.scores) for run in self.runs)
        table = Table(
            title=self.title,
            caption=f"{CAPTION}; seeds: {seeds}; frames: {frames}",
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            padding=0,  # else it does not fit into 80 columns
        )
        for name in self.headings()[: -len(COUNTS)]:
            is_text = name in ("variant", "row")
            table.add_column(name, justify="left" if is_text else "right")
        for cells in self.cells():
            table.add_row(*cells[: -len(COUNTS)])
        return table

    def _has_variants(self) -> bool:
        return len({run.variant for run in self.runs}) > 1


def _percent(spread: Spread | None) -> str:
    return MISSING if spread is None else f"{100 * spread.mean:.2f} ± {sd_text(spread)}"


def sd_text(spread: Spread) -> str:
    """Return the deviation in percent; one seed has none."""
    return MISSING if math.isnan(spread.sd) else f"{100 * spread.sd:.2f}"


def _numbers(spread: Spread | None) -> dict[str, float | None]:
    if spread is None:
        return {"mean": None, "sd": None}
    return {"mean": spread.mean, "sd": None if math.isnan(spread.sd) else spread.sd}


def _range(numbers: Iterable[int]) -> str:
    """Return "3", or "2-3" where numbers differ."""
    found = sorted(set(numbers))
    return str(found[0]) if len(found) == 1 else f"{found[0]}-{found[-1]}"


def _frames(scores: AdaptationScores) -> int:
    return 0 if scores.overall is None else scores.overall.frames


def _csv_row(run: AdaptationRun) -> Row:
    row: Row = {
        "variant": run.variant,
        "row": run.row,
        "title": row_title(run.row),
        "seed": run.seed,
        "left-out": run.scores.left_out,
        **_csv_cells("", run.scores.overall),
    }
    for name in CLASS_NAMES:
        row |= _csv_cells(f"{name}.", run.scores.by_class.get(name))
    return row


def _csv_cells(prefix: str, scores: MeanScores | None) -> Row:
    names = ("frames", *SCORE_TITLES)
    return {
        f"{prefix}{name}": None if scores is None else getattr(scores, name)
        for name in names
    }
