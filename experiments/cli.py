"""The command line: `endofed …`."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from experiments.benchmark_cli import benchmark_app
from experiments.command_errors import user_errors
from experiments.data_cli import data_app
from experiments.evaluate_cli import evaluate_command
from experiments.fewshot import FinetuneSettings
from experiments.fewshot_report import fewshot_table
from experiments.finetune import run_finetune
from experiments.flower_home import (
    shell_exports,
    stop_local_superlink,
    write_flower_home,
)
from experiments.partition import partition_command
from experiments.predict_cli import predict_command
from experiments.report_cli import report_command
from experiments.resources import choose_workers, count_cores, gpu_share
from experiments.results import federation_table, show_paths
from experiments.run_config import (
    PROJECT_FOLDER,
    default_run_config,
    resolve_run_config,
    sites_of,
)
from experiments.sheet_cli import sheet_command
from experiments.simulation import SimulationOutcome, SimulationRequest, simulate
from experiments.topology_cli import topology_command
from strategies.settings import SettingsError, SettingValue

app = typer.Typer(
    help="Federated training of a segmentation foundation model for X-ray fluoroscopy.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app.command("partition")(partition_command)
data_app.command("sheet")(sheet_command)
app.command("topology")(topology_command)
app.command("evaluate")(evaluate_command)
app.command("predict")(predict_command)
app.command("report")(report_command)
app.add_typer(data_app, name="data")
app.add_typer(benchmark_app, name="benchmark")
console = Console()
errors = Console(stderr=True)

ConfigOption = Annotated[
    Path | None, typer.Option(help="TOML file with some of the settings.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting; may be repeated."),
]
SitesOption = Annotated[
    Path | None, typer.Option(help="Sites file (TOML). Default: four simulated ones.")
]
DeadlineOption = Annotated[
    float | None, typer.Option(help="Stop the run after this many seconds.")
]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Hospitals trained at once. Default: cores.")
]
GpuOption = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Share of a GPU for each hospital. Default: even."),
]


@app.command("simulate")
def simulate_command(
    config: ConfigOption = None,
    settings: SetOption = None,
    sites: SitesOption = None,
    resume: Annotated[
        Path | None, typer.Option(help="Run folder to go on from, with its settings.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Run folder. Default: a new one in ./runs.")
    ] = None,
    deadline_s: DeadlineOption = None,
    workers: WorkersOption = None,
    gpus_per_site: GpuOption = None,
) -> None:
    """Train a federation of simulated or real hospitals on this machine or cluster."""
    with user_errors():
        run_config = resolve_run_config(
            config=config,
            overrides=settings or [],
            sites=sites,
            output=output or new_run_folder(Path("runs")),
            resume=resume,
        )
        outcome = run_federation(run_config, deadline_s, workers, gpus_per_site)
    show_paths(console, outcome.run_folder, finetuned=False)


@app.command("finetune")
def finetune_command(
    checkpoint: Annotated[
        Path, typer.Argument(help="foundation.safetensors, with its card beside it.")
    ],
    domain: Annotated[
        str, typer.Option(help="Simulated domain that no hospital had.")
    ] = FinetuneSettings.domain,
    shots: Annotated[str, typer.Option(help="Labelled frames, as 1,5,10.")] = ",".join(
        map(str, FinetuneSettings.shots)
    ),
    seeds: Annotated[str, typer.Option(help="Seeds, as 0,1,2.")] = ",".join(
        map(str, FinetuneSettings.seeds)
    ),
    steps: Annotated[
        int, typer.Option(help="Optimiser steps of every run.")
    ] = FinetuneSettings.steps,
    learning_rate: Annotated[
        float, typer.Option(help="Peak of AdamW.")
    ] = FinetuneSettings.learning_rate,
    output: Annotated[
        Path | None, typer.Option(help="Default: the checkpoint's run folder.")
    ] = None,
    workers: WorkersOption = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Adapt a foundation to a few frames of a domain that no hospital had."""
    with user_errors():
        study = FinetuneSettings(
            domain=domain,
            shots=parse_numbers("--shots", shots),
            seeds=parse_numbers("--seeds", seeds),
            steps=steps,
            learning_rate=learning_rate,
        )
        folder = (output or checkpoint.parent.parent).resolve()
        finetune_with_progress(checkpoint, study, folder, workers, device)
    console.print(f"Tables and figures are in {folder}", soft_wrap=True)


