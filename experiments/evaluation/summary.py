"""The numbers of one model: overall, per site and per sequence, with intervals.

Three ways to average, always named: "pooled" adds pixels of all frames and divides
once, "image" takes the mean over frames, "device-image" the mean over frames with a
device, since a frame where label and prediction are empty scores 1.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.evaluation.frames import EvaluationFrames
from experiments.evaluation.intervals import (
    Estimate,
    areas_under_roc,
    draw_weights,
    estimate,
    means,
    overlap_scores,
    sum_by,
)
from experiments.evaluation.measuring import AUC, COLUMNS, Measured
from models.image_metrics import REGION_SCORES

POOLED, IMAGE, DEVICE_IMAGE, FRAMES = "pooled", "image", "device-image", "frames"
MISSED, FALSE_ALARMS = "missed", "false-alarms"
OVERALL, SITE, SEQUENCE = "overall", "site", "sequence"


@dataclass(frozen=True)
class SummaryRow:
    """One number of one model."""

    model: str
    scope: str  # OVERALL, SITE or SEQUENCE
    site: str  # "" = all
    sequence: str  # "" = all
    class_name: str
    averaging: str  # POOLED, IMAGE, DEVICE_IMAGE; FRAMES counts frames
    metric: str
    value: float  # NaN = no frame counts
    low: float  # of the 95 % interval; NaN = fewer than two patients
    high: float
    used: int  # frames that count
    excluded: int  # frames that do not, for the value is not defined there
    patients: int


@dataclass(frozen=True)
class Scope:
    """Some of the frames, and the patients that are resampled among them."""

    kind: str
    site: str
    sequence: str
    rows: NDArray[np.int64]  # numbers of frames
    units: NDArray[np.int64]  # of each row's patient, from 0
    weights: NDArray[np.int64]  # (resamples, patients)

    @property
    def num_units(self) -> int:
        """Return the number of patients."""
        return self.weights.shape[1]


def scopes_of(
    frames: EvaluationFrames, *, resamples: int, seed: int, per_sequence: bool = True
) -> list[Scope]:
    """List what numbers are given for; every model has to share the scopes.

    Args:
        frames: That were measured.
        resamples: Of the patients.
        seed: Of the resamples; no scope's depend on another's.
        per_sequence: Also list single sequences, without resamples.

    Returns:
        All frames, each site if there are several, each sequence.
    """
    sites, patients = frames.site_numbers, frames.patient_numbers
    chosen = [(OVERALL, "", "", np.arange(len(frames)))]
    if len(frames.sites) > 1:
        chosen += [
            (SITE, site.name, "", np.flatnonzero(sites == number))
            for number, site in enumerate(frames.sites)
        ]
    if per_sequence:
        sequences, names = frames.sequence_numbers, frames.fact("sequence")
        for number in np.unique(sequences):
            rows = np.flatnonzero(sequences == number)
            site = frames.sites[sites[rows[0]]].name
            chosen.append((SEQUENCE, site, names[rows[0]], rows))
    return [_scope(*one, patients, resamples=resamples, seed=seed) for one in chosen]


def summarise(
    model: str, measured: Measured, frames: EvaluationFrames, scopes: Sequence[Scope]
) -> list[SummaryRow]:
    """Compute all numbers of a model.

    Args:
        model: What the rows call it.
        measured: What it scored.
        frames: On which.
        scopes: Of `scopes_of`.

    Returns:
        A row for every scope, class, averaging and metric.
    """
    rows = []
    for scope in scopes:
        for column, class_name in enumerate(frames.classes):
            mine = frames.known[scope.rows, column]
            if not mine.any():
                continue
            place = (model, scope.kind, scope.site, scope.sequence, class_name)
            patients = len(np.unique(scope.units[mine]))
            for part in _parts(measured, frames, scope, column, mine):
                rows += [
                    SummaryRow(*place, part.averaging, *entry, patients)
                    for entry in part.entries()
                ]
    return rows


@dataclass(frozen=True)
class _Part:
    """All metrics of one averaging."""

    averaging: str
    metrics: Sequence[str]
    estimate: Estimate
    used: Sequence[int]
    excluded: Sequence[int]

    def entries(self) -> Iterator[tuple]:
        """Yield name, value, low, high, used and excluded of every metric."""
        numbers = (part.tolist() for part in self.estimate)
        yield from zip(self.metrics, *numbers, self.used, self.excluded, strict=True)


def _parts(
    measured: Measured,
    frames: EvaluationFrames,
    scope: Scope,
    column: int,
    mine: NDArray[np.bool_],
) -> Iterator[_Part]:
    rows, units = scope.rows[mine], scope.units[mine]
    has_device = measured.has_device[rows, column]
    scores = pooled_estimate(measured, frames, scope, column, mine)
    nothing = [0] * (len(REGION_SCORES) + 1)
    used = [len(rows)] * len(nothing)
    yield _Part(POOLED, (*REGION_SCORES, AUC), scores, used, nothing)
    for averaging, chosen in (
        (IMAGE, np.ones(len(rows), bool)),
        (DEVICE_IMAGE, has_device),
    ):
        values = measured.values[rows[chosen], column]
        yield _Part(
            averaging,
            COLUMNS,
            mean_estimate(values, units[chosen], scope),
            (~np.isnan(values)).sum(axis=0).tolist(),
            np.isnan(values).sum(axis=0).tolist(),
        )
    is_predicted = measured.is_predicted[rows, column]
    numbers = [int((has_device & ~is_predicted).sum())]
    numbers.append(int((~has_device & is_predicted).sum()))
    unknown = np.full(2, math.nan)
    yield _Part(
        FRAMES,
        (MISSED, FALSE_ALARMS),
        Estimate(np.array(numbers, float), unknown, unknown),
        [int(has_device.sum()), int((~has_device).sum())],
        [0, 0],
    )


def mean_estimate(
    values: NDArray[np.float64], units: NDArray[np.int64], scope: Scope
) -> Estimate:
    """Average over frames, NaN left out.

    Args:
        values: (frames, metrics).
        units: (frames,), the patient of each in the scope.
        scope: Whose patients are resampled; one without a frame here counts nothing.

    Returns:
        An estimate of every metric.
    """
    counted = ~np.isnan(values)
    pairs = np.stack([np.where(counted, values, 0.0), counted.astype(float)], axis=-1)
    return estimate(sum_by(pairs, units, scope.num_units), means, scope.weights)


def pooled_sums(
    measured: Measured,
    frames: EvaluationFrames,
    scope: Scope,
    column: int,
    mine: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Add pixel counts and histograms of every patient of a scope.

    Args:
        measured: Of a model.
        frames: That were measured.
        scope: Some of them.
        column: Of the class.
        mine: Which rows of the scope know the class.

    Returns:
        (patients, 4) and (patients, 2, bins).
    """
    rows, units = scope.rows[mine], scope.units[mine]
    counts = sum_by(measured.counts[rows, column], units, scope.num_units)
    # A sequence is of one patient, and wholly in a scope or not at all.
    sequences, at = np.unique(frames.sequence_numbers[rows], return_index=True)
    bins = sum_by(measured.histograms[sequences, column], units[at], scope.num_units)
    return counts, bins


def pooled_estimate(
    measured: Measured,
    frames: EvaluationFrames,
    scope: Scope,
    column: int,
    mine: NDArray[np.bool_],
) -> Estimate:
    """Compute the REGION_SCORES and the AUC of added pixels; see `pooled_sums`."""
    counts, bins = pooled_sums(measured, frames, scope, column, mine)
    scores = estimate(counts, overlap_scores, scope.weights)
    areas = estimate(bins, areas_under_roc, scope.weights)
    return Estimate(*(np.concatenate(both) for both in zip(scores, areas, strict=True)))


def _scope(
    kind: str,
    site: str,
    sequence: str,
    rows: NDArray[np.int64],
    patients: NDArray[np.int64],
    *,
    resamples: int,
    seed: int,
) -> Scope:
    _, units = np.unique(patients[rows], return_inverse=True)
    count = int(units.max()) + 1
    weights = draw_weights(count, resamples=resamples if count > 1 else 1, seed=seed)
    return Scope(kind, site, sequence, rows, units, weights)
