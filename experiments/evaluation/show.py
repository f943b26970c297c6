"""Printing an evaluation: tables, notes and the time it took."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.evaluation.contenders import describe
from experiments.evaluation.run import Evaluation
from experiments.evaluation.summary import SEQUENCE, SITE
from experiments.evaluation.tables import (
    comparison_table,
    overall_table,
    scope_table,
    width_for,
)

SHOWN_DIGITS = 12


def show_evaluation(evaluation: Evaluation) -> None:
    """Print what was found, as wide as it needs to be.

    Args:
        evaluation: What was found.
    """
    tables = _tables(evaluation)
    console = Console(width=width_for(tables))
    for label, source in evaluation.models.items():
        what = describe(label, source)
        console.print(
            f"[bold]{label}[/]: {what['kind']}, {what['network']}, "
            f"{what['image-size']} px, weights {what['weights-digest'][:SHOWN_DIGITS]}",
            highlight=False,
        )
    console.print(_counts(evaluation), highlight=False)
    for table in tables:
        console.print(table)
    for note in evaluation.notes:
        console.print(f"- {escape(note)}", highlight=False)
    for label, found in evaluation.measured.items():
        console.print(
            f"{label}: {found.prediction_ms:.1f} ms a frame to predict, "
            f"{found.measuring_ms:.1f} ms to measure.",
            highlight=False,
        )


def _tables(evaluation: Evaluation) -> list[Table]:
    models = list(evaluation.models)
    tables = [overall_table(evaluation.rows, models)]
    for scope in (SITE, SEQUENCE):
        table = scope_table(evaluation.rows, models, scope)
        tables += [] if table is None else [table]
    if evaluation.comparisons:
        tables.append(comparison_table(evaluation.comparisons))
    return tables


def _counts(evaluation: Evaluation) -> str:
    frames = evaluation.frames
    return (
        f"{len(frames)} frames of {len(set(frames.sequence_numbers.tolist()))} "
        f"sequences and {len(set(frames.patient_numbers.tolist()))} patients "
        f"({escape(', '.join(site.name for site in frames.sites))}), "
        f"{frames.side_px} px; split: {evaluation.settings.split}"
    )
