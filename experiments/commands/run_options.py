"""The options of commands that start or prepare a run."""

from pathlib import Path
from typing import Annotated

import typer

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
