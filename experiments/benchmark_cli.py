"""The command line of measurements: `endofed benchmark …`."""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.benchmarks.networks import (
    MODES,
    REFERENCE,
    Cost,
    Timing,
    count_cost,
    describe_machine,
    time_networks,
    to_json,
)
from experiments.command_errors import user_errors
from models.registry import BUILDERS
from strategies.settings import SettingsError

RESULTS = Path(__file__).parent / "benchmarks" / "results"
DEFAULT_NAMES = ("unet", "fga-net", "fga-net-small", "sam-tiny")

benchmark_app = typer.Typer(
    help="Measure side by side, in one run.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@benchmark_app.callback()
def _benchmark() -> None:
    """Measure side by side, in one run."""


@benchmark_app.command("networks")
def networks_command(
    names: Annotated[str, typer.Option(help="With commas between, or all.")] = ",".join(
        DEFAULT_NAMES
    ),
    size: Annotated[int, typer.Option(help="Side of a frame, px.")] = 256,
    batches: Annotated[str, typer.Option(help="Frames at once, as 1,8.")] = "1,8",
    modes: Annotated[
        str, typer.Option(help=f"Some of {', '.join(MODES)}.")
    ] = "eager,channels-last,bf16",
    repeats: Annotated[int, typer.Option(min=1, help="Measured passes.")] = 5,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Of PyTorch.")] = 1,
    output: Annotated[Path, typer.Option(help="JSON file.")] = RESULTS
    / "networks.json",
) -> None:
    """Parameters, products, time and memory of every network beside the U-Net."""
    with user_errors():
        chosen = _choose(names, tuple(BUILDERS), "--names")
        chosen_modes = _choose(modes, MODES, "--modes")
        sizes = [int(part) for part in batches.split(",")]
        torch.set_num_threads(threads)
        place = torch.device(device)
        status = Console(stderr=True)
        costs = [count_cost(name, size) for name in chosen]
        timings = time_networks(
            chosen,
            size=size,
            batches=sizes,
            modes=chosen_modes,
            repeats=repeats,
            device=place,
            progress=lambda text: status.print(text, style="dim"),
        )
    # Wider than most pipes claim to be: cut numbers are worse than long lines.
    Console(width=max(Console().width, 110)).print(_table(costs, timings, size))
    content = {"size": size, **describe_machine(place), **to_json(costs, timings)}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _choose(text: str, allowed: tuple[str, ...], option: str) -> list[str]:
    if text == "all":
        return list(allowed)
    chosen = [part.strip() for part in text.split(",") if part.strip()]
    if not chosen or not set(chosen) <= set(allowed):
        raise SettingsError(f"{option} must be all or some of {', '.join(allowed)}.")
    return chosen


def _table(costs: list[Cost], timings: list[Timing], size: int) -> Table:
    table = Table(
        title=f"Forward pass at {size} px",
        caption="10⁶ parameters; multiply-accumulates by the FGA-Net paper's rules and "
        "truly; milliseconds a frame at a batch size, and over the U-Net's; largest "
        "difference of a logit from the eager ones.",
        box=box.SIMPLE_HEAD,
    )
    for heading in ("network", "10⁶", "paper G", "true G", "mode"):
        table.add_column(heading, no_wrap=True)
    for batch in sorted({one.batch for one in timings}):
        table.add_column(f"ms at {batch}", justify="right", no_wrap=True)
        table.add_column(f"/ {REFERENCE}", justify="right", no_wrap=True)
    table.add_column("off by", justify="right", no_wrap=True)
    by_key = {(one.name, one.mode, one.batch): one for one in timings}
    for cost in costs:
        for mode in dict.fromkeys(one.mode for one in timings):
            rows = [one for one in timings if (one.name, one.mode) == (cost.name, mode)]
            cells: list[str] = []
            for one in rows:
                base = by_key.get((REFERENCE, mode, one.batch))
                ratio = f"{one.milliseconds / base.milliseconds:.2f}" if base else "–"
                cells += [f"{one.milliseconds:.1f}", ratio]
            first = mode == timings[0].mode
            table.add_row(
                cost.name if first else "",
                f"{cost.parameters / 1e6:.2f}" if first else "",
                f"{cost.published_gmacs:.2f}" if first else "",
                f"{cost.true_gmacs:.2f}" if first else "",
                mode,
                *cells,
                f"{max(one.largest_difference for one in rows):.1e}",
            )
    return table
