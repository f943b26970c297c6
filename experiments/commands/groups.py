"""What all groups of commands have in common."""

import typer
from typer.core import TyperGroup


def command_group(text: str, *, cls: type[TyperGroup] | None = None) -> typer.Typer:
    """Return a group without commands yet.

    It offers no completion of its own: a shell would complete the name of the group,
    which is no program.

    Args:
        text: What the group says of itself.
        cls: How it finds its commands; None = as Typer does.
    """
    return typer.Typer(
        cls=cls,
        help=text,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
