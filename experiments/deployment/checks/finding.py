"""What a check found: a level, one sentence, and what to do.

A finding goes into a report that leaves the site, so neither its sentence nor its
numbers may hold a path, a name of a folder, host or patient, or a text of the system:
they are put together from numbers and words of this program.
"""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from clients.data.errors import DataError

Level = Literal["ok", "warning", "failed", "skipped"]
Value = bool | int | float | str


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        name: Of the check.
        level: ok, warning (works, but look at it), failed (joining would fail) or
            skipped.
        says: One sentence.
        advice: What to do; "" if nothing.
        numbers: For the report, by kebab-case name with its unit.
    """

    name: str
    level: Level
    says: str
    advice: str = ""
    numbers: Mapping[str, Value] = field(default_factory=dict)


def find(name: str, check: Callable[[], Finding]) -> Finding:
    """Run a check; one that breaks down is a finding, too.

    Args:
        name: Of the check.
        check: Takes nothing, returns its finding.

    Returns:
        Its finding, or a failed one that says where this program broke, without the
        text of the error, which may quote names and values.
    """
    try:
        return check()
    except DataError:
        return Finding(
            name,
            "failed",
            "The site file or the data cannot be used.",
            "For the eyes of the site: `endofed data check` on the folder says why.",
        )
    except Exception as error:  # noqa: BLE001 - the other checks still have a say
        place = traceback.extract_tb(error.__traceback__)[-1]
        return Finding(
            name,
            "failed",
            f"This check broke down: {type(error).__name__} in "
            f"{Path(place.filename).name}, line {place.lineno}.",
            "Please report it.",
        )
