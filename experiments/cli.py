"""The command line: `endofed …`."""

import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.adapt_cli import adapt_command
from experiments.benchmark_cli import benchmark_app
from experiments.command_errors import user_errors
from experiments.data_cli import data_app
from experiments.evaluate_cli import evaluate_command
from experiments.export_cli import export_command
from experiments.federation_cli import federation_app
from experiments.fewshot import FinetuneSettings
from experiments.finetune_cli import finetune_command, finetune_with_progress
from experiments.flower_home import (
    shell_exports,
    stop_local_superlink,
    write_flower_home,
)
from experiments.partition import partition_command
from experiments.predict_cli import predict_command
from experiments.provision_cli import provision_app
from experiments.registry_cli import models_app
from experiments.report_cli import report_command
from experiments.resources import choose_workers, gpu_share
from experiments.results import federation_table, show_paths
from experiments.run_config import (
    PROJECT_FOLDER,
    default_run_config,
    new_run_folder,
    resolve_run_config,
    sites_of,
)
from experiments.sheet_cli import sheet_command
from experiments.simulation import SimulationOutcome, SimulationRequest, simulate
from experiments.site_cli import site_app
from experiments.study_cli import study_command
from experiments.topology_cli import topology_command
from strategies.settings import SettingValue

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
app.command("finetune")(finetune_command)
app.command("adapt")(adapt_command)
app.command("study")(study_command)
app.command("predict")(predict_command)
app.command("export")(export_command)
app.command("report")(report_command)
app.add_typer(data_app, name="data")
app.add_typer(models_app, name="models")
app.add_typer(benchmark_app, name="benchmark")
app.add_typer(provision_app, name="provision")
app.add_typer(site_app, name="site")
app.add_typer(federation_app, name="federation")
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
        errors.print(f"[bold red]The run {outcome.status}:[/] {escape(outcome.reason)}")
        errors.print(f"What it wrote is in {outcome.run_folder}", soft_wrap=True)
        raise typer.Exit(outcome.exit_code or 1)
    console.print(federation_table(outcome.result))
    console.print(
        f"Training took {outcome.seconds:.0f} s; all processes together held "
        f"{outcome.peak_memory_mib / 1024:.1f} GiB at most.\n"
    )
    return outcome


def main() -> None:
    """Run the command line."""
    app()
