"""Where the tips of devices are, as CSV and JSON.

A tip is the far end of the largest piece of a mask (`models/tips.py`). Positions count
from the centre of the top left pixel: x to the right, y down. Millimetres are pixels
times the spacing that the file gives, which holds at the detector or in the patient as
`spacing-origin` says; there are none without a spacing.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.images.source import SourceFacts
from experiments.prediction.frames import PredictedFrame
from models.classes import CLASS_NAMES
from server.journal import write_json

COLUMNS = ("frame", "class", "found", "x-px", "y-px", "x-mm", "y-mm")
DECIMALS = 4  # of mm; a detector's pixel is about 0.1 mm


@dataclass(frozen=True)
class TipRow:
    """One class in one frame; None where there is no tip or no spacing."""

    frame: int  # from 1
    name: str
    x_px: int | None = None
    y_px: int | None = None
    x_mm: float | None = None
    y_mm: float | None = None

    def values(self) -> tuple[Any, ...]:
        """Return what stands under `COLUMNS`."""
        found = self.x_px is not None
        position = (self.x_px, self.y_px, self.x_mm, self.y_mm)
        return self.frame, self.name, found, *position


def tip_rows(frame: PredictedFrame, spacing_mm: float | None) -> list[TipRow]:
    """List the tips of a frame.

    Args:
        frame: The prediction.
        spacing_mm: Side of a pixel; None = not known.

    Returns:
        One row a class.
    """
    rows = []
    for name, tip in zip(CLASS_NAMES, frame.tips, strict=True):
        if tip is None:
            rows.append(TipRow(frame.number, name))
            continue
        y, x = tip
        in_mm: tuple[float | None, float | None] = (None, None)
        if spacing_mm is not None:
            in_mm = round(x * spacing_mm, DECIMALS), round(y * spacing_mm, DECIMALS)
        rows.append(TipRow(frame.number, name, x, y, *in_mm))
    return rows


def write_tips(folder: Path, rows: Sequence[TipRow], facts: SourceFacts) -> None:
    """Write `tips.csv` and `tips.json`.

    Args:
        folder: Where to.
        rows: In the order of frames.
        facts: Of the file with the frames.
    """
    with (folder / "tips.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow((*COLUMNS, "spacing-mm", "spacing-origin"))
        for row in rows:
            spacing = (facts.spacing_mm, facts.spacing_origin)
            writer.writerow((*_texts(row.values()), *spacing))
    write_json(
        folder / "tips.json",
        {
            "origin": "centre of the top left pixel, x to the right, y down",
            "spacing-mm": facts.spacing_mm,
            "spacing-origin": facts.spacing_origin or "none in the file",
            "tips": [dict(zip(COLUMNS, row.values(), strict=True)) for row in rows],
        },
    )


def _texts(values: tuple[Any, ...]) -> list[Any]:
    words = {True: "yes", False: "no"}
    return [words[one] if isinstance(one, bool) else one for one in values]
