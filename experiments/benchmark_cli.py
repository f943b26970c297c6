"""The command line of measurements: `endofed benchmark …`.

What is measured beside ours (POT, geomloss, segment_anything) takes seconds to import,
so a command's module is read when that command, or this group's help, is asked for.
"""

from importlib import import_module

import click
import typer
from typer.core import TyperGroup

COMMANDS = ("attention", "emd", "folding", "learning", "networks", "profile")
"""`NAME` is `NAME_command` of `experiments.NAME_cli`."""


class _Benchmarks(TyperGroup):
    """Finds its commands by their names."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"experiments.{cmd_name}_cli")
        one = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        one.command(cmd_name)(getattr(module, f"{cmd_name}_command"))
        return typer.main.get_command(one)


benchmark_app = typer.Typer(
    cls=_Benchmarks,
    help="Measure side by side, in one run.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@benchmark_app.callback()
def _benchmark() -> None:
    """Measure side by side, in one run."""
