"""Live progress of a run.

On a terminal: rounds, time passed and left, and a table of the sites. Elsewhere (a log
file, CI): one plain line per round. What is shown comes from `experiments/progress.py`;
the display only reads and cannot stop a run.
"""

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from experiments.progress import EventTail, RunView, finite

UNKNOWN = "–"
BAR_WIDTH = 40  # characters


class LiveProgress:
    """Shows a run while it runs; a context manager."""

    def __init__(
        self,
        events_path: Path,
        console: Console,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Follow the events of a run.

        Args:
            events_path: `metrics.jsonl` of the run; may not exist yet.
            console: Where to show it.
            clock: Gives the Unix time in seconds.
        """
        self.view = RunView()
        self._tail = EventTail(events_path)
        self._console = console
        self._clock = clock
        self._started = clock()
        self._live = Live(console=console, get_renderable=self.render)

    def __enter__(self) -> "LiveProgress":
        """Begin to show."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop showing; what is on the screen stays."""
        self._live.stop()

    def say(self, step: str) -> None:
        """Show what is being done before the run writes events."""
        self.view.last_step = step
        if not self._console.is_terminal:
            self._print(step)

    def update(self) -> None:
        """Take in what the run has written, and show it."""
        for event in self._tail.read():
            self.view.apply(event)
            if event.get("event") == "round" and not self._console.is_terminal:
                self._print(self.line())

    def line(self) -> str:
        """Return the last round in one line."""
        view = self.view
        parts = [
            f"round {view.finished_round}/{view.num_rounds}",
            self._numbers(),
            self._times(),
        ]
        failed = [
            f"{n} ({row.failure})" for n, row in view.sites.items() if row.failure
        ]
        return "  ".join(parts + (["failed: " + ", ".join(failed)] if failed else []))

    def render(self) -> Group:
        """Return bar, numbers and table of the sites."""
        view = self.view
        head = Table.grid(padding=(0, 2))
        finished = view.finished_round + 1
        bar = ProgressBar(
            total=view.num_rounds + 1,
            completed=finished,
            width=BAR_WIDTH,
            pulse=not view.sites,
        )
        count = f"round {max(view.finished_round, 0)}/{view.num_rounds}"
        head.add_row(bar, Text(count if view.sites else ""), Text(self._times()))
        parts: list[Table | Text] = [
            head,
            Text(f"{view.last_step}   {self._numbers()}"),
        ]
        if view.note:
            parts.append(Text(view.note, style="yellow"))
        return Group(*parts, *([self._table()] if view.sites else []))

    def _table(self) -> Table:
        is_pretext = self.view.classifies
        score = "Val accuracy" if is_pretext else "Val Dice"
        table = Table("Site", "Train loss", score, "Status", box=box.SIMPLE_HEAD)
        for name, row in list(self.view.sites.items()):
            status = Text("ok" if row.answered else UNKNOWN, style="green")
            if row.failure:
                status = Text(row.failure, style="red")
            value = row.val_accuracy if is_pretext else row.val_dice
            table.add_row(Text(name), _show(row.train_loss), _show(value), status)
        return table

    def _numbers(self) -> str:
        overall = self.view.overall
        if not overall:
            return ""
        name = "accuracy" if self.view.classifies else "Dice"
        loss = finite(overall.get("train/loss"))
        score = finite(overall.get(f"val/{name.lower()}"))
        return (
            f"train loss {_show(loss)}  val {name} {_show(score)}  "
            f"EMD {_show(self.view.emd_score)}"
        )

    def _times(self) -> str:
        now = self._clock()
        left = self.view.seconds_left(now)
        text = _duration(now - self._started)
        return text if left is None else f"{text}, about {_duration(left)} left"

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _show(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3f}"


def _duration(seconds: float) -> str:
    """Return such as "1:05" or "1:02:05"."""
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
