"""The command that tells where a network's time goes: `endofed benchmark profile`."""

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
from experiments.benchmarks.networks import describe_machine
from experiments.benchmarks.profile import Share, profile_operators, profile_parts
from experiments.commands.errors import user_errors
from models.inference import optimise_for_inference
from models.registry import BUILDERS, build_model
from strategies.settings import SettingsError


def profile_command(
    network: Annotated[str, typer.Option(help="Name of a network.")] = "fga-net",
    size: Annotated[int, typer.Option(help="Side of a frame, px.")] = 256,
    batch: Annotated[int, typer.Option(min=1, help="Frames at once.")] = 1,
    depth: Annotated[int, typer.Option(min=1, help="Of the parts.")] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="Measured passes.")] = 5,
    fused: Annotated[
        bool, typer.Option("--fused", help="Fold batch normalisations first.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Of PyTorch.")] = 1,
    output: Annotated[Path, typer.Option(help="JSON file.")] = RESULTS / "profile.json",
) -> None:
    """Show where a network's time goes, by its parts and by kind of operator."""
    with user_errors():
        if network not in BUILDERS:
            raise SettingsError(f"--network must be one of {', '.join(BUILDERS)}.")
        torch.set_num_threads(threads)
        place = torch.device(device)
        built = build_model(network, image_size=size, seed=0).to(place).eval()
        if fused:
            built = optimise_for_inference(built)
        images = torch.rand(
            batch, 1, size, size, generator=torch.Generator().manual_seed(0)
        ).to(place)
        parts = profile_parts(built, images, depth=depth, repeats=repeats)
        operators = profile_operators(built, images, repeats=repeats)
    console = Console(width=max(Console().width, 100))
    title = f"{network}, {size} px, batch {batch}"
    for way, shares in (("part", parts), ("kind of operator", operators)):
        console.print(f"{title}: by {way}", style="italic", highlight=False)
        console.print(_table(shares))
    content = {
        **{"network": network, "size": size, "batch": batch, "fused": fused},
        **describe_machine(place),
        "parts": [asdict(one) for one in parts],
        "operators": [asdict(one) for one in operators],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _table(shares: list[Share]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("name", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    for heading in ("ms", "%"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in shares:
        indent = "  " * (one.depth - 1)
        cells = f"{one.milliseconds:.2f}", f"{one.percent:.1f}"
        table.add_row(indent + one.name, one.kind, *cells)
    return table
