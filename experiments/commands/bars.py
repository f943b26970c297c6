"""How far a command is, for people in front of a terminal."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn


def passing_bar(console: Console) -> Progress:
    """Return a bar that goes when its work is done.

    Args:
        console: Where to draw it; one that is no terminal gets none, as a log file has
            no use for a bar.
    """
    return Progress(
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
