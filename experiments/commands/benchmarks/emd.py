"""`endofed benchmark emd`: Earth Mover's Distances side by side."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.benchmarks import RESULTS
from experiments.commands.errors import user_errors
from experiments.commands.word_options import choose, parse_numbers

MISSING = "–"
WIDTH = 122  # wider than most pipes claim to be: cut numbers are worse
STEP_BATCH = 8  # frames
ERRORS = ("value_error", "plan_error", "feature_error", "weight_error", "gap")
HEADINGS = (
    *("ms", "least", "/ emd2", "value", "plan", "features", "weights", "gap"),
    *("again", "MiB"),
)


def emd_command(
    nodes: Annotated[
        str, typer.Option(help="Of each set, as 16,64.")
    ] = "16,49,64,196,256,1024",
    batches: Annotated[str, typer.Option(help="Pairs at once, as 4,16.")] = "4,16",
    solvers: Annotated[str, typer.Option(help="With commas between, or all.")] = "all",
    repeats: Annotated[int, typer.Option(min=1, help="Measured passes.")] = 7,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Of PyTorch.")] = 1,
    networks: Annotated[
        str, typer.Option(help="Whose training steps are timed; none = skip.")
    ] = "sam-tiny,fga-net-small",
    grids: Annotated[str, typer.Option(help="Of those steps, as 4,8.")] = "4,8",
    size: Annotated[int, typer.Option(help="Frame of those steps, px.")] = 256,
    output: Annotated[Path, typer.Option(help="JSON file.")] = RESULTS / "emd.json",
) -> None:
    """Time, memory and error of the Earth Mover's Distance beside other libraries."""
    # These bring POT and the networks, which other commands need not load.
    from experiments.benchmarks.emd import measure_ways, to_json
    from experiments.benchmarks.emd_measures import WAYS
    from experiments.benchmarks.emd_step import measure_steps
    from experiments.benchmarks.networks import describe_machine
    from models.registry import BUILDERS

    with user_errors():
        chosen = choose(solvers, tuple(WAYS), "--solvers")
        named = choose(networks, ("none", *BUILDERS), "--networks")
        counts = parse_numbers("--nodes", nodes, at_least=1)
        sizes = parse_numbers("--batches", batches, at_least=1)
        cells = parse_numbers("--grids", grids, at_least=1)
        torch.set_num_threads(threads)
        place = torch.device(device)
        console = Console(stderr=True)
        options = {
            "repeats": repeats,
            "device": place,
            "progress": partial(console.print, style="dim", soft_wrap=True),
        }
        rows, skipped = measure_ways(chosen, nodes=counts, batches=sizes, **options)
        steps, missing = measure_steps(
            [one for one in named if one != "none"],
            grids=cells,
            size=size,
            batch=STEP_BATCH,
            **options,
        )
    content = {
        **describe_machine(place),
        "repeats": repeats,
        **to_json(rows, skipped),
        "step": {"size": size, "batch": STEP_BATCH},
        "steps": [asdict(one) for one in steps],
        "steps_missing": missing,
    }
    _print(content)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _print(content: dict[str, Any]) -> None:
    console = Console(width=max(Console().width, WIDTH))
    console.print(_ways_table(content["rows"]))
    for one in content["skipped"]:
        console.print(
            f"{one['name']} at {one['n']} nodes, batch {one['batch']}, is left out: "
            f"{one['reason']}."
        )
    if content["steps"]:
        console.print(_steps_table(content["steps"], content["step"]["size"]))


def _ways_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(
        title="Earth Mover's Distance, forward and backward",
        caption="Milliseconds an item, median and minimum; over the loop with ot.emd2, "
        "turn by turn. Worst item: error of the value, misplaced mass of the plan, "
        "relative errors of the gradients to features and weights, gap as the way "
        "says; items solved exactly after all; MiB at the peak.",
        box=box.SIMPLE_HEAD,
    )
    for heading in ("nodes", "batch", "way"):
        table.add_column(heading, no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for one in rows:
        quality = one["quality"] or {}
        table.add_row(
            str(one["n"]),
            str(one["batch"]),
            one["name"],
            f"{one['milliseconds']:.3f}",
            f"{one['least_milliseconds']:.3f}",
            _show(one["ratio"], ".2f"),
            *(_show(quality.get(key), ".0e") for key in ERRORS),
            _show(quality.get("fell_back"), "d"),
            _show(one["peak_mib"], ".1f"),
        )
    return table


def _steps_table(rows: list[dict[str, Any]], size: int) -> Table:
    table = Table(
        title=f"A training step with EMD, {STEP_BATCH} frames of {size} px",
        caption="Milliseconds a step; what EMD adds, turn by turn; the score alone and "
        "its share of a step without.",
        box=box.SIMPLE_HEAD,
    )
    for heading in ("network", "grid", "gradient"):
        table.add_column(heading, no_wrap=True)
    for heading in ("with ms", "without ms", "added", "score ms", "share"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in rows:
        table.add_row(
            one["network"],
            f"{one['grid']} x {one['grid']}",
            one["gradient"],
            f"{one['milliseconds']:.1f}",
            f"{one['without']:.1f}",
            f"{one['added']:+.1%}",
            f"{one['emd_milliseconds']:.2f}",
            f"{one['share']:.2%}",
        )
    return table


def _show(value: float | None, form: str) -> str:
    return MISSING if value is None else format(value, form)
