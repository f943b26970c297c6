"""`endofed provision …`: keys, certificates and kits of a federation."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import click
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from experiments.commands.errors import user_errors
from experiments.commands.groups import command_group
from experiments.deployment.federation_file import read_plan, read_text
from experiments.deployment.provision import provision
from experiments.deployment.provision_changes import (
    add_site,
    revoke_site,
    rotate_server,
    rotate_site,
)
from experiments.deployment.provision_state import (
    ACTIVE,
    ProvisionState,
    days_until,
    load_state,
)

EXPIRED = 1
"""Exit code of `status`."""
WARN_DAYS = 30
SERVER = "server"
"""What `rotate` takes in place of a site's name."""


class ProvisionGroup(TyperGroup):
    """Understands `provision FILE` as `provision create FILE`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the word in where it was left out."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["create", *args]
        return super().parse_args(ctx, args)


provision_app = command_group(
    "Keys, certificates and a kit for every hospital: endofed provision FILE.",
    cls=ProvisionGroup,
)
console = Console()

FolderArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="That `endofed provision` has made.")
]
PublicKeyOption = Annotated[
    Path | None,
    typer.Option(help="The site's own public key (.pub). Default: a pair is made."),
]


@provision_app.command("create")
def create_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The federation file (TOML).")
    ],
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="To make. Default: the federation's name."),
    ] = None,
) -> None:
    """Make authority, server certificate, keys and kits; `create` may be left out."""
    with user_errors():
        text = read_text(file)
        folder = output or Path(read_plan(text).name)
        state = provision(text, folder, _now())
    _show(state)
    _say(
        f"Provisioned in {folder}. Hand each hospital its archive of {folder}/kits, "
        "and tell it the checksum and the fingerprint by telephone. An archive with a "
        f"private key goes by a safe way only. Copy {folder}/server to the server; "
        f"keep {folder}/ca away from it, with a backup."
    )


@provision_app.command("status")
def status_command(folder: FolderArgument) -> None:
    """Show every site, its key and what expires when; exit code 1 if something has."""
    with user_errors():
        state = load_state(folder)
    has_expired = _show(state)
    for key in state.revoked_keys:
        _say(f"{key.reason} {key.revoked[:10]}: {key.fingerprint} of {key.site}")
    if has_expired:
        raise typer.Exit(EXPIRED)


@provision_app.command("rotate")
def rotate_command(
    folder: FolderArgument,
    name: Annotated[
        str, typer.Argument(metavar="NAME|server", help="A site, or the server.")
    ],
    public_key: PublicKeyOption = None,
) -> None:
    """Give a site a new key and kit, or the server a new certificate."""
    with user_errors():
        if name != SERVER:
            text = "" if public_key is None else read_text(public_key)
            rotate_site(folder, name, text, _now())
        elif public_key is not None:
            raise typer.BadParameter("--public-key goes with a site, not the server.")
        else:
            state = rotate_server(folder, _now())
    if name == SERVER:
        _say(
            f"New certificate until {state.server.expires[:10]}. Copy server.key and "
            f"server.pem of {folder}/server to the server and restart it; kits stay."
        )
        return
    _say(
        f"New key of {name}; the old one is revoked. Send {folder}/kits/{name}.tar.gz, "
        f"copy {folder}/server to the server, and register: "
        f"endofed federation register {folder}"
    )


@provision_app.command("revoke")
def revoke_command(folder: FolderArgument, name: str) -> None:
    """Take a site out; its kit and archive are deleted here."""
    with user_errors():
        revoke_site(folder, name, _now())
    _say(
        f"{name} is revoked here, and is shut out of a running server once that is "
        f"told: endofed federation register {folder}"
    )


@provision_app.command("add")
def add_command(
    folder: FolderArgument, name: str, public_key: PublicKeyOption = None
) -> None:
    """Add a site; first write its table into DIR/federation.toml if it needs one."""
    with user_errors():
        text = "" if public_key is None else read_text(public_key)
        state = add_site(folder, name, text, _now())
    _say(
        f"{name} is added, key {state.sites[name].fingerprint}. Send "
        f"{folder}/kits/{name}.tar.gz, copy {folder}/server to the server, and "
        f"register: endofed federation register {folder}"
    )


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _show(state: ProvisionState) -> bool:
    """Print the tables; return whether a certificate has expired."""
    now = _now()
    sites = Table(box=box.SIMPLE_HEAD)
    for heading in ("site", "status", "key fingerprint", "made by", "created"):
        sites.add_column(heading, no_wrap=True)
    for name, site in state.sites.items():
        maker = "site" if site.own_key else "centre"
        style = None if site.status == ACTIVE else "dim"
        fields = (name, site.status, site.fingerprint, maker, site.created[:10])
        sites.add_row(*fields, style=style)
    certificates = Table(box=box.SIMPLE_HEAD)
    for heading in ("certificate", "created", "expires", "days left", ""):
        certificates.add_column(heading, no_wrap=True)
    days = {}
    for name, one in (("server", state.server), ("authority", state.authority)):
        days[name] = days_until(one.expires, now)
        remark = _remark(name, days[name])
        row = (name, one.created[:10], one.expires[:10], str(days[name]), remark)
        certificates.add_row(*row)
    wide = Console(width=max(console.width, 125))
    wide.print(f"Federation {state.name}", highlight=False)
    wide.print(sites)
    wide.print(certificates)
    return min(days.values()) < 0


def _remark(name: str, days: int) -> str:
    if days >= WARN_DAYS:
        return ""
    what = "expired" if days < 0 else "expires soon"
    cure = "rotate server" if name == SERVER else "a new provision and new kits"
    return f"[bold red]{what}[/]: {cure}"


def _say(text: str) -> None:
    Console().print(text, soft_wrap=True, highlight=False, markup=False)
