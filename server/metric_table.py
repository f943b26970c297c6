"""The full table of a test: every metric, class and hospital, with numbers of frames.

One row a hospital and metric, and one for all frames. For each class three values: per
image (mean over the frames where the class is annotated), per device image (over those
of them with a labelled pixel) and pooled (pixels summed first). Beside each mean stand
the frames in it and those left out, because the metric has no value there.
"""

import csv
import io
import math
from collections.abc import Mapping

from models.classes import CLASS_NAMES
from models.image_metrics import METRICS
from strategies.evaluation import Evaluation, join_evaluations
from strategies.label_counts import LabelCounts

ALL_FRAMES = "all frames"

Cell = str | float | int | None
Row = dict[str, Cell]

_IMAGE, _DEVICE, _POOLED = "image", "device-image", "pooled"
_PARTS = ("", ".used", ".excluded")
_COLUMNS = (
    *(f"{mean}{part}" for mean in (_IMAGE, _DEVICE) for part in _PARTS),
    _POOLED,
)


def metric_rows(evaluations: Mapping[str, Evaluation]) -> list[Row]:
    """Make the rows of the table.

    Args:
        evaluations: By hospital, not empty.

    Returns:
        For each hospital, sorted, and for "all frames": one row per metric, then rows
        that count frames and pixels. Keys: "hospital", "metric", and for each class
        "catheter.image", "catheter.image.used", "catheter.image.excluded", the same
        for "device-image", and "catheter.pooled". None where there is no value. No
        rows for a hospital that measured the overlap only. Of labels of whole frames:
        "hospital", "score", "all labels" and a key for each label.
    """
    named = dict(sorted(evaluations.items()))
    named[ALL_FRAMES] = join_evaluations(list(evaluations.values()))
    if named[ALL_FRAMES].labels.names:
        return [
            row
            for hospital, evaluation in named.items()
            for row in _label_rows(hospital, evaluation.labels)
        ]
    return [
        row
        for hospital, evaluation in named.items()
        if evaluation.classes
        for row in _rows_of(hospital, evaluation)
    ]


def to_csv(rows: list[Row]) -> str:
    """Write rows as comma-separated text; empty where there is no value."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _rows_of(hospital: str, evaluation: Evaluation) -> list[Row]:
    by_class = {label: _cells_of(evaluation, label) for label in CLASS_NAMES}
    return [
        {
            "hospital": hospital,
            "metric": name,
            **{
                f"{label}.{column}": cells[name].get(column)
                for label, cells in by_class.items()
                for column in _COLUMNS
            },
        }
        for name in by_class[CLASS_NAMES[0]]
    ]


def _label_rows(hospital: str, labels: LabelCounts) -> list[Row]:
    """Return accuracies, then how many frames of each label were taken for which."""
    scores = labels.scores()
    rows: dict[str, Row] = {
        "accuracy": {
            "all labels": scores.get("accuracy"),
            **{name: scores.get(f"accuracy.{name}") for name in labels.names},
        },
        "balanced-accuracy": {"all labels": scores.get("balanced-accuracy")},
    }
    for guess, column in zip(
        labels.names, zip(*labels.counts, strict=True), strict=True
    ):
        rows[f"taken-for-{guess}"] = {
            "all labels": sum(column),
            **dict(zip(labels.names, column, strict=True)),
        }
    empty: Row = dict.fromkeys(["all labels", *labels.names])
    return [
        {"hospital": hospital, "score": name, **empty, **row}
        for name, row in rows.items()
    ]


def _cells_of(evaluation: Evaluation, label: str) -> dict[str, Row]:
    """Return the cells of one class, by metric and column."""
    scores = evaluation.scores(label)
    found = evaluation.classes[label]
    sums = found.sums
    cells: dict[str, Row] = {}
    for name in METRICS:
        cells[name] = {_POOLED: _known(scores.get(f"pooled.{name}"))}
        for column, device_only in ((_IMAGE, False), (_DEVICE, True)):
            tally = sums.tally(name, device_only=device_only)
            cells[name] |= {
                column: _known(tally.mean()),
                f"{column}.used": tally.count,
                f"{column}.excluded": tally.excluded,
            }
    cells["auc"] = {_POOLED: _known(scores["pooled.auc"])}
    cells["auc-uncertainty"] = {_POOLED: _known(found.histogram.uncertainty())}
    cells["frames"] = {_IMAGE: sums.frames, _DEVICE: sums.device_frames}
    cells["missed-frames"] = {_DEVICE: sums.missed}
    cells["false-alarm-frames"] = {_IMAGE: sums.false_alarms}
    for part, number in vars(sums.counts).items():
        cells[f"pixels-{part}"] = {_POOLED: number}
    return cells


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
