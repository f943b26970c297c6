"""Commands that are read when they are called: torch alone takes seconds to import.

What the help says of a command stands here beside its name, so that the help, a
mistyped name and the completion of a shell need none of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

import click
import typer
from typer.core import TyperCommand, TyperGroup

from experiments.commands.groups import command_group


@dataclass(frozen=True)
class Entry:
    """Where a command is, and what the help of its group says of it."""

    module: str
    attribute: str  # a function, or a Typer application for a group of commands
    help: str  # first line of what it says of itself
    panel: str | None = None  # of the help

    def read(self, name: str) -> click.Command:
        """Import the command.

        Args:
            name: It is called by.
        """
        found = getattr(import_module(self.module), self.attribute)
        if isinstance(found, typer.Typer):
            group = typer.main.get_command(found)
            group.name = name
            return group
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command(name)(found)
        return typer.main.get_command(alone)


class LazyGroup(TyperGroup):
    """Reads a command when it is called; see `lazy_app`."""

    entries: Mapping[str, Entry] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return what the help needs of a command; None if there is none."""
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        return TyperCommand(cmd_name, help=entry.help, rich_help_panel=entry.panel)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is called, with all it needs."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and command.name in self.entries:
            command = self.entries[command.name].read(command.name)
        return name, command, rest


def lazy_app(text: str, entries: Mapping[str, Entry]) -> typer.Typer:
    """Return a group of commands.

    Args:
        text: What the group says of itself.
        entries: By the commands' names, in the order of the help.
    """
    group = type("LazyGroup", (LazyGroup,), {"entries": entries})
    app = command_group(text, cls=group)
    app.callback(help=text)(_nothing)
    return app


def _nothing() -> None:
    """Make a group of an application that registers no command itself."""
