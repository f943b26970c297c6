"""What a person sees when a federation has ended: a table and where things are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from server.mlflow_page import RUNS_PAGE, ui_command

TEST_COLUMNS = {
    "Dice": "test/dice",
    "clDice": "test/cldice",
    "catheter": "test/dice.catheter",
    "guidewire": "test/dice.guidewire",
}


def federation_table(result: Mapping[str, Any]) -> Table:
    """Make the table of test scores of the foundation model.

    Args:
        result: The content of `result.json`.

    Returns:
        One row a hospital and one for the frames of all; pooled Dice and clDice.
    """
    table = Table(
        title="Foundation model on each hospital's test frames",
        caption="Pooled over frames and classes, 0 to 1.",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("Hospital")
    for column in TEST_COLUMNS:
        table.add_column(column, justify="right")
    for site, scores in sorted(result["test"].items()):
        table.add_row(site, *_cells(scores))
    table.add_section()
    table.add_row("[bold]all frames[/]", *_cells(result["global"]))
    for site in result["missing"]:
        table.add_row(f"[red]{site}[/]", *["missing"] * len(TEST_COLUMNS))
    return table


def show_paths(console: Console, run_folder: Path, *, finetuned: bool) -> None:
    """Print where checkpoint, pictures and numbers are, and how to open MLflow.

    Args:
        console: Where to print.
        run_folder: The run.
        finetuned: Whether the few-shot study lies there, too.
    """
    figures = run_folder / "figures"
    lines = {"Checkpoint": run_folder / "checkpoints" / "foundation.safetensors"}
    lines["Its card"] = lines["Checkpoint"].with_suffix(".json")
    if finetuned:
        lines["Few-shot table"] = run_folder / "fewshot.csv"
        lines["Few-shot curve"] = figures / "fewshot.png"
        lines["Overlays"] = figures / "fewshot_overlay.png"
    for name in ("curves", "edges", "topology"):
        if (figures / f"{name}.png").exists():
            lines[f"Figure {name}"] = figures / f"{name}.png"
    lines["All numbers"] = run_folder / "metrics.jsonl"
    width = max(map(len, lines))
    for name, path in lines.items():
        console.print(f"{name:<{width}}  {path}", soft_wrap=True, highlight=False)
    if (run_folder / "mlflow.db").exists():
        console.print("\nOpen the run in MLflow:")
        console.print(f"  {ui_command(run_folder)}", soft_wrap=True, highlight=False)
        console.print(f"and in a browser {RUNS_PAGE}", soft_wrap=True, highlight=False)


def _cells(scores: Mapping[str, float | None]) -> list[str]:
    values = [scores.get(key) for key in TEST_COLUMNS.values()]
    return ["–" if value is None else f"{value:.3f}" for value in values]
