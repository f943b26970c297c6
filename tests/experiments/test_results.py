from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.results import federation_table, show_paths

RESULT: dict[str, Any] = {
    "test": {"a": {"test/dice": 0.5}},
    "global": {"test/dice": 0.5},
    "missing": [],
    "emd": {
        "mean": 0.93,
        "spread": 0.012,
        "diagonal": 0.95,
        "shares": {"round": 0.75, "host+student+pair": 0.25},
    },
}


def print_table(result: dict[str, Any]) -> str:
    console = Console(width=80, record=True, quiet=False, file=None)
    with console.capture() as captured:
        console.print(federation_table(result))
    return " ".join(captured.get().split())


def test_the_summary_has_a_line_on_the_emd() -> None:
    assert (
        "EMD score 0.930 (spread 0.012); variance by round 75%, host+student+pair "
        "25%; diagonal 0.950." in print_table(RESULT)
    )


def test_without_scores_nothing_is_said_of_them() -> None:
    assert "EMD" not in print_table({**RESULT, "emd": {}})
    older = {key: value for key, value in RESULT.items() if key != "emd"}
    assert "EMD" not in print_table(older)


def test_every_figure_that_was_drawn_is_named(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    for name in ("curves", "drift", "edge_heatmap"):
        (tmp_path / "figures" / f"{name}.png").write_bytes(b"")
    console = Console(width=80)
    with console.capture() as captured:
        show_paths(console, tmp_path, finetuned=False)
    text = captured.get()
    assert "Figure edge heatmap" in text
    assert "Figure drift" in text
    assert "Figure topology" not in text
