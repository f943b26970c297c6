import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiments.live import LiveProgress

START = {"event": "start", "num_rounds": 2, "strategy": "fedefm", "sites": ["a", "[b]"]}
ROUND = {
    "event": "round",
    "round": 1,
    "time": 1000.0,
    "seconds": 65.0,
    "sites": {"a": {"train/loss": 0.61, "val/dice": 0.4}},
    "global": {"train/loss": 0.6, "val/dice": 0.41},
    "edges": [{"student": "a", "teacher": "b", "score": 0.93}],
    "failed": {"[b]": "local: out of memory"},
}


def write(path: Path, *events: dict[str, Any]) -> None:
    with path.open("a") as stream:
        stream.writelines(json.dumps(event) + "\n" for event in events)


def make(path: Path, *, terminal: bool) -> tuple[LiveProgress, io.StringIO]:
    screen = io.StringIO()
    console = Console(
        file=screen, force_terminal=terminal, width=100, color_system=None
    )
    return LiveProgress(path, console, clock=lambda: 1000.0), screen


def test_outside_a_terminal_every_round_is_one_plain_line(tmp_path: Path) -> None:
    live, screen = make(tmp_path / "metrics.jsonl", terminal=False)
    with live:
        live.update()
        write(tmp_path / "metrics.jsonl", START, ROUND)
        live.update()
        live.update()
    assert screen.getvalue().splitlines() == [
        "round 1/2  train loss 0.600  val Dice 0.410  EMD 0.930  "
        "0:00, about 1:05 left  failed: [b] (local: out of memory)"
    ]


def test_a_terminal_shows_rounds_numbers_times_and_every_site(tmp_path: Path) -> None:
    write(tmp_path / "metrics.jsonl", START, ROUND)
    live, screen = make(tmp_path / "metrics.jsonl", terminal=True)
    live.update()
    Console(file=screen, width=100, color_system=None).print(live.render())
    text = screen.getvalue()
    assert "round 1/2" in text
    assert "about 1:05 left" in text
    assert "val Dice 0.410" in text
    (row_a,) = (line.split() for line in text.splitlines() if line.startswith("  a "))
    assert row_a == ["a", "0.610", "0.400", "ok"]
    (row_b,) = (line for line in text.splitlines() if line.startswith("  [b] "))
    assert "local: out of memory" in row_b


def test_a_live_display_begins_and_ends_with_its_block(tmp_path: Path) -> None:
    live, screen = make(tmp_path / "metrics.jsonl", terminal=True)
    with pytest.raises(KeyboardInterrupt), live:
        live.say("starting Ray")
        raise KeyboardInterrupt
    shown = screen.getvalue()
    assert "starting Ray" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1  # the cursor


def test_before_the_first_event_nothing_is_claimed(tmp_path: Path) -> None:
    live, screen = make(tmp_path / "metrics.jsonl", terminal=True)
    live.say("starting Flower's SuperLink")
    Console(file=screen, width=100, color_system=None).print(live.render())
    text = screen.getvalue()
    assert "starting Flower's SuperLink" in text
    assert "round" not in text
    assert "Site" not in text