@app.command()
def quickstart(
    runs: Annotated[
        Path, typer.Option(help="Folder in which the run gets its own.")
    ] = Path("runs"),
    config: ConfigOption = None,
    settings: SetOption = None,
    sites: SitesOption = None,
    deadline_s: DeadlineOption = None,
    workers: WorkersOption = None,
) -> None:
    """Train a federation, finetune its model on a new domain, show what came out."""
    with user_errors():
        folder = new_run_folder(runs)
        run_config = resolve_run_config(
            config=config, overrides=settings or [], sites=sites, output=folder
        )
        outcome = run_federation(run_config, deadline_s, workers, None)
        finetune_with_progress(
            folder / "checkpoints" / "foundation.safetensors",
            FinetuneSettings(),
            folder,
            workers,
            str(run_config["device"]),
        )
    show_paths(console, outcome.run_folder, finetuned=True)


@app.command()
def environment(
    sites: SitesOption = None,
    stop: Annotated[
        bool, typer.Option(help="Stop the SuperLink that `flwr run` has started.")
    ] = False,
) -> None:
    """Print what `flwr run .` needs: eval "$(endofed environment)"."""
    folder = PROJECT_FOLDER / ".flwr"
    with user_errors():
        if stop:
            stopped = stop_local_superlink(folder)
            errors.print(f"{stopped} process(es) stopped.")
            return
        run_config = resolve_run_config(sites=sites)
        num_sites = len(sites_of(run_config))
        workers = choose_workers(num_sites, None, int(run_config["threads-per-site"]))
        gpus = gpu_share(workers, torch.cuda.device_count())
        write_flower_home(folder, num_sites, workers, gpus)
    sys.stdout.write(shell_exports(folder) + "\n")


@app.command("settings")
def settings_command() -> None:
    """List every setting of a run with its default."""
    table = Table("Setting", "Default", box=box.SIMPLE_HEAD)
    for key, value in default_run_config().items():
        table.add_row(key, repr(value))
    console.print(table)
    console.print("What each may hold stands beside it in pyproject.toml.")


def run_federation(
    run_config: dict[str, SettingValue],
    deadline_s: float | None,
    workers: int | None,
    gpus_per_site: float | None,
) -> SimulationOutcome:
    """Simulate, print the table; leave the program if the run did not complete."""
    outcome = simulate(
        SimulationRequest(
            run_config=run_config,
            num_sites=len(sites_of(run_config)),
            workers=workers,
            gpus_per_site=gpus_per_site,
            deadline_s=deadline_s,
        ),
        console=console,
    )
    if outcome.exit_code or outcome.result is None:
        errors.print(f"[bold red]The run {outcome.status}:[/] {outcome.reason}")
        errors.print(f"What it wrote is in {outcome.run_folder}", soft_wrap=True)
        raise typer.Exit(outcome.exit_code or 1)
    console.print(federation_table(outcome.result))
    console.print(
        f"Training took {outcome.seconds:.0f} s; all processes together held "
        f"{outcome.peak_memory_mib / 1024:.1f} GiB at most.\n"
    )
    return outcome


def finetune_with_progress(
    checkpoint: Path,
    study: FinetuneSettings,
    output: Path,
    workers: int | None,
    device: str,
) -> None:
    """Run the few-shot study under a progress bar and print its table."""
    total = len(study.shots) * len(study.seeds) * 2
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    label = f"Finetuning on '{study.domain}'"
    with Progress("{task.description}", *columns, console=console) as progress:
        task = progress.add_task(label, total=total)
        results = run_finetune(
            checkpoint,
            study,
            output,
            workers=workers or count_cores(),
            device=device,
            on_result=lambda _: progress.advance(task),
        )
    console.print(fewshot_table(results))


def new_run_folder(parent: Path) -> Path:
    """Return the path of a run folder that does not exist yet."""
    folder = parent.resolve() / datetime.now().strftime("%Y%m%d-%H%M%S")
    while folder.exists():
        folder = folder.with_name(folder.name + "-b")
    return folder


def parse_numbers(option: str, text: str) -> tuple[int, ...]:
    """Read a list such as "1,5,10".

    Raises:
        SettingsError: If a part is not a whole number.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(
            f"{option} wants whole numbers with commas between, got '{text}'."
        ) from None


def main() -> None:
    """Run the command line."""
    app()
