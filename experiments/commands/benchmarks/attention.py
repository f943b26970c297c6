"""`endofed benchmark attention`: SAM's attention beside the original."""

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
from experiments.benchmarks.attention import (
    NETWORKS,
    PRECISIONS,
    SCOPES,
    Measurement,
    Setting,
    Skipped,
    measure_attention,
)
from experiments.benchmarks.networks import describe_machine
from experiments.commands.errors import user_errors
from experiments.commands.word_options import choose, parse_numbers
from models.sam_sizes import PATCH_SIZE
from strategies.settings import SettingsError

OUTPUT = RESULTS / "attention.json"


def attention_command(
    network: Annotated[
        str, typer.Option(help=f"Whose widths: one of {', '.join(NETWORKS)}.")
    ] = "sam-vit-b",
    sizes: Annotated[str, typer.Option(help="Sides of an image, px.")] = "256,512,1024",
    scope: Annotated[
        str, typer.Option(help=f"Some of {', '.join(SCOPES)}, with commas between.")
    ] = "layer",
    repeats: Annotated[int, typer.Option(min=1, help="Measured passes.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="Of PyTorch.")] = 2,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    precision: Annotated[
        str, typer.Option(help=f"One of {', '.join(PRECISIONS)}.")
    ] = "float32",
    output: Annotated[Path, typer.Option(help="JSON file.")] = OUTPUT,
) -> None:
    """Time and memory of SAM's attention, as published and as built here."""
    with user_errors():
        settings = _settings(network, scope, sizes, precision, device)
        torch.set_num_threads(threads)
        status = Console(stderr=True)
        found: list[Measurement] = []
        skipped: list[Skipped] = []
        for setting in settings:
            result = measure_attention(
                setting,
                repeats=repeats,
                progress=lambda text: status.print(text, style="dim"),
            )
            if isinstance(result, Skipped):
                skipped.append(result)
            else:
                found += result
    # Wider than most pipes claim to be: cut numbers are worse than long lines.
    console = Console(width=max(Console().width, 110))
    console.print(_table(found, network, precision))
    for one in skipped:
        console.print(f"Not measured: {one.scope} at {one.size} px; {one.reason}.")
    content = {
        "command": f"endofed benchmark attention --network {network} --sizes {sizes} "
        f"--scope {scope} --repeats {repeats} --threads {threads} --device {device} "
        f"--precision {precision}",
        **describe_machine(torch.device(device)),
        "measurements": [asdict(one) for one in found],
        "skipped": [asdict(one) for one in skipped],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _settings(
    network: str, scope: str, sizes: str, precision: str, device: str
) -> list[Setting]:
    """Check what the user wrote; one setting a scope and size."""
    if network not in NETWORKS:
        raise SettingsError(f"--network must be one of {', '.join(NETWORKS)}.")
    if precision not in PRECISIONS:
        raise SettingsError(f"--precision must be one of {', '.join(PRECISIONS)}.")
    scopes = choose(scope, SCOPES, "--scope")
    sides = parse_numbers("--sizes", sizes, at_least=PATCH_SIZE)
    if any(side % PATCH_SIZE for side in sides):
        raise SettingsError(
            f"--sizes must be multiples of {PATCH_SIZE} px with commas between, "
            f"got '{sizes}'."
        )
    if device not in ("cpu", "cuda"):
        raise SettingsError(f"--device must be cpu or cuda, got '{device}'.")
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("--device cuda: PyTorch sees no GPU here; choose cpu.")
    place = torch.device(device)
    return [
        Setting(network, one, side, precision, place)
        for one in scopes
        for side in sides
    ]


def _table(found: list[Measurement], network: str, precision: str) -> Table:
    table = Table(
        title=f"Attention of {network}, one image, {precision}",
        caption="Median milliseconds and peak MiB of a pass, each with its ratio to "
        "the original's; largest difference of an output, and of a gradient over the "
        "largest of its tensor, from the original's.",
        box=box.SIMPLE_HEAD,
    )
    for heading in ("scope", "px", "pass", "variant"):
        table.add_column(heading, no_wrap=True)
    for heading in ("ms", "ratio", "MiB", "ratio", "off by", "gradients"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in found:
        apart = one.gradient_difference
        table.add_row(
            one.scope,
            str(one.size),
            one.passes,
            one.variant,
            f"{one.milliseconds:.1f}",
            f"{one.time_ratio:.2f}",
            f"{one.peak_mib:.1f}",
            f"{one.memory_ratio:.2f}",
            f"{one.output_difference:.1e}",
            "–" if apart is None else f"{apart:.1e}",
        )
    return table
