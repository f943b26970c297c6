"""Is there room for the audit log and the prepared frames, and may they be written?"""

import os
import shutil
import tempfile
from pathlib import Path

from experiments.deployment.checks.finding import Finding

GIB = 2**30
LEAST_GIB = 1.0
ENOUGH_GIB = 5.0


def check_disk(name: str, folder: Path) -> Finding:
    """Look for room in a folder that the site writes.

    Args:
        name: Of the check: what the folder is for.
        folder: May not exist yet, if it can be made.

    Returns:
        The finding.
    """
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not _can_write(place):
        return Finding(
            name,
            "failed",
            "The folder cannot be written by this program's user.",
            "Mount a volume for `state` of site.toml, or give the folder to the user.",
        )
    free = shutil.disk_usage(place).free / GIB
    says = f"{free:.1f} GiB free."
    numbers = {"free-gib": round(free, 1)}
    if free < LEAST_GIB:
        advice = (
            f"At least {LEAST_GIB:g} GiB are needed: free some, or move the folder."
        )
        return Finding(name, "failed", says, advice, numbers)
    if free < ENOUGH_GIB:
        advice = "Enough for small data sets; prepared frames take the most."
        return Finding(name, "warning", says, advice, numbers)
    return Finding(name, "ok", says, numbers=numbers)


def _can_write(folder: Path) -> bool:
    if not os.access(folder, os.W_OK | os.X_OK):
        return False
    try:  # a read-only mount shows only now
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".endofed-"):
            return True
    except OSError:
        return False
