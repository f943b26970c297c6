"""`endofed federation …`: what a person at the coordinating centre starts and asks."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from experiments.commands.errors import user_errors
from experiments.commands.groups import command_group
from experiments.commands.run_options import ConfigOption, SetOption
from experiments.deployment.app_digest import app_digest
from experiments.deployment.centre import (
    Centre,
    become,
    centre_environment,
    prepare_state,
    read_port,
    require_key,
    superlink_command,
)
from experiments.deployment.federation_run import run_deployed
from experiments.deployment.federation_status import (
    needs_a_look,
    read_introductions,
    site_statuses,
    status_table,
)
from experiments.deployment.provision_state import load_state
from experiments.deployment.registration import (
    list_nodes,
    nodes_by_site,
    register_sites,
)
from experiments.results import federation_table, show_paths
from experiments.run_config import new_run_folder, resolve_run_config
from experiments.simulation import SimulationOutcome
from experiments.superlink import SuperLinkError
from strategies.settings import SettingsError

FAILED = 1
STATUS_WIDTH = 130  # characters: of the table, where the terminal is not wider

federation_app = command_group(
    "The server of a provisioned federation: start it, register sites, run."
)
console = Console()
errors = Console(stderr=True)

FolderArgument = Annotated[
    Path,
    typer.Argument(
        metavar="DIR", help="That `endofed provision` has made, or `server` in it."
    ),
]
StateOption = Annotated[
    Path | None,
    typer.Option(
        envvar="ENDOFED_STATE",
        help="Folder for the database and the runs. Default: `state` in server.",
    ),
]
AddressOption = Annotated[
    str,
    typer.Option(
        metavar="HOST:PORT", help="Of the server. Default: this machine, its own port."
    ),
]


@federation_app.command("start")
def start_command(
    folder: FolderArgument,
    host: Annotated[
        str,
        typer.Option(
            envvar="ENDOFED_HOST", help="Address to listen on; 0.0.0.0 = all."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            envvar="ENDOFED_PORT",
            min=1,
            max=65535,
            help="To listen on. Default: as provisioned.",
        ),
    ] = None,
    state: StateOption = None,
    tracking: Annotated[
        Path | None,
        typer.Option(
            envvar="ENDOFED_TRACKING",
            help="Folder of an MLflow server's database. Default: one in each run.",
        ),
    ] = None,
) -> None:
    """Start the server in the foreground, with TLS and registered sites only."""
    with user_errors():
        centre = Centre.open(folder, state, f"127.0.0.1:{port}" if port else "")
        require_key(centre.server)
        prepare_state(centre.state)
        command = superlink_command(centre, host, port or read_port(centre.server))
        become(command, centre_environment(centre.state, tracking))


@federation_app.command("register")
def register_command(
    folder: FolderArgument, state: StateOption = None, address: AddressOption = ""
) -> None:
    """Admit all active sites by their public keys, and shut revoked ones out."""
    with user_errors(), _server_errors():
        centre = Centre.open(folder, state, address)
        provision = load_state(centre.server)
        done = register_sites(centre.connect(), provision, list_nodes(centre))
    for what, names in (
        ("Shut out", done.unregistered),
        ("Registered", done.registered),
        ("Known already", done.unchanged),
    ):
        if names:
            _say(f"{what}: {', '.join(names)}")
    if done.strangers:
        _say(
            f"{done.strangers} more node(s) are admitted whose key is in no provision; "
            "see `flwr supernode list`."
        )


@federation_app.command("run")
def run_command(
    folder: FolderArgument,
    config: ConfigOption = None,
    settings: SetOption = None,
    resume: Annotated[
        Path | None, typer.Option(help="Run folder to go on from, with its settings.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Run folder. Default: a new one in the state.")
    ] = None,
    deadline_s: Annotated[
        float | None, typer.Option(help="Stop the run after this many seconds.")
    ] = None,
    state: StateOption = None,
    address: AddressOption = "",
) -> None:
    """Train with the sites, on the server's machine; exit code as of simulate."""
    with user_errors(), _server_errors():
        centre = Centre.open(folder, state, address)
        run_config = resolve_run_config(
            config=config,
            overrides=settings or [],
            output=output or new_run_folder(centre.runs),
            resume=resume,
        )
        if run_config["sites"]:
            raise SettingsError(
                "A deployed federation has no sites file: each site knows its own "
                "frames. Leave `sites` empty."
            )
        outcome = run_deployed(
            centre.connect(),
            run_config,
            active_sites=len(load_state(centre.server).active_keys()),
            console=console,
            deadline_s=deadline_s,
        )
    _show_outcome(outcome)


@federation_app.command("status")
def status_command(
    folder: FolderArgument, state: StateOption = None, address: AddressOption = ""
) -> None:
    """Show who is registered and online, and what each last said; 1 = have a look."""
    with user_errors(), _server_errors():
        centre = Centre.open(folder, state, address)
        provision = load_state(centre.server)
        nodes = nodes_by_site(provision, list_nodes(centre))
        run, introductions = read_introductions(centre.runs)
        statuses = site_statuses(provision, nodes, introductions, datetime.now(UTC))
    Console(width=max(console.width, STATUS_WIDTH)).print(status_table(statuses, run))
    advice = needs_a_look(statuses)
    for sentence in advice:
        _say(sentence)
    if advice:
        raise typer.Exit(FAILED)


@federation_app.command("digest")
def digest_command(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="Not needed: the app is this program's."),
    ] = None,
) -> None:
    """Print the SHA-256 of the app, which a site approves: endofed site approve."""
    with user_errors():
        digest = app_digest()
    sys.stdout.write(digest + "\n")


def _show_outcome(outcome: SimulationOutcome) -> None:
    """Print how a run went; leave the program if it did not complete."""
    if outcome.exit_code or outcome.result is None:
        errors.print(
            f"[bold red]The run {outcome.status}:[/] {escape(outcome.reason)}",
            soft_wrap=True,
            highlight=False,
        )
        folder = outcome.run_folder
        if folder.is_dir():
            errors.print(f"What it wrote is in {folder}", soft_wrap=True)
        if any(folder.glob("checkpoints/*")):
            errors.print("Go on from its last kept round with --resume and its folder.")
        raise typer.Exit(outcome.exit_code or FAILED)
    console.print(federation_table(outcome.result))
    console.print(f"The run took {outcome.seconds:.0f} s.\n")
    show_paths(console, outcome.run_folder, finetuned=False)


@contextmanager
def _server_errors() -> Iterator[None]:
    """Tell in one message, with exit code 1, that the server refused or is away."""
    try:
        yield
    except SuperLinkError as error:
        errors.print("[bold red]Error:[/]", end=" ")
        errors.print(str(error), soft_wrap=True, highlight=False, markup=False)
        raise typer.Exit(FAILED) from None


def _say(text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)
