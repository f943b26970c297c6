"""`endofed simulate` and `quickstart`: a federation on this machine or cluster."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from experiments.commands.errors import user_errors
from experiments.commands.finetune import finetune_with_progress
from experiments.commands.run_options import ConfigOption, SetOption, SitesOption
from experiments.finetuning.fewshot import FinetuneSettings
from experiments.results import federation_table, show_paths
from experiments.run_config import new_run_folder, resolve_run_config, sites_of
from experiments.simulation import SimulationOutcome, SimulationRequest, simulate
from strategies.settings import SettingValue

console = Console()
errors = Console(stderr=True)

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


def quickstart_command(
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
