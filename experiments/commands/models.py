"""`endofed models …`: names and aliases for finished models."""

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.commands.errors import user_errors
from experiments.commands.groups import command_group
from experiments.registry import ADDRESS_VARIABLE, list_models, register_model

models_app = command_group("The model registry: names and aliases for finished models.")

RegistryOption = Annotated[
    str,
    typer.Option(
        help="Address or run folder of the registry. Default: "
        f"${ADDRESS_VARIABLE}, else ~/.endofed/registry."
    ),
]


@models_app.command("register")
def register_command(
    model: Annotated[
        Path, typer.Argument(help="A .safetensors file with its card beside it.")
    ],
    name: Annotated[str, typer.Option(help="Of the model in the registry.")],
    alias: Annotated[
        str, typer.Option(help="Moves to this version, such as champion.")
    ] = "candidate",
    registry: RegistryOption = "",
) -> None:
    """Register a foundation or finetuned model as a new version of a name."""
    with user_errors():
        address = register_model(model, name=name, alias=alias, tracking_uri=registry)
    Console().print(
        f"Registered as {address}; finetune, evaluate, predict and export take it.",
        soft_wrap=True,
        highlight=False,
    )


@models_app.command("list")
def models_command(registry: RegistryOption = "") -> None:
    """List every version of every name."""
    with user_errors():
        found = list_models(tracking_uri=registry)
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("model", "version", "aliases", "network", "kind", "digest"):
        table.add_column(heading, no_wrap=True)
    table.add_column("test Dice", justify="right")
    for one in found:
        table.add_row(
            one.name,
            str(one.version),
            ", ".join(one.aliases) or "–",
            one.tags.get("network", "–"),
            one.tags.get("kind", "–"),
            one.tags.get("digest", "–")[:12],
            one.tags.get("dice", "–"),
        )
    Console(width=max(Console().width, 100)).print(table)
