"""The files of an evaluation: all of them or none.

Everything is written into a folder beside the wanted one, which then takes its name.
NaN is an empty cell in CSV and null in JSON. No name, path or raw id is written:
sequences and patients have pseudonyms or numbers, models have letters and digests.
"""

import csv
import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from clients.data.errors import DataError
from experiments.evaluation.comparison import Comparison
from experiments.evaluation.frames import EvaluationFrames
from experiments.evaluation.measuring import COLUMNS, COUNTS, Measured
from experiments.evaluation.summary import SEQUENCE, SummaryRow
from server.journal import write_json

PER_IMAGE, SUMMARY, COMPARISON = "per_image.csv", "summary.csv", "comparison.csv"
SUMMARY_JSON, GALLERY = "summary.json", "gallery"


def check_output(folder: Path, data: Sequence[Path]) -> None:
    """Refuse a folder that cannot become that of an evaluation, before any work.

    Args:
        folder: Wanted.
        data: Folders that are read.

    Raises:
        DataError: If it exists with something in it, or lies in a data folder, where
            the gallery would be read as data.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            "--output names something that exists and is not empty; name a new folder."
        )
    place = folder.absolute().resolve()
    if any(place.is_relative_to(one.resolve()) for one in data):
        raise DataError(
            "--output lies in the data folder, where pictures would be read as data; "
            "name a folder elsewhere."
        )


def write_whole(folder: Path, write: Callable[[Path], None]) -> None:
    """Fill a folder, whole or not at all; only its owner may enter it.

    Args:
        folder: Wanted: new, or empty. Folders above it are made.
        write: Fills the folder that it is given.

    Raises:
        DataError: If the place cannot be written.
        Exception: What `write` raises; nothing is left then.
    """
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(
            tempfile.mkdtemp(prefix=".evaluation-", dir=folder.absolute().parent)
        )
    except OSError:
        raise DataError(
            "--output cannot be made there; name a folder that this program's user "
            "may write."
        ) from None
    try:
        write(temporary)
        temporary.replace(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_tables(
    folder: Path,
    measured: Mapping[str, Measured],
    frames: EvaluationFrames,
    rows: Sequence[SummaryRow],
    comparisons: Sequence[Comparison],
) -> None:
    """Write the CSV files.

    Args:
        folder: That exists.
        measured: By name of the model.
        frames: That were measured.
        rows: Of all models.
        comparisons: Of all pairs; no file without any.
    """
    _write_csv(
        folder / PER_IMAGE,
        ["model", "site", "patient", "sequence", "frame", "class", "device-labelled",
         "device-predicted", "pixel-mm", *COUNTS, *COLUMNS],
        _image_rows(measured, frames),
    )  # fmt: skip
    for name, entries in ((SUMMARY, rows), (COMPARISON, comparisons)):
        if entries:
            keys = list(asdict(entries[0]))
            _write_csv(
                folder / name,
                [_header(key) for key in keys],
                ([getattr(one, key) for key in keys] for one in entries),
            )


def write_summary(
    folder: Path,
    content: Mapping[str, Any],
    rows: Sequence[SummaryRow],
    comparisons: Sequence[Comparison],
) -> None:
    """Write `summary.json`: how it was made, and all numbers but single sequences.

    Args:
        folder: That exists.
        content: How it was made; plain JSON.
        rows: Of all models.
        comparisons: Of all pairs.
    """
    write_json(
        folder / SUMMARY_JSON,
        {
            **content,
            "results": [_entry(one) for one in rows if one.scope != SEQUENCE],
            "comparisons": [_entry(one) for one in comparisons],
        },
    )


def _image_rows(
    measured: Mapping[str, Measured], frames: EvaluationFrames
) -> Iterable[list[Any]]:
    known, sites = frames.known, frames.site_numbers
    facts = [frames.fact(name) for name in ("patient", "sequence", "number")]
    spacing = frames.fact("spacing_mm")
    for model, found in measured.items():
        for frame, column in np.argwhere(known):
            yield [
                model,
                frames.sites[sites[frame]].name,
                *(one[frame] for one in facts),
                frames.classes[column],
                int(found.has_device[frame, column]),
                int(found.is_predicted[frame, column]),
                float(spacing[frame]),
                *found.counts[frame, column].tolist(),
                *found.values[frame, column].tolist(),
            ]


def _write_csv(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: Any) -> Any:  # noqa: ANN401 - any cell
    return "" if isinstance(value, float) and math.isnan(value) else value


def _entry(row: SummaryRow | Comparison) -> dict[str, Any]:
    return {_header(key): value for key, value in asdict(row).items()}


def _header(key: str) -> str:
    return "class" if key == "class_name" else key.replace("_", "-")
