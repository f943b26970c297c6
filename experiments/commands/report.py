"""`endofed report`: one page about a run, to look at and to send."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from experiments.commands.errors import user_errors
from experiments.report.formats import data_size
from experiments.report.page import REPORT_FILE, write_report


def report_command(
    run: Annotated[
        Path, typer.Argument(help="Run folder, finished, failed or still going on.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(help=f"HTML file. Default: {REPORT_FILE} in the run folder."),
    ] = None,
) -> None:
    """Write one self-contained HTML page about a run."""
    with user_errors():
        path = write_report(run, output)
    size = data_size(path.stat().st_size)
    Console().print(f"Report ({size}): {path}", soft_wrap=True, highlight=False)
