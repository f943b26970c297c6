"""All metrics of one frame and one class in one call.

The definitions are in the modules this one imports; here they get their names, such as
"hd95-mm" and "pck-3px", under which `models/metric_sums.py` adds them over frames.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from models.breaks import count_breaks
from models.centreline import tolerance_scores
from models.distances import Spacing, average_hausdorff, boundary_distances, diagonal
from models.overlap import Mask, cldice
from models.region_metrics import PixelCounts, check_masks, count_pixels
from models.tips import PCK_THRESHOLDS_PX, compare_tips
from models.topology import betti_errors

TOLERANCES_PX = (0, 1, 2, 3, 4)
NSD_TOLERANCES_PX = (1, 2)
BREAK_TOLERANCE_PX = 2

REGION_SCORES = ("dice", "iou", "precision", "recall", "accuracy", "macro-f1")
_DISTANCES = ("hd95", "assd", "ahd")
SHARES = (  # from 0 to 1
    *REGION_SCORES,
    "cldice",
    *(f"nsd-{at}px" for at in NSD_TOLERANCES_PX),
    *(
        f"centreline-{part}-{at}px"
        for at in TOLERANCES_PX
        for part in ("precision", "recall", "f1")
    ),
    "truncation",
    "tip-miss-rate",
    *(f"pck-{at}px" for at in PCK_THRESHOLDS_PX),
)
AMOUNTS = (  # >= 0, in the unit of the name or a number
    *(f"{name}-{unit}" for unit in ("px", "mm") for name in _DISTANCES),
    "betti-0-error",
    "betti-1-error",
    "breaks",
    "tip-error-px",
    "tip-error-mm",
)
METRICS = (*SHARES, *AMOUNTS)


@dataclass(frozen=True)
class ImageMetrics:
    """What was measured in one frame, for one class."""

    counts: PixelCounts
    values: Mapping[str, float]  # one per METRICS; NaN leaves the mean of that metric
    has_device: bool  # the label is not empty
    is_predicted: bool  # the prediction is not empty


def measure_image(
    predicted: Mask,
    label: Mask,
    *,
    valid: Mask | None = None,
    spacing_mm: Spacing | None = None,
    tip: tuple[float, float] | None = None,
    penalty: Literal["diagonal"] | None = None,
) -> ImageMetrics:
    """Measure one class of one frame.

    Args:
        predicted: (height, width), bool.
        label: (height, width), bool.
        valid: (height, width), bool; False behind a collimator and in padding, where
            neither mask counts. None is valid everywhere.
        spacing_mm: Size of a pixel; None makes all metrics in mm NaN.
        tip: The annotated tip, row and column in px; None reads it off the label.
        penalty: "diagonal" puts the diagonal of the image in the place of HD95, ASSD
            and AHD when one mask is empty, for rankings; None leaves NaN.

    Returns:
        The frame's metrics.

    Raises:
        ValueError: If the masks or the spacing are not what they should be.
    """
    if penalty not in (None, "diagonal"):
        raise ValueError(f"penalty must be 'diagonal' or None, got {penalty!r}.")
    num_hidden = 0
    if valid is not None:
        check_masks(valid, label)
        predicted, label = predicted & valid, label & valid
        num_hidden = valid.size - int(valid.sum())
    counts = count_pixels(predicted, label)
    counts = replace(counts, tn=counts.tn - num_hidden)
    values = {name: getattr(counts, name.replace("-", "_"))() for name in REGION_SCORES}
    # Only tips ask where the edge of the image is: the rest looks at the devices alone.
    part, label_part = _crop(predicted, label)
    values |= _topology_values(part, label_part)
    values |= _centreline_values(part, label_part)
    missed_in = label.shape if penalty else None
    values |= _distance_values(part, label_part, spacing_mm, missed_in)
    values |= _tip_values(predicted, label, tip, spacing_mm)
    return ImageMetrics(
        counts=counts,
        values={name: float(values[name]) for name in METRICS},
        has_device=bool(label.any()),
        is_predicted=bool(predicted.any()),
    )


def _crop(predicted: Mask, label: Mask) -> tuple[Mask, Mask]:
    """Cut both masks to the box of their pixels and, inside the image, one px more."""
    either = predicted | label
    if not either.any():
        return predicted[:1, :1], label[:1, :1]
    box = []
    for axis in (1, 0):
        lines = np.flatnonzero(either.any(axis=axis))
        box.append(slice(max(lines[0] - 1, 0), lines[-1] + 2))
    return predicted[tuple(box)], label[tuple(box)]


def _topology_values(predicted: Mask, label: Mask) -> dict[str, float]:
    betti = betti_errors(predicted, label)
    breaks = count_breaks(predicted, label, tolerance_px=BREAK_TOLERANCE_PX)
    return {
        "cldice": cldice(predicted, label),
        "betti-0-error": betti.components,
        "betti-1-error": betti.holes,
        "breaks": breaks.breaks,
        "truncation": breaks.truncation,
    }


def _centreline_values(predicted: Mask, label: Mask) -> dict[str, float]:
    found = tolerance_scores(predicted, label, TOLERANCES_PX, on="skeleton")
    return {
        f"centreline-{part}-{at}px": value
        for at, scores in zip(TOLERANCES_PX, found, strict=True)
        for part, value in scores._asdict().items()
    }


def _distance_values(
    predicted: Mask,
    label: Mask,
    spacing_mm: Spacing | None,
    missed_in: tuple[int, ...] | None,
) -> dict[str, float]:
    """Measure distances; a miss costs the diagonal of the shape, if there is one."""
    values = dict.fromkeys((f"{name}-mm" for name in _DISTANCES), math.nan)
    for unit, spacing in (("px", None), ("mm", spacing_mm)):
        if unit == "mm" and spacing is None:
            continue
        found = boundary_distances(predicted, label, spacing_mm=spacing)
        ahd = average_hausdorff(predicted, label, spacing_mm=spacing)
        miss = diagonal(missed_in, spacing_mm=spacing) if missed_in else math.nan
        for name, value in (
            ("hd95", found.hd95()),
            ("assd", found.assd()),
            ("ahd", ahd),
        ):
            values[f"{name}-{unit}"] = miss if math.isnan(value) else value
        if unit == "px":
            for at in NSD_TOLERANCES_PX:
                values[f"nsd-{at}px"] = found.nsd(at)
    return values


def _tip_values(
    predicted: Mask,
    label: Mask,
    tip: tuple[float, float] | None,
    spacing_mm: Spacing | None,
) -> dict[str, float]:
    found = compare_tips(predicted, label, tip=tip, spacing_mm=spacing_mm)
    return {
        "tip-error-px": found.error_px,
        "tip-error-mm": found.error_mm,
        "tip-miss-rate": found.missed(),
        **{f"pck-{at}px": found.within(at) for at in PCK_THRESHOLDS_PX},
    }
