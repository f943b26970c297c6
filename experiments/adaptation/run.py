"""Runs a study under a progress bar and leaves everything in its folder."""

from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from clients.data.errors import DataError
from experiments.adaptation.plan import StudyPlan, Variant
from experiments.adaptation.stages import Pipeline
from experiments.adaptation.study import (
    Findings,
    Listener,
    Opened,
    StudyRequest,
    open_study,
    prepare_job,
    run_study,
)
from experiments.adaptation.study_files import (
    RESULTS_FILE,
    STUDY_FILE,
    differences,
    public_study,
    save_adapted,
    tables_of,
    write_numbers,
    write_pictures,
)
from experiments.adaptation.target_masks import write_masks
from server.journal import write_json

OURS = "ours"
STAGE_TITLES = {
    "synthetic": "style transfer",
    "coarse": "coarse network",
    "guides": "pseudo-labels",
    "fine": "fine stage",
}


def run_adaptation(request: StudyRequest, console: Console) -> Findings:
    """Compute a study, or what is missing of it, and write everything.

    Args:
        request: Of the user.
        console: For progress, tables and notes.

    Returns:
        The findings.

    Raises:
        DataError: If a row could not be computed; all others are written.
    """
    opened = open_study(request)
    request.output.mkdir(parents=True, exist_ok=True)
    write_json(request.output / STUDY_FILE, public_study(request.plan))
    notes: list[str] = []
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,  # a log file has no use for a bar
    ) as progress:
        listener = _listener(progress, opened.plan)
        findings = run_study(
            request,
            opened,
            listener,
            after_job=lambda found: write_numbers(request.output, opened, found),
        )
        shown = _shown(opened.plan, findings)
        if shown is not None:
            line = prepare_job(request, opened, *shown, listener)
            save_adapted(request, opened, line, findings, shown[0].name)
            notes = _write_rest(request, opened, line, findings)
    _show(console, findings, notes)
    _refuse(findings)
    return findings


def _refuse(findings: Findings) -> None:
    if findings.problems:
        where, why = next(iter(findings.problems.items()))
        raise DataError(
            f"{len(findings.problems)} row(s) could not be computed; all others and "
            f"what they need are kept. First, {where}: {why}"
        )


def _write_rest(
    request: StudyRequest, opened: Opened, line: Pipeline, findings: Findings
) -> list[str]:
    """Write pictures and masks; return what went wrong with single files."""
    where = "test frames" if opened.target.test is not None else "frames of the target"
    write_pictures(request, line, findings, f"Adapted without labels: {where}")
    return write_masks(request, opened, line)


def _shown(plan: StudyPlan, findings: Findings) -> tuple[Variant, int] | None:
    """Choose whose model and pictures are kept: the first, not the best."""
    done = {
        (run.variant, run.seed)
        for runs in findings.runs.values()
        for run in runs
        if run.row == OURS
    }
    for variant in plan.variants:
        for seed in plan.seeds:
            if (variant.name, seed) in done:
                return variant, seed
    return None


def _listener(progress: Progress, plan: StudyPlan) -> Listener:
    """Show which row is computed, and where its stage is."""
    total = len(plan.seeds) * sum(len(one.rows) for one in plan.variants)
    bar = progress.add_task("Adapting", total=total)
    rows: list[str] = []

    def tell(text: str) -> None:
        row = rows[-1] if rows else "preparing"
        progress.update(bar, description=escape(f"{row}: {text}"))

    def on_row(text: str) -> None:
        rows.append(text)
        progress.update(bar, completed=len(rows) - 1, description=escape(text))

    def on_stage(name: str, is_done: bool) -> None:
        if not is_done:
            tell(name)

    return Listener(on_stage=on_stage, on_step=tell, on_row=on_row)


def _show(console: Console, findings: Findings, notes: list[str]) -> None:
    """Print tables, differences, times and what went wrong with single files."""
    tables = tables_of(findings)
    for table in tables.values():
        if any(run.scores.overall is not None for run in table.runs):
            console.print(table.rich())
    for sentence in differences(tables):
        console.print(sentence, highlight=False)
    for sentence in skipped(findings):
        console.print(sentence, highlight=False)
    console.print(_times(findings))
    for note in notes:
        console.print(f"[yellow]{escape(note)}[/]", soft_wrap=True, highlight=False)


def skipped(findings: Findings) -> list[str]:
    """Say how many frames the fine stage left out for want of a pseudo-label.

    Args:
        findings: Of a study.

    Returns:
        One sentence for each number of frames adapted to.
    """
    counts: dict[int, set[int]] = {}
    for note in findings.notes:
        if "quality" in note:
            quality = note["quality"]
            counts.setdefault(quality["frames"], set()).add(quality["skipped"])
    return [
        f"Frames without pseudo-label, left out of the fine stage: "
        f"{'-'.join(str(one) for one in sorted({min(found), max(found)}))} of {frames}"
        for frames, found in counts.items()
    ]


def _times(findings: Findings) -> Table:
    """Say how long stages took, over all variants and seeds."""
    table = Table("Stage", "runs", "seconds each", box=box.SIMPLE_HEAD)
    for name, title in STAGE_TITLES.items():
        seconds = [
            note["stage-seconds"][name]
            for note in findings.notes
            if name in note["stage-seconds"]
        ]
        if seconds:
            mean = sum(seconds) / len(seconds)
            table.add_row(title, str(len(seconds)), f"{mean:.1f}")
    return table


def is_study(folder: Path) -> bool:
    """Tell whether a folder holds an adaptation that can be resumed."""
    return (folder / STUDY_FILE).is_file() or (folder / RESULTS_FILE).is_file()
