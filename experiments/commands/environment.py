"""`endofed environment` and `settings`: for those who call `flwr run` by hand."""

import sys
from typing import Annotated

import torch
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.commands.errors import user_errors
from experiments.commands.run_options import SitesOption
from experiments.flower_home import (
    shell_exports,
    stop_local_superlink,
    write_flower_home,
)
from experiments.resources import choose_workers, gpu_share
from experiments.run_config import (
    PROJECT_FOLDER,
    default_run_config,
    resolve_run_config,
    sites_of,
)

console = Console()
errors = Console(stderr=True)


def environment_command(
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


def settings_command() -> None:
    """List every setting of a run with its default."""
    table = Table("Setting", "Default", box=box.SIMPLE_HEAD)
    for key, value in default_run_config().items():
        table.add_row(key, repr(value))
    console.print(table)
    console.print("What each may hold stands beside it in pyproject.toml.")
