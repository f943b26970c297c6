"""The command line of the benchmark of server memory."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.benchmarks import RESULTS
from experiments.benchmarks.folding import METHODS, Held, measure
from experiments.benchmarks.networks import describe_machine
from experiments.commands.errors import user_errors
from experiments.commands.word_options import parse_numbers


def folding_command(
    silos: Annotated[str, typer.Option(help="How many, as 2,4,8.")] = "2,4,8",
    parameters: Annotated[
        float, typer.Option(min=0.001, help="Of the model, millions.")
    ] = 90.0,
    output: Annotated[Path, typer.Option(help="JSON file.")] = RESULTS / "folding.json",
) -> None:
    """Memory of the server in one round, beside Flower's own FedAvg."""
    with user_errors():
        counts = list(parse_numbers("--silos", silos, at_least=1))
        found = [
            measure(method, count, round(parameters * 1e6))
            for method in METHODS
            for count in counts
        ]
    Console(width=max(Console().width, 80)).print(_table(found, counts))
    content = {
        **describe_machine(torch.device("cpu")),
        "rows": [asdict(one) for one in found],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _table(found: list[Held], counts: list[int]) -> Table:
    table = Table(
        title=f"Memory of the server's app, a model of {found[0].model_mib:.0f} MiB",
        caption="Peak above what was held before the round, in models (and MiB).",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("method", no_wrap=True)
    for count in counts:
        table.add_column(f"{count} silos", justify="right", no_wrap=True)
    by_key = {(one.method, one.silos): one for one in found}
    for method in METHODS:
        cells = [by_key[method, count] for count in counts]
        table.add_row(
            method, *(f"{one.models:.1f} ({one.peak_mib:.0f})" for one in cells)
        )
    return table
