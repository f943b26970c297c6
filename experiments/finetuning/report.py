"""What a few-shot study found, in numbers and in a table, good or bad.

Means and 95 % intervals are over seeds: other shots, other random weights, other
batches, the same test frames. A gain is the foundation's value minus that of random
weights with the same method, seed and shots. When the foundation is no better, the
verdict says so.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from experiments.finetuning.fewshot import (
    SCORE_TITLES,
    SCORES,
    STARTS,
    FinetuneResult,
    shots_order,
    shots_text,
)

CONFIDENCE = 0.95
GAIN_COLUMN = 5  # of `column_names`


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation and 95 % interval of a number over seeds.

    The interval is Student's: mean ± t(0.975, n - 1) sd / sqrt(n). It takes the seeds
    for independent and does not know of the chance in which patients were tested.
    """

    mean: float
    sd: float  # NaN with a single seed
    half_width: float  # of the interval; NaN with a single seed

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Compute all; the deviation divides by the number of values minus one."""
        count, mean = len(values), statistics.fmean(values)
        if count < 2 or math.isnan(mean):  # one seed, or a score that nothing has
            return cls(mean, math.nan, math.nan)
        from scipy.stats import t  # takes a second that other commands need not wait

        sd = statistics.stdev(values)
        quantile = float(t.ppf((1 + CONFIDENCE) / 2, count - 1))
        return cls(mean, sd, quantile * sd / math.sqrt(count))

    @property
    def low(self) -> float:
        """Return the lower end of the interval."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Return the upper end of the interval."""
        return self.mean + self.half_width

    def __str__(self) -> str:
        """Return "0.412 ± 0.031" (half an interval), or the mean alone."""
        interval = "" if math.isnan(self.half_width) else f" ± {self.half_width:.3f}"
        return f"{self.mean:.3f}{interval}"


@dataclass(frozen=True)
class Row:
    """One line of the table: runs that differ by their seed only."""

    method: str
    shots: int
    start: str


@dataclass(frozen=True)
class Gain:
    """What the foundation adds to random weights at one number of shots."""

    method: str
    shots: int
    score: str  # which decides, such as "dice"
    first: Spread  # of that score
    second: Spread  # of the other one
    seeds: int
    seeds_better: int  # where the foundation has the higher test score

    def verdict(self) -> str:
        """Say in one sentence whether the foundation helped."""
        plural = "" if self.shots == 1 else "s"
        method = "" if self.method == "full" else f", {self.method}"
        start = f"{shots_text(self.shots)} shot{plural}{method}: foundation"
        title = SCORE_TITLES[self.score]
        value = (
            f"{_signed(self.first)} {title} ({self.seeds_better} of {self.seeds} seeds)"
        )
        if self.first.mean <= 0:
            return f"{start} NO better than random: {value}"
        if self.seeds_better < self.seeds:
            return f"{start} not clearly better than random: {value}"
        return f"{start} better than random: {value}"


def task_of(results: Sequence[FinetuneResult]) -> str:
    """Return what the runs of a study learnt, of TASKS."""
    return "segment" if "dice" in results[0].scores else "classify"


def rows_of(results: Sequence[FinetuneResult]) -> list[Row]:
    """Return the rows that there are, by method, shots and start.

    Args:
        results: Of the whole study.

    Returns:
        In the order of a table.
    """
    methods = list(dict.fromkeys(one.method for one in results))
    return sorted(
        {Row(one.method, one.shots, one.start) for one in results},
        key=lambda row: (
            methods.index(row.method),
            shots_order(row.shots),
            STARTS.index(row.start),
        ),
    )


def spread_of(results: Sequence[FinetuneResult], row: Row, name: str) -> Spread:
    """Return mean and interval of one score over the seeds of one row.

    Args:
        results: Of the whole study.
        row: Which runs.
        name: A key of `FinetuneResult.scores`.

    Returns:
        The spread.
    """
    return Spread.of([one.scores[name] for one in runs_of(results, row)])


def runs_of(results: Sequence[FinetuneResult], row: Row) -> list[FinetuneResult]:
    """Return the runs of a row."""
    return [one for one in results if Row(one.method, one.shots, one.start) == row]


