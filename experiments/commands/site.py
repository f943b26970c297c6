"""`endofed site …`: what a person at a hospital calls before and after joining."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from clients.data.errors import DataError
from clients.site_file import SiteFile
from experiments.commands.errors import user_errors
from experiments.commands.groups import command_group
from experiments.deployment.approval import approve
from experiments.deployment.kit import PLAIN, SECRET, write_file
from experiments.deployment.node_keys import make_node_key
from experiments.deployment.site_check import (
    PUBLIC,
    REPORT,
    report_of,
    run_checks,
    show_findings,
    write_report,
)
from experiments.deployment.supernode import KEY, SITE_FILE, run_supernode
from experiments.run_config import resolve_run_config

if TYPE_CHECKING:
    from clients.site_dry_run import Leaving

FAILED = 1
MOST_NAMES = 30

site_app = command_group(
    "A hospital's part in a federation: check, key, approval, dry run, start."
)
console = Console()

KitOption = Annotated[
    Path, typer.Option(metavar="DIR", help="Folder of the kit, with site.toml.")
]
HERE = Path()


@site_app.command("check")
def check_command(
    kit: KitOption = HERE,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out data and training.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report in place of the table.")
    ] = False,
) -> None:
    """Check clock, network, certificate, key, machine, data and training."""
    with user_errors(private=True):
        state = SiteFile.read(kit / SITE_FILE).machine.state
        findings = []
        with Console(stderr=True).status("Checking …") as status:
            for finding in run_checks(kit, quick=quick):
                findings.append(finding)
                status.update(f"Checked: {finding.name} …")
    report = report_of(findings, datetime.now(UTC))
    failed = [one.name for one in findings if one.level == "failed"]
    if as_json:
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        show_findings(console, findings)
        _say(f"Failed: {', '.join(failed)}." if failed else "Nothing failed.")
    with user_errors(private=True):
        write_report(state, report)
    if not as_json:
        _say(
            f"Report for the centre, without identities: {REPORT} in the state folder."
        )
    if failed:
        raise typer.Exit(FAILED)


@site_app.command("start")
def start_command(
    kit: KitOption = HERE,
    port: Annotated[
        int,
        typer.Option(
            envvar="ENDOFED_RUNTIME_PORT",
            min=0,
            max=65535,
            help="Of the SuperNode's own interface on loopback; 0 = a free one.",
        ),
    ] = 0,
) -> None:
    """Connect to the centre and serve until this process is ended."""
    with user_errors():
        code = _start(kit, port)
    raise typer.Exit(code)


@site_app.command("key")
def key_command(kit: KitOption = HERE) -> None:
    """Make this site's own key pair; only the public half is sent to the centre."""
    with user_errors():
        kit.mkdir(mode=0o700, parents=True, exist_ok=True)
        there = [name for name in (KEY, PUBLIC) if (kit / name).exists()]
        if there:
            raise DataError(
                f"There is {' and '.join(there)} already, and no key is written over. "
                "Move the old pair away to make a new one; the centre must then be "
                "told the new public half."
            )
        key = make_node_key()
        write_file(kit / KEY, key.private, SECRET)
        write_file(kit / PUBLIC, f"{key.public}\n".encode(), PLAIN)
    _say(f"Send this line ({PUBLIC}) to the centre:\n")
    _say(key.public)
    _say(f"\nand tell it the fingerprint by telephone: {key.fingerprint}")
    _say(f"{KEY} stays here: whoever has it can pose as this site.")


@site_app.command("approve")
def approve_command(
    digest: Annotated[
        str, typer.Argument(metavar="DIGEST", help="SHA-256 of the centre's app.")
    ],
    kit: KitOption = HERE,
) -> None:
    """Let the app with this digest run here: adds it to apps in site.toml."""
    with user_errors(private=True):
        is_new = approve(kit / SITE_FILE, digest)
        apps = SiteFile.read(kit / SITE_FILE).limits.apps
    count = f"{len(apps)} approved in all"
    _say(f"Approved ({count})." if is_new else f"It was approved already ({count}).")


@site_app.command("dry-run")
def dry_run_command(
    kit: KitOption = HERE,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with the settings of the run.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One setting; repeatable."),
    ] = None,
    show_all: Annotated[
        bool, typer.Option("--all", help="Show every tensor and number.")
    ] = False,
) -> None:
    """Show all that would leave this site in a round, found by doing it here."""
    with user_errors(private=True):
        run_config = resolve_run_config(config=config, overrides=settings or [])
        from clients.site_dry_run import what_would_leave  # imports Flower's client

        rows = what_would_leave((kit / SITE_FILE).absolute(), run_config)
    console.print(leaving_table(rows, show_all=show_all))
    _say(
        f"{sum(row.num_bytes for row in rows) / 2**20:.2f} MiB in all, before "
        "compression and envelopes. Nothing was sent; what is not in this table does "
        "not leave in a round."
    )


def leaving_table(rows: "Sequence[Leaving]", *, show_all: bool) -> Table:
    """Lay out what would leave.

    Args:
        rows: Of `clients.site_dry_run.what_would_leave`.
        show_all: A row for each tensor and number; else one for each record.

    Returns:
        The table.
    """
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("answer to", no_wrap=True)
    table.add_column("record", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("type", no_wrap=True)
    table.add_column("bytes", justify="right", no_wrap=True)
    if show_all:
        for row in rows:
            what = f"{row.key} {list(row.shape)}" if row.shape else row.key
            cells = (row.message, row.record, what, row.dtype, f"{row.num_bytes:,}")
            table.add_row(*map(_plain, cells))
        return table
    groups: dict[tuple[str, str], list[Leaving]] = {}
    for row in rows:
        groups.setdefault((row.message, row.record), []).append(row)
    for (message, record), group in groups.items():
        types = ", ".join(sorted({row.dtype for row in group}))
        size = f"{sum(row.num_bytes for row in group):,}"
        table.add_row(message, record, _plain(_summary(group)), types, size)
    return table


def _summary(group: "list[Leaving]") -> str:
    """Name numbers, but only count tensors and what is too many to name."""
    names = list(dict.fromkeys(row.key for row in group))  # of both evaluations
    if any(len(row.shape) > 1 for row in group):
        return f"{len(names)} tensors, such as {names[0]}"
    if len(names) > MOST_NAMES:
        return f"{len(names)} numbers, such as {names[0]}; --all names them"
    return ", ".join(names)


def _start(kit: Path, port: int) -> int:
    try:
        return run_supernode(kit, port=port)
    except RuntimeError as error:
        # Of a module that imports Flower, whose environment must be set before.
        from experiments.deployment.fab_gate import GateError

        if not isinstance(error, GateError):
            raise
        raise DataError(str(error)) from None


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _say(text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)
