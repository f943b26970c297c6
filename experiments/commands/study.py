"""`endofed study`: many runs on equal terms, from one TOML to tables."""

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.commands.errors import user_errors
from experiments.resources import count_cores
from experiments.study.pace import Pace, hours
from experiments.study.run import Prepared, Progressed, finished, play, prepare
from experiments.study.spec import Scenario, StudySpec
from experiments.study.steps import whole
from experiments.study.study_file import find_study, read_study
from strategies.settings import SettingsError

EXIT_FAILED, EXIT_INTERRUPTED = 1, 130

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="Of a file in experiments/configs/studies, or its path."
    ),
]
Folder = Annotated[
    Path, typer.Option(help="Where studies lie; this one gets NAME in it.")
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Jobs done at once. Default: cores.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A setting of every run, or study.KEY=VALUE of the study; repeatable.",
    ),
]
Only = Annotated[
    list[str] | None, typer.Option(metavar="ROW", help="Only this row; repeatable.")
]
Report = Annotated[
    bool, typer.Option("--report", help="Train nothing, rebuild tables and figures.")
]
Target = Annotated[
    Path | None,
    typer.Option(help="Where the report goes. Default: the study's folder."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show rows, steps and jobs; train nothing.")
]
Mlflow = Annotated[bool, typer.Option(help="Mirror finished jobs in MLflow.")]


def study_command(
    name: Name,
    folder: Folder = Path("runs/studies"),
    workers: Workers = None,
    settings: Settings = None,
    only: Only = None,
    report: Report = False,
    target: Target = None,
    dry_run: DryRun = False,
    mlflow: Mlflow = True,
) -> None:
    """Compare methods: tune, train, measure and tabulate; goes on where it stopped."""
    console = Console()
    with user_errors():
        check_options(report=report, dry_run=dry_run, only=only, target=target)
        spec = read_study(find_study(name), settings or [])
        check_rows(spec, only or [])
        study = (folder / spec.name).resolve()
        if report:
            show_report(console, study, spec, target)
            return
        count = workers or count_cores()
        prepared = prepare(spec, study)
        if dry_run:
            show_plan(console, prepared, only or [], count)
            return
        try:
            failures = play(
                prepared, workers=count, only=only or [], console=console, track=mlflow
            )
        except KeyboardInterrupt:
            console.print("Stopped. The same command goes on with what is left.")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        show_report(console, study, spec, target)
    if failures:
        console.print(f"[bold red]{len(failures)} job(s) failed;[/] see error.json.")
        raise typer.Exit(EXIT_FAILED)


def check_options(
    *, report: bool, dry_run: bool, only: list[str] | None, target: Path | None
) -> None:
    """Refuse options of which one would be silently without effect.

    Raises:
        SettingsError: Naming them.
    """
    if report and (dry_run or only):
        other = "--dry-run" if dry_run else "--only"
        raise SettingsError(
            f"--report rebuilds all tables and trains nothing, so {other} has no place "
            "beside it. Leave one out."
        )
    if dry_run and target is not None:
        raise SettingsError(
            "--dry-run writes no report, so --target has no place beside it. Leave one "
            "out."
        )


def check_rows(spec: StudySpec, only: list[str]) -> None:
    """Refuse names of rows that there are not.

    Raises:
        SettingsError: Naming them.
    """
    known = {row.name for row in spec.rows}
    unknown = [name for name in only if name not in known]
    if unknown:
        raise SettingsError(
            f"--only names rows that the study has not: {', '.join(unknown)}. It has "
            f"{', '.join(row.name for row in spec.rows)}."
        )


def show_report(
    console: Console, study: Path, spec: StudySpec, target: Path | None
) -> None:
    """Write tables and figures from the results and say where they are."""
    from experiments.study.report import write_report  # matplotlib takes seconds

    if not (study / "jobs").is_dir():
        raise SettingsError(
            "There is nothing to report: the study has no finished jobs. Run it "
            "without --report first, or name its --folder."
        )
    place = target.resolve() if target is not None else None
    written = write_report(study, spec, target=place)
    console.print(f"Report: {written[0]}", soft_wrap=True, highlight=False)


def show_plan(
    console: Console, prepared: Prepared, only: list[str], workers: int
) -> None:
    """Print rows with their steps, and how many jobs and hours are left."""
    spec = prepared.plan.spec
    for scenario in spec.scenarios:
        console.print(_steps_table(prepared, scenario, only))
    left, done = finished(prepared, only)
    known = Progressed(prepared.plan.study)
    undecided = prepared.plan.undecided(known.result, known.failed, only)
    pace = Pace(prepared.budgets, workers)
    for job in prepared.plan.known_jobs(known.result, known.failed, only):
        if (found := known.result(job)) is not None:
            pace.note(f"{job.row} {job.trial} {job.seed} {job.purpose}", found)
    estimate = hours(pace.seconds_left(left, undecided))
    console.print(
        f"{done} of {done + len(left) + undecided} jobs are finished; seeds "
        f"{', '.join(map(str, spec.seeds))}, tuning with seed {spec.tune_seed}."
        + (f" {estimate.capitalize()} with {workers} worker(s)." if estimate else "")
    )


def _steps_table(prepared: Prepared, scenario: Scenario, only: list[str]) -> Table:
    """Return the rows of a scenario, fit for a terminal of 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, title=scenario.name, title_justify="left")
    table.add_column("Row", overflow="fold")
    for heading in (
        "Trials",
        *("Steps\na silo", "own", "visitors", "centre", "in\nsequence"),
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    group = ""
    for one, row in prepared.plan.pairs(only):
        if one is not scenario:
            continue
        if row.group != group:
            table.add_section()
            group = row.group
        budget = prepared.budgets[scenario.name, row.name, 0]
        cost = budget.cost()
        numbers = (
            whole(budget.per_silo),
            cost["steps_per_silo"],
            cost["overseas_steps_per_silo"],
            cost["server_steps"],
            cost["sequential_steps"],
        )
        is_shared = row.trials_of or scenario.trials_of
        trials = "shared" if is_shared else str(len(row.trials or ({},)))
        table.add_row(row.name, trials, *map(str, numbers))
    return table