def gains_of(results: Sequence[FinetuneResult]) -> list[Gain]:
    """Compare both starts, seed by seed.

    Args:
        results: Of the whole study; seeds with one start only are left out.

    Returns:
        One gain for each method and number of shots that has both.
    """
    first, second = SCORES[task_of(results)]
    by_run = {(one.method, one.shots, one.start, one.seed): one for one in results}
    gains = []
    for row in rows_of(results):
        if row.start != STARTS[-1]:
            continue
        pairs = [
            (by_run[row.method, row.shots, STARTS[0], after.seed], after)
            for after in runs_of(results, row)
            if (row.method, row.shots, STARTS[0], after.seed) in by_run
        ]
        if not pairs:
            continue
        values, others = (
            [after.scores[name] - before.scores[name] for before, after in pairs]
            for name in (first, second)
        )
        gains.append(
            Gain(
                row.method,
                row.shots,
                first,
                Spread.of(values),
                Spread.of(others),
                seeds=len(pairs),
                seeds_better=sum(value > 0 for value in values),
            )
        )
    return gains


def budget_notes(results: Sequence[FinetuneResult]) -> list[str]:
    """Warn where training did not help at all.

    Args:
        results: Of the whole study.

    Returns:
        A sentence for each start with runs whose best step is 0, before training.
    """
    notes = []
    for start in STARTS:
        steps = [one.chosen_step for one in results if one.start == start]
        if 0 in steps:
            notes.append(
                f"from {start}: step 0 is the best of {steps.count(0)} of "
                f"{len(steps)} runs; more steps may change the comparison"
            )
    return notes


def fewshot_table(results: Sequence[FinetuneResult]) -> Table:
    """Lay the study out for a terminal.

    Args:
        results: Of the whole study.

    Returns:
        A row for each method, number of shots and start; under it how values were
        averaged and, where both starts are there, whether the foundation helped.
    """
    table = Table(
        title="Few-shot finetuning, test frames",
        caption="\n".join(caption_lines(results)),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,  # else it does not fit into 80 columns
    )
    names = column_names(results)
    # Eighty columns hold either the methods or the frames without an answer.
    several = len({one.method for one in results}) > 1
    shown = slice(0, GAIN_COLUMN + 1) if several else slice(1, None)
    for name in names[shown]:
        is_text = name in ("method", "start")
        table.add_column(name, justify="left" if is_text else "right", no_wrap=True)
    rows = table_rows(results)
    for cells, following in zip(rows, [*rows[1:], ["", ""]], strict=True):
        is_last = following[:2] != cells[:2]
        table.add_row(*cells[shown], end_section=is_last)
    return table


def column_names(results: Sequence[FinetuneResult]) -> list[str]:
    """Return the headings of `table_rows`."""
    first, second = (SCORE_TITLES[name] for name in SCORES[task_of(results)])
    names = ["method", "shots", "start", first, second, f"gain in {first}"]
    return [*names, "missed / false"] if task_of(results) == "segment" else names


def table_rows(results: Sequence[FinetuneResult]) -> list[list[str]]:
    """Return the cells of the table, for terminal and Markdown.

    Args:
        results: Of the whole study.

    Returns:
        One list a row, as long as the headings.
    """
    task = task_of(results)
    gains = {(gain.method, gain.shots): gain for gain in gains_of(results)}
    table = []
    for row in rows_of(results):
        gain = gains.get((row.method, row.shots)) if row.start == STARTS[-1] else None
        cells = [row.method, shots_text(row.shots), row.start]
        cells += [str(spread_of(results, row, name)) for name in SCORES[task]]
        cells.append("" if gain is None else _signed(gain.first))
        if task == "segment":
            means = (
                spread_of(results, row, name).mean
                for name in ("missed", "false-alarms")
            )
            cells.append(" / ".join(f"{mean:.1f}" for mean in means))
        table.append(cells)
    return table


def caption_lines(results: Sequence[FinetuneResult]) -> list[str]:
    """Say how the numbers were made, and what they mean.

    Args:
        results: Of the whole study.

    Returns:
        Lines for under the table.
    """
    frames = max(one.test_frames for one in results)
    seeds = len({one.seed for one in results})
    lines = [
        f"mean ± half of the 95 % t-interval, seeds: {seeds}; {frames} test frames"
    ]
    if task_of(results) == "segment":
        lines[0] += ", classes pooled"
        lines.append("missed: labels without prediction; false: the converse (means)")
    verdicts = [gain.verdict() for gain in gains_of(results)]
    return [*lines, *verdicts, *budget_notes(results)]


def _signed(spread: Spread) -> str:
    return str(spread) if spread.mean < 0 else f"+{spread}"
