"""The command line of the benchmark of networks."""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.benchmarks import RESULTS
from experiments.benchmarks.modes import MODES
from experiments.benchmarks.networks import (
    REFERENCE,
    Cost,
    Measurements,
    Timing,
    count_cost,
    describe_machine,
    time_networks,
    to_json,
)
from experiments.commands.errors import user_errors
from experiments.commands.word_options import choose, parse_numbers
from models.registry import BUILDERS

MISSING = "–"
DEFAULT_NAMES = ("unet", "fga-net", "fga-net-small", "sam-tiny")


def networks_command(
    names: Annotated[str, typer.Option(help="With commas between, or all.")] = ",".join(
        DEFAULT_NAMES
    ),
    size: Annotated[int, typer.Option(help="Side of a frame, px.")] = 256,
    batches: Annotated[str, typer.Option(help="Frames at once, as 1,8.")] = "1,8",
    modes: Annotated[
        str, typer.Option(help=f"Some of {', '.join(MODES)}.")
    ] = "eager,channels-last,fused,bf16",
    repeats: Annotated[int, typer.Option(min=1, help="Measured passes.")] = 5,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Of PyTorch.")] = 1,
    output: Annotated[Path, typer.Option(help="JSON file.")] = RESULTS
    / "networks.json",
) -> None:
    """Parameters, products, time and memory of every network beside the U-Net."""
    with user_errors():
        chosen = choose(names, tuple(BUILDERS), "--names")
        chosen_modes = choose(modes, MODES, "--modes")
        sizes = list(parse_numbers("--batches", batches, at_least=1))
        torch.set_num_threads(threads)
        place = torch.device(device)
        status = Console(stderr=True)
        costs = [count_cost(name, size) for name in chosen]
        measured = time_networks(
            chosen,
            size=size,
            batches=sizes,
            modes=chosen_modes,
            repeats=repeats,
            device=place,
            progress=lambda text: status.print(text, style="dim"),
        )
    # Wider than most pipes claim to be: cut numbers are worse than long lines.
    table = _table(costs, measured, chosen_modes, sizes, size)
    Console(width=max(Console().width, 80 + 35 * len(sizes))).print(table)
    for reason in dict.fromkeys(one.reason for one in measured.failures):
        which = [f"{f.name} {f.mode}" for f in measured.failures if f.reason == reason]
        missing = ", ".join(dict.fromkeys(which))
        status.print(f"Not measured ({missing}): {reason}", style="yellow")
    content = {"size": size, **describe_machine(place), **to_json(costs, measured)}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _table(
    costs: list[Cost],
    measured: Measurements,
    modes: list[str],
    batches: list[int],
    size: int,
) -> Table:
    table = Table(
        title=f"Forward pass at {size} px",
        caption="10⁶ parameters; multiply-accumulates by the FGA-Net paper's rules and "
        f"truly; milliseconds a frame, ratio to {REFERENCE} measured in turn with it, "
        "frames per second and peak MiB beside the weights, at a batch size; largest "
        "difference of a logit from the eager ones.",
        box=box.SIMPLE_HEAD,
    )
    for heading in ("network", "10⁶", "paper G", "true G", "mode"):
        table.add_column(heading, no_wrap=True)
    for batch in batches:
        for heading in (f"ms at {batch}", f"/ {REFERENCE}", "per s", "MiB"):
            table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("off by", justify="right", no_wrap=True)
    by_key = {(one.name, one.mode, one.batch): one for one in measured.timings}
    for cost in costs:
        name = [
            cost.name,
            f"{cost.parameters / 1e6:.2f}",
            f"{cost.published_gmacs:.2f}",
            f"{cost.true_gmacs:.2f}",
        ]
        for mode in modes:
            rows = [by_key.get((cost.name, mode, batch)) for batch in batches]
            off = [one.largest_difference for one in rows if one]
            worst = f"{max(off):.1e}" if off else MISSING
            cells = [cell for one in rows for cell in _cells(one)]
            table.add_row(*name, mode, *cells, worst)
            name = ["", "", "", ""]
    return table


def _cells(timing: Timing | None) -> list[str]:
    if timing is None:
        return [MISSING] * 4
    return [
        f"{timing.milliseconds:.1f}",
        MISSING if timing.ratio is None else f"{timing.ratio:.2f}",
        f"{timing.frames_per_second:.1f}",
        MISSING if timing.peak_mib is None else f"{timing.peak_mib:.0f}",
    ]
