"""How a command tells a mistake: one message, exit code 2, no traceback."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape

from clients.data.errors import DataError
from experiments.finetuning.training import FinetuneError
from server.checkpoints import CheckpointError
from strategies.settings import SettingsError

USAGE_ERROR = 2
USER_ERRORS = (SettingsError, DataError, FinetuneError, CheckpointError)


@contextmanager
def user_errors(*, private: bool = False) -> Iterator[None]:
    """Turn a user's mistake into one message and exit code 2.

    Args:
        private: The command reads files of a site, so also a fault of this program
            is told without its text and traceback, which may quote names and values.

    Yields:
        Nothing.

    Raises:
        typer.Exit: In place of a mistake.
    """
    try:
        yield
    except USER_ERRORS as error:
        message = escape(str(error))
    except FileNotFoundError:
        message = "A file that you named does not exist."
    except OSError:
        if not private:
            raise
        message = (
            "The folder or a file in it cannot be opened; check that this program's "
            "user may read it."
        )
    except Exception as error:
        if not private:
            raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        message = (
            f"An unexpected {type(error).__name__} in {Path(place.filename).name}, "
            f"line {place.lineno}; please report it."
        )
    else:
        return
    console = Console(stderr=True)
    console.print(f"[bold red]Error:[/] {message}", soft_wrap=True, highlight=False)
    raise typer.Exit(USAGE_ERROR)
