"""What a person sees when a federation has ended: a table and where things are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from experiments.live import UNKNOWN
from models.classes import CLASS_NAMES
from server.journal import TEST_TABLE_CSV
from server.mlflow_page import RUNS_PAGE, ui_command
from server.score_variance import describe

CLASS_COLUMNS = {  # heading: name behind "test/catheter/", and digits to show
    "Dice": ("pooled.dice", 3),
    "clDice": ("pooled.cldice", 3),
    "IoU": ("pooled.iou", 3),
    "HD95\npx": ("device-image.hd95-px", 1),
    "ASSD\npx": ("device-image.assd-px", 1),
    "breaks": ("device-image.breaks", 2),
    "tip\npx": ("device-image.tip-error-px", 1),
    "AUC": ("pooled.auc", 3),
}
FIGURES = ("curves", "drift", "edges", "edge_heatmap", "topology", "topology_map")
TITLE = "Foundation model on each hospital's test frames"
BOTH_COLUMNS = {"Dice": "test/dice", "clDice": "test/cldice"}


def federation_table(result: Mapping[str, Any]) -> Table:
    """Make the table of test scores of the foundation model.

    Args:
        result: The content of `result.json`.

    Returns:
        For each hospital and for the frames of all: a row of both classes together
        and one of each class that somebody annotated there. The last line of the
        caption says what the EMD scores were, where there were some.
    """
    if "test/accuracy" in result["global"]:
        return _accuracy_table(result)
    table = Table(
        title=TITLE,
        caption="Dice, clDice, IoU, AUC: pooled over frames. HD95, ASSD, breaks, tip "
        "error: means over the frames that show the device; what is missed at an end "
        "is no break.",
        box=box.SIMPLE_HEAD,
        pad_edge=False,  # so that it fits 80 characters
    )
    table.add_column("Hospital", overflow="fold")
    for column in CLASS_COLUMNS:
        table.add_column(column, justify="right")
    for site, scores in sorted(result["test"].items()):
        _add_rows(table, site, scores)
    table.add_section()
    _add_rows(table, "[bold]all frames[/]", result["global"])
    for site in result["missing"]:
        table.add_row(f"[red]{site}[/]", *["missing"] * len(BOTH_COLUMNS))
    if emd := result.get("emd"):
        table.caption = f"{table.caption}\n{describe(emd)}."
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
    for name in FIGURES:
        if (figures / f"{name}.png").exists():
            lines[f"Figure {name.replace('_', ' ')}"] = figures / f"{name}.png"
    if (run_folder / TEST_TABLE_CSV).exists():
        lines["Every test metric"] = run_folder / TEST_TABLE_CSV
    lines["All numbers"] = run_folder / "metrics.jsonl"
    width = max(map(len, lines))
    for name, path in lines.items():
        console.print(f"{name:<{width}}  {path}", soft_wrap=True, highlight=False)
    if (run_folder / "mlflow.db").exists():
        console.print("\nOpen the run in MLflow:")
        console.print(f"  {ui_command(run_folder)}", soft_wrap=True, highlight=False)
        console.print(f"and in a browser {RUNS_PAGE}", soft_wrap=True, highlight=False)


def _accuracy_table(result: Mapping[str, Any]) -> Table:
    """Make the table of a run that tells where frames come from."""
    table = Table(title=TITLE, box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Hospital", overflow="fold")
    names = ("accuracy", "balanced-accuracy")
    for name in names:
        table.add_column(name.replace("-", " "), justify="right")
    for site, scores in (
        *sorted(result["test"].items()),
        ("all frames", result["global"]),
    ):
        table.add_row(site, *(_cell(scores.get(f"test/{name}"), 3) for name in names))
    for site in result["missing"]:
        table.add_row(f"[red]{site}[/]", *["missing"] * len(names))
    return table


def _add_rows(table: Table, name: str, scores: Mapping[str, float | None]) -> None:
    both = [_cell(scores.get(BOTH_COLUMNS.get(key, "")), 3) for key in CLASS_COLUMNS]
    table.add_row(name, *both)
    for label in CLASS_NAMES:
        values = {
            metric: scores.get(f"test/{label}/{metric}")
            for metric, _ in CLASS_COLUMNS.values()
        }
        if any(value is not None for value in values.values()):
            cells = [_cell(values[key], n) for key, n in CLASS_COLUMNS.values()]
            table.add_row(f"  {label}", *cells)


def _cell(value: float | None, digits: int) -> str:
    return UNKNOWN if value is None else f"{value:.{digits}f}"
