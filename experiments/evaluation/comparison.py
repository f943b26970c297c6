"""Is one model better than another on the same frames?

Every two models are compared frame by frame: the mean difference with a bootstrap
interval over patients, and the Wilcoxon signed-rank test (Wilcoxon, 1945) on each
patient's mean difference. p values are corrected after Holm (1979) within two families:
the metrics named before looking (`MAIN_METRICS`, frames with a device, all pairs and
classes), and everything else.

A model that predicts nothing has no distance to the label, and would look good by its
misses: for comparisons such a frame costs the diagonal of the image, and its breaks do
not count.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from experiments.evaluation.frames import EvaluationFrames
from experiments.evaluation.intervals import (
    areas_under_roc,
    estimate,
    overlap_scores,
    sum_by,
)
from experiments.evaluation.measuring import AUC, COLUMNS, Measured
from experiments.evaluation.paired_tests import holm, signed_rank
from experiments.evaluation.summary import (
    DEVICE_IMAGE,
    IMAGE,
    OVERALL,
    POOLED,
    Scope,
    mean_estimate,
    pooled_sums,
)
from models.distances import diagonal
from models.image_metrics import AMOUNTS, REGION_SCORES
from models.roc import NUM_BINS

MAIN_METRICS = ("dice", "cldice", "recall", "precision", "hd95-px", "pck-5px")
LOWER_IS_BETTER = frozenset({*AMOUNTS, "truncation", "tip-miss-rate"})
PENALISED = ("hd95-px", "assd-px", "ahd-px", "hd95-mm", "assd-mm", "ahd-mm")
SIGNIFICANT = 0.05
MIN_UNITS = 6
"""With fewer differences no two-sided signed-rank test can fall below 0.05."""


@dataclass(frozen=True)
class Comparison:
    """What separates two models in one number; the difference is second - first."""

    first: str
    second: str
    class_name: str
    averaging: str
    metric: str
    difference: float
    low: float
    high: float
    p: float  # NaN = not tested
    p_holm: float
    patients: int  # with a difference
    used: int  # frames
    excluded: int
    verdict: str = ""

    @property
    def is_main(self) -> bool:
        """Tell whether it was named before looking."""
        return self.averaging == DEVICE_IMAGE and self.metric in MAIN_METRICS


def compare(
    measured: Mapping[str, Measured], frames: EvaluationFrames, scope: Scope
) -> list[Comparison]:
    """Compare every two models.

    Args:
        measured: By name of the model, all on the same frames.
        frames: On which.
        scope: All frames, with resamples.

    Returns:
        A comparison for every pair, class, averaging and metric.

    Raises:
        ValueError: If models were measured on other frames than these.
    """
    if scope.kind != OVERALL or any(
        len(one.values) != len(frames) for one in measured.values()
    ):
        raise ValueError("Models can only be compared on the same frames, all of them.")
    found: list[Comparison] = []
    for pair in itertools.combinations(measured, 2):
        models = (measured[pair[0]], measured[pair[1]])
        for column in range(len(frames.classes)):
            found += _of_images(pair, models, frames, scope, column)
            found += _of_pools(pair, models, frames, scope, column)
    return [replace(one, verdict=verdict_of(one)) for one in _corrected(found)]


def verdict_of(one: Comparison) -> str:
    """Say in plain words what a comparison means.

    Args:
        one: With everything else filled in.

    Returns:
        A few words.
    """
    if math.isnan(one.difference):
        return "not comparable: no frame counts for both"
    better = one.second if _is_gain(one.metric, one.difference) else one.first
    if one.difference == 0:
        return "no difference"
    if math.isnan(one.low):
        return "one patient tells nothing"
    if one.low <= 0 <= one.high:
        return "no clear difference"
    if one.p_holm < SIGNIFICANT:
        return f"{better} is better"
    if one.averaging == POOLED:
        return f"{better} seems better (interval only)"
    if one.patients < MIN_UNITS:
        return f"{better} seems better; too few patients to be sure"
    return f"{better} seems better; not sure"


def _of_images(
    pair: tuple[str, str],
    models: tuple[Measured, Measured],
    frames: EvaluationFrames,
    scope: Scope,
    column: int,
) -> list[Comparison]:
    """Compare means over frames."""
    before, after = (_penalised(one, frames, column) for one in models)
    found = []
    for averaging in (DEVICE_IMAGE, IMAGE):
        chosen = frames.known[:, column]
        if averaging == DEVICE_IMAGE:
            chosen = chosen & models[0].has_device[:, column]
        apart, units = (after - before)[chosen], scope.units[chosen]
        means = mean_estimate(apart, units, scope)
        for number, metric in enumerate(COLUMNS):
            counted = ~np.isnan(apart[:, number])
            of_patients = _patient_means(apart[counted, number], units[counted])
            found.append(
                Comparison(
                    *pair,
                    frames.classes[column],
                    averaging,
                    metric,
                    *(float(part[number]) for part in means),
                    p=signed_rank(of_patients),
                    p_holm=math.nan,
                    patients=len(of_patients),
                    used=int(counted.sum()),
                    excluded=int((~counted).sum()),
                )
            )
    return found


def _of_pools(
    pair: tuple[str, str],
    models: tuple[Measured, Measured],
    frames: EvaluationFrames,
    scope: Scope,
    column: int,
) -> list[Comparison]:
    """Compare ratios of added pixels; they have no value per patient to test."""
    mine = frames.known[scope.rows, column]
    sums = [pooled_sums(one, frames, scope, column, mine) for one in models]
    width = np.cumsum([4, 2 * NUM_BINS, 4])
    together = np.concatenate(
        [part.reshape(len(part), -1) for both in sums for part in both], axis=1
    )

    def apart(added: NDArray[np.float64]) -> NDArray[np.float64]:
        scores = []
        parts = np.split(added, width, axis=1)
        for counts, bins in (parts[:2], parts[2:]):
            areas = areas_under_roc(bins.reshape(len(bins), 2, NUM_BINS))
            scores.append(np.concatenate([overlap_scores(counts), areas], axis=1))
        return scores[1] - scores[0]

    numbers = estimate(together, apart, scope.weights)
    return [
        Comparison(
            *pair,
            frames.classes[column],
            POOLED,
            metric,
            *(float(part[number]) for part in numbers),
            p=math.nan,
            p_holm=math.nan,
            patients=len(np.unique(scope.units[mine])),
            used=int(mine.sum()),
            excluded=0,
        )
        for number, metric in enumerate((*REGION_SCORES, AUC))
    ]


def _penalised(
    measured: Measured, frames: EvaluationFrames, column: int
) -> NDArray[np.float64]:
    """Return (frames, COLUMNS) with the cost of a miss in place of no distance."""
    values = measured.values[:, column].copy()
    wrong = measured.has_device[:, column] != measured.is_predicted[:, column]
    cost_px = np.full(len(values), diagonal((frames.side_px, frames.side_px)))
    cost_mm = cost_px * frames.fact("spacing_mm")
    for name in PENALISED:
        number = COLUMNS.index(name)
        cost = cost_mm if name.endswith("mm") else cost_px
        missing = wrong & np.isnan(values[:, number])
        values[missing, number] = cost[missing]
    values[wrong, COLUMNS.index("breaks")] = math.nan  # what is not there has none
    return values


def _patient_means(
    values: NDArray[np.float64], units: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the mean of every patient that has a value."""
    _, numbers = np.unique(units, return_inverse=True)
    count = int(numbers.max()) + 1 if len(numbers) else 0
    return sum_by(values, numbers, count) / np.bincount(numbers, minlength=count)


def _corrected(found: Sequence[Comparison]) -> list[Comparison]:
    main = np.array([one.is_main for one in found])
    p_values = np.array([one.p for one in found])
    corrected = np.full(len(found), math.nan)
    for family in (main, ~main):
        corrected[family] = holm(p_values[family])
    return [
        replace(one, p_holm=float(p)) for one, p in zip(found, corrected, strict=True)
    ]


def _is_gain(metric: str, difference: float) -> bool:
    return (difference < 0) == (metric in LOWER_IS_BETTER)
