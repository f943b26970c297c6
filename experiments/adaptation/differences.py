"""What one row of an adaptation study has more than another, seed by seed."""

from dataclasses import dataclass

from clients.adaptation.scores import SCORE_TITLES, MeanScores
from clients.data.errors import DataError
from experiments.adaptation.row_titles import row_title
from experiments.adaptation.tables import AdaptationTable, RowKey, sd_text
from experiments.finetuning.report import Spread


@dataclass(frozen=True)
class PairedDifferences:
    """What a row has more than a baseline, seed by seed.

    Attributes:
        row: The line.
        baseline: The line it is compared with.
        by_seed: Seed -> score -> difference, -1 to 1; the seeds that both have.
    """

    row: RowKey
    baseline: RowKey
    by_seed: dict[int, dict[str, float]]

    def spread(self, score: str) -> Spread:
        """Return mean and deviation of the differences in a score."""
        return Spread.of([values[score] for values in self.by_seed.values()])

    def better(self, score: str) -> int:
        """Return in how many seeds the row is above the baseline."""
        return sum(values[score] > 0 for values in self.by_seed.values())

    def sentence(self, score: str = "iou") -> str:
        """Say the difference in points of percent, as it stands under a table."""
        found, title = self.spread(score), SCORE_TITLES[score]
        return (
            f"{self._title(self.row)} against {self._title(self.baseline)}: "
            f"{100 * found.mean:+.2f} ± {sd_text(found)} points of {title}, better in "
            f"{self.better(score)} of {len(self.by_seed)} seeds"
        )

    def _title(self, key: RowKey) -> str:
        same = self.row.variant == self.baseline.variant
        return row_title(key.row) + ("" if same else f" ({key.variant})")


def paired_differences(
    table: AdaptationTable,
    row: str,
    baseline: str,
    *,
    variant: str | None = None,
    baseline_variant: str | None = None,
) -> PairedDifferences:
    """Compare two lines with the same seeds.

    Args:
        table: With both.
        row: Its name.
        baseline: The other's name.
        variant: Of the row; None = the only one that has it.
        baseline_variant: Of the baseline; None = the row's, or else the only one.

    Returns:
        The differences, row minus baseline.

    Raises:
        DataError: If a line is missing or not clear, or no seed was measured in both.
    """
    first = _find(table, row, variant)
    wanted = baseline_variant
    if wanted is None and RowKey(first.variant, baseline) in table.rows:
        wanted = first.variant
    second = _find(table, baseline, wanted)
    others = {run.seed: run.scores for run in table.runs_of(second)}
    by_seed = {
        run.seed: _differences(run.scores.overall, others[run.seed].overall)
        for run in table.runs_of(first)
        if run.seed in others
    }
    by_seed = {seed: values for seed, values in by_seed.items() if values}
    if not by_seed:
        raise DataError(
            f"'{row}' and '{baseline}' share no measured seed. Run both with one seed."
        )
    return PairedDifferences(first, second, by_seed)


def _differences(
    scores: MeanScores | None, others: MeanScores | None
) -> dict[str, float]:
    """Return scores minus others by name; nothing where one was not measured."""
    if scores is None or others is None:
        return {}
    return {
        name: getattr(scores, name) - getattr(others, name) for name in SCORE_TITLES
    }


def _find(table: AdaptationTable, row: str, variant: str | None) -> RowKey:
    found = [
        key for key in table.rows if key.row == row and variant in (None, key.variant)
    ]
    if len(found) != 1:
        raise DataError(
            f"One line '{row}' was wanted, the table has {len(found)}. Name a row of "
            "it, and the variant where several have the row."
        )
    return found[0]
