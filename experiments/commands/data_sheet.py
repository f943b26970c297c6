"""`endofed data sheet`: look at simulated frames, beside a site's own if wanted."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from experiments.commands.errors import user_errors
from experiments.sheet import DEFAULT_DOMAINS, draw_sheet


def sheet_command(
    output: Annotated[Path, typer.Argument(metavar="PNG", help="Picture to write.")],
    real: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder with images/ and masks/, drawn beside; may be repeated. The "
            "sheet then shows patients and must not leave the site."
        ),
    ] = None,
    size: Annotated[int, typer.Option(help="Side of a frame, px.")] = 256,
    seed: Annotated[int, typer.Option(help="Of the simulated frames.")] = 0,
    domains: Annotated[
        str, typer.Option(help="With commas between, as human,phantom,random-3.")
    ] = ",".join(DEFAULT_DOMAINS),
) -> None:
    """Draw simulated frames of every domain with their masks."""
    names = tuple(name.strip() for name in domains.split(",") if name.strip())
    with user_errors(private=True):
        draw_sheet(output, real=real or (), size=size, seed=seed, domains=names)
    if real:
        Console(stderr=True).print(
            "[yellow]The sheet shows real frames: it must not leave the site.[/]"
        )
